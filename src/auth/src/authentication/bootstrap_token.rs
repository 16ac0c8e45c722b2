//! [`BootstrapTokens`]: `id.secret` tokens kept as Secrets in `kube-system`, with which nodes join.
//!
//! Source of behaviour: kubernetes plugin/pkg/auth/authenticator/token/bootstrap, cluster-bootstrap token/util.

use super::{AuthError, Authenticated, Authenticator, Credentials};
use crate::objects::ObjectSource;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use compact_str::CompactString;
use fairlead_api::{Clock, Node, Timestamp, UserInfo};
use futures_util::future::BoxFuture;
use std::sync::Arc;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// The bootstrap token authenticator (`--enable-bootstrap-token-auth`).
pub struct BootstrapTokens {
    source: Arc<dyn ObjectSource>,
    clock: Arc<dyn Clock>,
}

impl BootstrapTokens {
    pub fn new(source: Arc<dyn ObjectSource>, clock: Arc<dyn Clock>) -> BootstrapTokens {
        BootstrapTokens { source, clock }
    }

    fn find(&self, token: &str) -> Option<Authenticated> {
        let (id, secret) = split(token)?;
        let stored = self
            .source
            .get("", "secrets", "kube-system", &format!("bootstrap-token-{id}"))?;
        let valid = stored.deletion_timestamp().is_none()
            && stored.str("type") == TYPE
            && verify_slices_are_equal(data(&stored, "token-secret").as_bytes(), secret.as_bytes()).is_ok()
            && data(&stored, "token-id") == id
            && !self.expired(&stored)
            && data(&stored, "usage-bootstrap-authentication") == "true";
        if !valid {
            tracing::info!(secret = stored.name(), "bootstrap token refused");
            return None;
        }
        let user = UserInfo {
            name: format!("system:bootstrap:{id}").into(),
            groups: groups(&data(&stored, "auth-extra-groups"))?,
            ..UserInfo::default()
        };
        Some(Authenticated::new(user, "bootstrap-token"))
    }

    /// An unreadable expiry counts as past.
    fn expired(&self, secret: &Node) -> bool {
        let expiration = data(secret, "expiration");
        !expiration.is_empty() && Timestamp::parse(&expiration).is_none_or(|at| self.clock.now() > at)
    }
}

impl Authenticator for BootstrapTokens {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        Box::pin(std::future::ready(Ok(c.bearer.and_then(|token| self.find(token)))))
    }
}

/// Six and sixteen lower-case letters or digits, with a dot between.
fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// One value of a Secret, as text; empty where there is none.
fn data(secret: &Node, key: &str) -> String {
    let decoded = STANDARD.decode(secret.str_at(&["data", key])).unwrap_or_default();
    String::from_utf8(decoded).unwrap_or_default()
}

/// The groups of the token; `None` where a group is not a bootstrap group.
fn groups(extra: &str) -> Option<Vec<CompactString>> {
    let mut groups = vec![CompactString::from(GROUP)];
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        let name = group.strip_prefix("system:bootstrappers:")?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = (1..=256).contains(&name.len())
            && name.bytes().all(|b| plain(b) || matches!(b, b':' | b'-'))
            && name.bytes().last().is_some_and(plain);
        groups.push(valid.then(|| group.into())?);
    }
    groups.sort();
    groups.dedup();
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::MemoryObjects;
    use fairlead_api::node;
    use fairlead_api::time::FixedClock;

    fn tokens(change: (&str, &str)) -> BootstrapTokens {
        let mut secret =
            node!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}, "type": TYPE});
        for (key, value) in [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2030-01-01T00:00:00Z"),
            ("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a"),
            change,
        ] {
            secret.set_at(&["data", key], STANDARD.encode(value));
        }
        let objects = MemoryObjects::new();
        objects.put("", "secrets", secret);
        let clock = FixedClock(Timestamp::parse("2029-12-31T00:00:00Z").unwrap());
        BootstrapTokens::new(Arc::new(objects), Arc::new(clock))
    }

    #[test]
    fn only_whole_unexpired_tokens_count() {
        let found = tokens(("x", "y")).find("abcdef.0123456789abcdef").unwrap();
        assert_eq!(found.user.name, "system:bootstrap:abcdef");
        assert_eq!(
            found.user.groups,
            [GROUP, "system:bootstrappers:a", "system:bootstrappers:b"]
        );
        for token in [
            "abcdef.0123456789abcdeg",
            "abcdef.0123456789abcde",
            "abcdeF.0123456789abcdef",
            "abcdef",
        ] {
            assert!(tokens(("x", "y")).find(token).is_none(), "{token}");
        }
        for change in [
            ("expiration", "2029-01-01T00:00:00Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-authentication", "yes"),
            ("auth-extra-groups", "system:masters"),
            ("token-id", "abcdeg"),
        ] {
            assert!(tokens(change).find("abcdef.0123456789abcdef").is_none(), "{change:?}");
        }
    }
}
