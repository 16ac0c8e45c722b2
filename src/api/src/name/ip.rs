//! Addresses and CIDRs as text: parsed as Go's `net` does, checked as strictly as 1.36 does by default.
//!
//! Source of the rules and wording: kubernetes/apimachinery pkg/util/validation/ip.go.

use super::Complaints;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address range as written: the address may have bits beyond the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// IPv4-mapped addresses are IPv4 here, as in Go.
    pub address: IpAddr,
    /// Of the written family: 120 for `::ffff:10.0.0.0/120`.
    pub prefix: u8,
}

/// Reads an address, also one whose decimal parts have leading zeros; IPv4-mapped addresses become IPv4.
pub fn parse_sloppy(text: &str) -> Option<IpAddr> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => without_leading_zeros(text)?.parse().ok()?,
    };
    Some(unmapped(address))
}

/// Reads `address/prefix` with the same tolerance.
pub fn parse_cidr_sloppy(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = prefix.trim_start_matches('0');
    let prefix: u8 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let bits = if address.contains(':') { 128 } else { 32 };
    let address = parse_sloppy(address)?;
    (prefix <= bits).then_some(Cidr { address, prefix })
}

/// An address in canonical form: the rule for fields that never accepted anything else.
pub fn is_valid_ip(text: &str) -> Complaints {
    let complaints = is_valid_ip_for_legacy_field(text);
    match parse_sloppy(text).map(|ip| ip.to_string()) {
        Some(canonical) if complaints.is_empty() && canonical != text => vec![canonical_form(&canonical)],
        _ => complaints,
    }
}

/// The rule for old fields: no leading zeros and nothing IPv4-mapped, but any spelling of IPv6.
/// Upstream skips it for values that an update does not change.
pub fn is_valid_ip_for_legacy_field(text: &str) -> Complaints {
    if parse_sloppy(text).is_none() {
        return vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()];
    }
    match text.parse::<IpAddr>() {
        Err(_) => vec!["must not have leading 0s".into()],
        Ok(ip) if unmapped(ip) != ip => vec!["must not be an IPv4-mapped IPv6 address".into()],
        Ok(_) => Vec::new(),
    }
}

pub fn is_valid_cidr(text: &str) -> Complaints {
    let complaints = is_valid_cidr_for_legacy_field(text);
    match parse_cidr_sloppy(text).map(|c| c.network().to_string()) {
        Some(canonical) if complaints.is_empty() && canonical != text => vec![canonical_form(&canonical)],
        _ => complaints,
    }
}

pub fn is_valid_cidr_for_legacy_field(text: &str) -> Complaints {
    let Some(cidr) = parse_cidr_sloppy(text) else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()];
    };
    let (address, prefix) = text.split_once('/').expect("it was parsed as a CIDR");
    let complaint = match address.parse::<IpAddr>() {
        Err(_) => "must not have leading 0s in IP or prefix length",
        Ok(_) if prefix.len() > 1 && prefix.starts_with('0') => "must not have leading 0s in IP or prefix length",
        Ok(ip) if unmapped(ip) != ip => "must not have an IPv4-mapped IPv6 address",
        Ok(ip) if cidr.network().address != ip => "must not have bits set beyond the prefix length",
        Ok(_) => return Vec::new(),
    };
    vec![complaint.into()]
}

/// An address with the length of its network (a network interface's address).
pub fn is_valid_interface_address(text: &str) -> Complaints {
    let Some(cidr) = parse_cidr_sloppy(text) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()];
    };
    let canonical = cidr.unmapped().to_string();
    if canonical == text {
        Vec::new()
    } else {
        vec![canonical_form(&canonical)]
    }
}

/// What to warn about in an accepted address, without the field's path.
pub fn ip_warning(text: &str) -> Option<String> {
    let ip = parse_sloppy(text)?;
    match text.parse::<IpAddr>() {
        Ok(strict) if strict == ip => (strict.is_ipv6() && strict.to_string() != text).then(|| {
            format!(
                "IPv6 address {text:?} should be in RFC 5952 canonical format ({:?})",
                strict.to_string()
            )
        }),
        _ => Some(format!(
            "non-standard IP address {text:?} is invalid: use {:?}",
            ip.to_string()
        )),
    }
}

