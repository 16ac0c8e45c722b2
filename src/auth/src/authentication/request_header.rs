//! [`FrontProxy`]: users named in headers by a proxy we trust (`X-Remote-User` and its kin).
//!
//! Source of behaviour: kubernetes/apiserver pkg/authentication/request/headerrequest.
// PERFORMANCE: per-request path

use super::trust::{Authorities, leaf, verdict_until};
use super::{AuthError, Authenticated, Authenticator, Credentials};
use compact_str::CompactString;
use fairlead_api::{Clock, Timestamp, UserInfo};
use futures_util::future::BoxFuture;
use std::sync::{Arc, LazyLock};

/// Which headers carry an identity (`--requestheader-*-headers`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
}

/// The names everybody uses, whatever this server is told.
pub static STANDARD: LazyLock<IdentityHeaders> = LazyLock::new(IdentityHeaders::default);

/// The front-proxy authenticator (`--requestheader-client-ca-file`). Headers count only beside a certificate of that CA
/// whose common name is allowed; beside any other they are ignored.
pub struct FrontProxy {
    authorities: Authorities,
    key: u64,
    /// Empty: any name.
    allowed_names: Vec<String>,
    headers: IdentityHeaders,
    clock: Arc<dyn Clock>,
}

impl Default for IdentityHeaders {
    fn default() -> IdentityHeaders {
        IdentityHeaders {
            username: vec!["X-Remote-User".into()],
            uid: vec!["X-Remote-Uid".into()],
            group: vec!["X-Remote-Group".into()],
            extra_prefix: vec!["X-Remote-Extra-".into()],
        }
    }
}

impl IdentityHeaders {
    /// Whether a header would be read as an identity, by us or by a backend that takes `_` for `-`. Such headers are
    /// removed from every request once its user is known, and never passed on.
    pub fn claims_identity(&self, name: &str) -> bool {
        let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b) || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_'));
        let begins =
            |prefix: &str| name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(a, b)| same(a, b));
        let exact = [&self.username, &self.uid, &self.group].into_iter().flatten();
        exact
            .into_iter()
            .any(|header| header.len() == name.len() && begins(header))
            || self.extra_prefix.iter().any(|prefix| begins(prefix))
    }
}

impl FrontProxy {
    pub fn new(
        authorities: Authorities,
        allowed_names: Vec<String>,
        headers: IdentityHeaders,
        clock: Arc<dyn Clock>,
    ) -> FrontProxy {
        FrontProxy {
            key: authorities.key("request-header"),
            authorities,
            allowed_names,
            headers,
            clock,
        }
    }

    /// Whether anyone with an ordinary client certificate could name any user: the CAs overlap and every name is
    /// allowed. A server must not start like this.
    pub fn trusts_clients_of(&self, client_ca: &Authorities) -> bool {
        self.allowed_names.is_empty() && self.authorities.overlaps(client_ca)
    }

    /// `Ok` when the peer is a proxy we trust. The verdict carries no user: that is in the headers.
    fn proxy(&self, c: &Credentials) -> Result<(), AuthError> {
        let now = self.clock.now();
        c.peer.verdict(self.key, now, || self.verify(c, now)).map(drop)
    }

    fn verify(&self, c: &Credentials, now: Timestamp) -> (Timestamp, Result<Option<Authenticated>, AuthError>) {
        let read = match leaf(c.peer.chain()) {
            Ok(read) => read,
            Err(error) => return (now, Err(error)),
        };
        let allowed = || {
            let name = read
                .subject()
                .iter_common_name()
                .filter_map(|n| n.as_str().ok())
                .last()
                .unwrap_or_default();
            if self.allowed_names.is_empty() || self.allowed_names.iter().any(|allowed| allowed == name) {
                return Ok(None);
            }
            Err(AuthError(format!(
                "x509: subject with cn={name} is not in the allowed list"
            )))
        };
        (
            verdict_until(&read, now),
            self.authorities.verify(c.peer.chain(), now).and_then(|()| allowed()),
        )
    }

    fn user(&self, c: &Credentials) -> Option<UserInfo> {
        let first = |names: &[String]| {
            names
                .iter()
                .filter_map(|n| c.headers.values(n).first().copied())
                .find(|v| !v.is_empty())
                .map(CompactString::from)
        };
        let mut user = UserInfo {
            name: first(&self.headers.username)?,
            ..UserInfo::default()
        };
        user.uid = first(&self.headers.uid).unwrap_or_default();
        for name in &self.headers.group {
            user.groups.extend(
                c.headers
                    .values(name)
                    .into_iter()
                    .filter(|g| !g.is_empty())
                    .map(CompactString::from),
            );
        }
        for prefix in &self.headers.extra_prefix {
            for (key, value) in c.headers.with_prefix(&prefix.to_ascii_lowercase()) {
                user.extra
                    .entry(unescape(&key.to_ascii_lowercase()))
                    .or_default()
                    .push(value.to_owned());
            }
        }
        Some(user)
    }
}

