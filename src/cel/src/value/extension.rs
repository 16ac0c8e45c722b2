//! Values of Kubernetes' own types: URLs, addresses, quantities, versions, formats.

use crate::library::authz::Authz;
use crate::library::format::Format;
use crate::types::Type;
use fairlead_api::quantity::Quantity;
use fairlead_api::url::GoUrl;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Clone, Debug)]
pub enum Extension {
    Url(Box<GoUrl>),
    Ip(IpAddr),
    /// The address as written, and how many bits of it name the network.
    Cidr(IpAddr, u8),
    Quantity(Quantity),
    Semver(Semver),
    Format(&'static Format),
    Authz(Authz),
}

/// A semantic version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pub pre: Vec<String>,
    pub build: Vec<String>,
}

impl Extension {
    pub fn type_of(&self) -> Type {
        let object = |name: &str| Type::object(name, BTreeMap::new());
        match self {
            Extension::Url(_) => object("kubernetes.URL"),
            Extension::Ip(_) => Type::opaque("net.IP"),
            Extension::Cidr(..) => Type::opaque("net.CIDR"),
            Extension::Quantity(_) => object("kubernetes.Quantity"),
            Extension::Semver(_) => object("kubernetes.Semver"),
            Extension::Format(_) => object("kubernetes.NamedFormat"),
            Extension::Authz(of) => object(of.type_name()),
        }
    }

    /// What a cost is measured by: addresses are as long as their bytes.
    pub fn cost_size(&self) -> u64 {
        match self {
            Extension::Ip(IpAddr::V4(_)) | Extension::Cidr(IpAddr::V4(_), _) => 4,
            Extension::Ip(IpAddr::V6(_)) | Extension::Cidr(IpAddr::V6(_), _) => 16,
            _ => 1,
        }
    }

    pub fn equals(&self, other: &Extension) -> bool {
        match (self, other) {
            (Extension::Url(a), Extension::Url(b)) => a.to_string() == b.to_string(),
            (Extension::Ip(a), Extension::Ip(b)) => a == b,
            (Extension::Cidr(a, n), Extension::Cidr(b, m)) => a == b && n == m,
            (Extension::Quantity(a), Extension::Quantity(b)) => a.cmp(b).is_eq(),
            (Extension::Semver(a), Extension::Semver(b)) => a.compare(b).is_eq(),
            (Extension::Format(a), Extension::Format(b)) => a.name == b.name,
            _ => false,
        }
    }
}

impl Semver {
    /// Reads a version strictly: three numbers without leading zeros, then parts.
    pub fn parse(text: &str) -> Option<Semver> {
        let (rest, build) = text.split_once('+').map_or((text, None), |(r, b)| (r, Some(b)));
        let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(n, p)| (n, Some(p)));
        let mut parts = numbers.splitn(3, '.');
        let mut number = || -> Option<u64> {
            let digits = parts.next()?;
            let fits = !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit())
                && (digits == "0" || !digits.starts_with('0'));
            if fits { digits.parse().ok() } else { None }
        };
        let (major, minor, patch) = (number()?, number()?, number()?);
        let identifiers = |text: Option<&str>, numbers_are_plain: bool| -> Option<Vec<String>> {
            let Some(text) = text else { return Some(Vec::new()) };
            text.split('.')
                .map(|id| {
                    let fits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                    let numeric = id.bytes().all(|b| b.is_ascii_digit());
                    let leading_zero = numbers_are_plain && numeric && id.len() > 1 && id.starts_with('0');
                    (fits && !leading_zero).then(|| id.to_owned())
                })
                .collect()
        };
        Some(Semver {
            major,
            minor,
            patch,
            pre: identifiers(pre, true)?,
            build: identifiers(build, false)?,
        })
    }

    /// What is close to a version, as one: a `v` in front goes, missing numbers are zero, leading zeros go.
    pub fn parse_tolerant(text: &str) -> Option<Semver> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text
            .splitn(3, '.')
            .map(|part| match part.trim_start_matches('0') {
                _ if part.len() < 2 => part.to_owned(),
                trimmed if trimmed.starts_with(|c: char| c.is_ascii_digit()) => trimmed.to_owned(),
                trimmed => format!("0{trimmed}"),
            })
            .collect();
        // What has parts behind its numbers must have all three already.
        if parts.len() < 3 && parts.last().is_some_and(|p| p.contains(['+', '-'])) {
            return None;
        }
        parts.resize(3, "0".to_owned());
        Semver::parse(&parts.join("."))
    }

    pub fn compare(&self, other: &Semver) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => pre_releases(&self.pre, &other.pre),
            })
    }
}

fn pre_releases(a: &[String], b: &[String]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let ordering = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_the_book() {
        let ordered = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.2.0",
        ];
        for pair in ordered.windows(2) {
            let (a, b) = (Semver::parse(pair[0]).unwrap(), Semver::parse(pair[1]).unwrap());
            assert!(a.compare(&b).is_lt(), "{pair:?}");
        }
        for bad in ["1.2", "01.2.3", "1.2.3-", "v1.2.3", "1.2.3-01", "1.2.3+"] {
            assert!(Semver::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(Semver::parse_tolerant("v01.2"), Semver::parse("1.2.0"));
        assert_eq!(Semver::parse_tolerant("1.2-rc"), None);
    }
}