/// What to warn about in an accepted CIDR, without the field's path.
pub fn cidr_warnings(text: &str) -> Vec<String> {
    let Some(cidr) = parse_cidr_sloppy(text) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    let network = cidr.network();
    if network.address != cidr.address {
        let whole = if cidr.address.is_ipv4() { 32 } else { 128 };
        warnings.push(format!(
            "CIDR value {text:?} is ambiguous in this context (should be {:?} or {:?}?)",
            network.to_string(),
            format!("{}/{whole}", cidr.address)
        ));
    }
    let (address, prefix) = text.split_once('/').expect("it was parsed as a CIDR");
    let strict = address
        .parse::<IpAddr>()
        .ok()
        .filter(|ip| unmapped(*ip) == *ip && !(prefix.len() > 1 && prefix.starts_with('0')));
    match strict {
        None => warnings.push(format!(
            "non-standard CIDR value {text:?} is invalid: use {:?}",
            network.to_string()
        )),
        Some(ip) if warnings.is_empty() && ip.is_ipv6() && format!("{ip}/{prefix}") != text => {
            warnings.push(format!(
                "IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({:?})",
                format!("{ip}/{prefix}")
            ));
        }
        Some(_) => {}
    }
    warnings
}

impl Cidr {
    /// The range's first address, with the length of the family it has after unmapping.
    pub fn network(self) -> Cidr {
        let Cidr { address, prefix } = self.unmapped();
        let address = match address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
        };
        Cidr { address, prefix }
    }

    /// Whether `ip` lies in the range.
    pub fn contains(self, ip: IpAddr) -> bool {
        let network = self.network();
        unmapped(ip).is_ipv4() == network.address.is_ipv4()
            && Cidr {
                address: unmapped(ip),
                prefix: network.prefix,
            }
            .network()
                == network
    }

    fn unmapped(self) -> Cidr {
        match self.address {
            IpAddr::V4(_) if self.prefix > 32 => Cidr {
                prefix: self.prefix.saturating_sub(96).min(32),
                ..self
            },
            _ => self,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn canonical_form(canonical: &str) -> String {
    format!("must be in canonical form ({canonical:?})")
}

fn unmapped(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// `010.0.0.01` and `::ffff:010.0.0.1` without the zeros; `None` when there is no dotted part.
fn without_leading_zeros(text: &str) -> Option<String> {
    let at = text.rfind(':').map_or(0, |i| i + 1);
    let (head, dotted) = text.split_at(at);
    if dotted.split('.').count() != 4 {
        return None;
    }
    let parts: Vec<&str> = dotted
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            rest => rest,
        })
        .collect();
    Some(format!("{head}{}", parts.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictness_follows_1_36() {
        for (text, complaint) in [
            ("10.0.0.1", ""),
            ("2001:db8::1", ""),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("2001:DB8::1", "must be in canonical form (\"2001:db8::1\")"),
            ("x", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            (
                "fe80::1%eth0",
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            ("", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ] {
            assert_eq!(is_valid_ip(text).join(";"), complaint, "{text}");
        }
        for (text, complaint) in [
            ("10.0.0.0/8", ""),
            ("::/0", ""),
            ("0.0.0.0/0", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            (
                "10.0.0.0/33",
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                "10.0.0.0",
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            ("::ffff:10.0.0.0/120", "must not have an IPv4-mapped IPv6 address"),
            ("2001:0db8::/32", "must be in canonical form (\"2001:db8::/32\")"),
        ] {
            assert_eq!(is_valid_cidr(text).join(";"), complaint, "{text}");
        }
    }

    #[test]
    fn warnings_name_the_better_spelling() {
        assert_eq!(
            ip_warning("010.0.0.1").unwrap(),
            r#"non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1""#
        );
        assert_eq!(
            cidr_warnings("10.0.0.1/8"),
            [r#"CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)"#]
        );
        assert!(
            parse_cidr_sloppy("10.0.0.0/8")
                .unwrap()
                .contains("10.2.3.4".parse().unwrap())
        );
    }
}