impl Authenticator for FrontProxy {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        let verdict = if c.peer.is_empty() {
            Ok(None)
        } else {
            self.proxy(c)
                .map(|()| self.user(c).map(|user| Authenticated::new(user, "request-header")))
        };
        Box::pin(std::future::ready(verdict))
    }
}

/// Undoes percent-encoding; a key that is wrongly encoded stays as it is.
pub(crate) fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let hex = tail
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(decoded) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) else {
            return key.to_owned();
        };
        bytes.push(decoded);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::Headers;
    use crate::authentication::peer::PeerCertificates;
    use crate::authentication::x509::tests::{NOW, ca, client, clock};
    use futures_util::FutureExt;

    struct Given(Vec<(&'static str, &'static str)>);

    impl Headers for Given {
        fn values(&self, name: &str) -> Vec<&str> {
            self.0
                .iter()
                .filter(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| *v)
                .collect()
        }

        fn with_prefix(&self, prefix: &str) -> Vec<(&str, &str)> {
            self.0
                .iter()
                .filter_map(|(n, v)| Some((n.strip_prefix(prefix)?, *v)))
                .collect()
        }
    }

    fn ask(proxy: &FrontProxy, peer: &PeerCertificates) -> Result<Option<Authenticated>, AuthError> {
        let headers = Given(vec![
            ("x-remote-user", "ann"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-acme.com%2fteam", "a"),
        ]);
        proxy
            .authenticate(&Credentials {
                headers: &headers,
                ..Credentials::none(peer)
            })
            .now_or_never()
            .unwrap()
    }

    /// NCC F9W: only the proxy's own certificate makes the headers count.
    #[test]
    fn ordinary_certificates_cannot_name_users() {
        let (front, clients) = (ca("front"), ca("clients"));
        let authorities = Authorities::from_pem(front.pem().as_bytes()).unwrap();
        let proxy = FrontProxy::new(
            authorities,
            vec!["proxy".into()],
            IdentityHeaders::default(),
            clock(NOW),
        );
        let ann = ask(&proxy, &client(&front, "proxy", "x")).unwrap().unwrap();
        assert_eq!(ann.user.groups, ["dev", "ops"]);
        assert_eq!(ann.user.extra["acme.com/team"], ["a"]);
        assert!(ask(&proxy, &client(&clients, "proxy", "x")).is_err());
        assert!(ask(&proxy, &client(&front, "other", "x")).is_err());
        assert!(ask(&proxy, &PeerCertificates::default()).unwrap().is_none());
    }

    /// NCC F9W: one CA for both, and no list of names, is refused.
    #[test]
    fn shared_authorities_are_noticed() {
        let (front, clients) = (ca("front"), ca("clients"));
        let both = Authorities::from_pem(format!("{}{}", front.pem(), clients.pem()).as_bytes()).unwrap();
        let clients = Authorities::from_pem(clients.pem().as_bytes()).unwrap();
        let front = Authorities::from_pem(front.pem().as_bytes()).unwrap();
        let proxy =
            |ca: &Authorities, names| FrontProxy::new(ca.clone(), names, IdentityHeaders::default(), clock(NOW));
        assert!(proxy(&both, Vec::new()).trusts_clients_of(&clients));
        assert!(!proxy(&both, vec!["proxy".into()]).trusts_clients_of(&clients));
        assert!(!proxy(&front, Vec::new()).trusts_clients_of(&clients));
    }

    /// NCC YVU, HFV: every spelling of an identity header is one.
    #[test]
    fn identity_headers_are_recognised_in_every_spelling() {
        let headers = IdentityHeaders::default();
        for name in [
            "X-Remote-User",
            "x-remote-user",
            "X_Remote_User",
            "x-remote_GROUP",
            "X-Remote-Extra-Scopes",
            "x_remote_extra_a",
        ] {
            assert!(headers.claims_identity(name), "{name}");
        }
        for name in ["X-Remote-Users", "X-Remote", "X-Real-Ip", ""] {
            assert!(!headers.claims_identity(name), "{name}");
        }
        assert_eq!(unescape("a%2fb%zz"), "a%2fb%zz");
    }
}
