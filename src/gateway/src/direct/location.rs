//! [`Location`]: where a request goes, and whether it may.

use crate::connect::ConnectError;
use crate::resolve::{AddressPolicy, Target};
use http::uri::PathAndQuery;
use rustls_pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A URL in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    pub https: bool,
    /// A name or an address.
    pub host: String,
    /// As it was given; empty for the scheme's own.
    pub port: String,
    /// Where the host has been looked up and found to be proxyable: only these addresses are dialed.
    pub checked: Vec<IpAddr>,
    /// Encoded; empty for the root.
    pub path: String,
    /// Without the question mark.
    pub query: Option<String>,
}

/// Whether requests of users may be passed on to an address: not to this machine, its links, or to many at once.
///
/// CVE-2020-8562: ask this for the very address that is dialed.
pub fn is_proxyable(address: IpAddr, policy: &AddressPolicy) -> bool {
    policy.check(SocketAddr::new(address, 0)).is_ok()
}

impl Location {
    /// Host and port, as in a URL.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match self.port.as_str() {
            "" => host,
            port => format!("{host}:{port}"),
        }
    }

    /// As Go writes it.
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let query = self.query.as_deref().map_or(String::new(), |q| format!("?{q}"));
        format!("{scheme}://{}{}{query}", self.authority(), self.path)
    }

    pub(super) fn path_and_query(&self) -> PathAndQuery {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        let parsed = match self.query.as_deref().filter(|query| !query.is_empty()) {
            Some(query) => format!("{path}?{query}").parse(),
            None => path.parse(),
        };
        parsed.unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }

    /// Whose certificate is expected. COMPAT: a name that is none is sent to nobody; where it matters it is not matched either.
    pub(super) fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.host.clone()).unwrap_or_else(|_| IpAddr::from(Ipv4Addr::UNSPECIFIED).into())
    }

    pub(super) fn targets(&self) -> Result<Vec<Target>, ConnectError> {
        let port = match self.port.as_str() {
            "" if self.https => 443,
            "" => 80,
            port => port
                .parse()
                .map_err(|_| ConnectError::plain(format!("dial tcp: address {port}: invalid port")))?,
        };
        if self.checked.is_empty() {
            return Ok(vec![Target::new(&self.host, port)]);
        }
        let targets = self
            .checked
            .iter()
            .map(|ip| Target::Address(SocketAddr::new(*ip, port)));
        Ok(targets.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_gos() {
        let mut location = Location {
            https: true,
            host: "fd00::1".into(),
            port: "10250".into(),
            path: "/containerLogs/n/p/c".into(),
            query: Some("follow=true".into()),
            ..Location::default()
        };
        assert_eq!(
            location.url(),
            "https://[fd00::1]:10250/containerLogs/n/p/c?follow=true"
        );
        location.port = "99999".into();
        assert_eq!(
            location.targets().unwrap_err().text,
            "dial tcp: address 99999: invalid port"
        );
    }

    #[test]
    fn cve_2020_8562_only_addresses_of_others_are_proxyable() {
        let policy = AddressPolicy::default();
        for (address, expected) in [
            ("10.0.0.1", true),
            ("192.0.2.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(is_proxyable(address.parse().unwrap(), &policy), expected, "{address}");
        }
    }
}
