//! [`Issuer`]: makes the tokens of the TokenRequest API and of Secrets.

use crate::authentication::keys::{KeyError, SigningKey};
use fairlead_api::{Node, node};

/// A pod's token of exactly this lifetime is one the kubelet asked for by default: it lives longer and warns instead.
pub const WARN_ONLY_SECONDS: i64 = 3607;

/// Who signs, and within which limits.
pub struct Issuer {
    pub key: SigningKey,
    /// The first `--service-account-issuer`.
    pub issuer: String,
    /// `--api-audiences`, what tokens are for unless a request says otherwise.
    pub audiences: Vec<String>,
    /// `--service-account-max-token-expiration`; 0 for none.
    pub max_expiration_seconds: i64,
    /// `--service-account-extend-token-expiration`
    pub extend_expiration: bool,
    /// How long extended tokens live.
    pub extended_seconds: i64,
}

/// What a token is to say. References are `(name, uid)`.
pub struct Grant<'a> {
    pub account: &'a Node,
    pub pod: Option<&'a Node>,
    pub secret: Option<&'a Node>,
    /// `(name, uid)`; the uid is empty for a node that is not there.
    pub node: Option<(&'a str, &'a str)>,
    pub audiences: &'a [String],
    /// Unix seconds.
    pub now: i64,
    pub expiration_seconds: i64,
    /// 0 for no warning.
    pub warn_after_seconds: i64,
    /// A UUID, new for each token: its credential id.
    pub id: &'a str,
}

impl Issuer {
    /// One year, to which extended tokens live unless a maximum is shorter.
    pub const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;

    pub fn new(key: SigningKey, issuer: impl Into<String>, audiences: Vec<String>) -> Issuer {
        Issuer {
            key,
            issuer: issuer.into(),
            audiences,
            max_expiration_seconds: 0,
            extend_expiration: true,
            extended_seconds: Issuer::EXTENDED_SECONDS,
        }
    }

    /// A token of the TokenRequest API.
    pub fn token(&self, grant: &Grant) -> Result<String, KeyError> {
        self.key.sign(&self.claims(grant))
    }

    /// The token a Secret of a service account gets.
    pub fn secret_token(&self, account: &Node, secret: &str) -> Result<String, KeyError> {
        self.key.sign(&super::legacy::claims(account, secret))
    }

    fn claims(&self, grant: &Grant) -> Node {
        let account = grant.account;
        let reference = |object: &Node| node!({"name": object.name(), "uid": object.uid()});
        let mut private = node!({"namespace": account.namespace()});
        private.set("serviceaccount", reference(account));
        for (key, object) in [("pod", grant.pod), ("secret", grant.secret)] {
            if let Some(object) = object {
                private.set(key, reference(object));
            }
        }
        if let Some((name, uid)) = grant.node {
            private.set(
                "node",
                if uid.is_empty() {
                    node!({"name": name})
                } else {
                    node!({"name": name, "uid": uid})
                },
            );
        }
        if grant.warn_after_seconds != 0 {
            private.set("warnafter", grant.now + grant.warn_after_seconds);
        }
        let mut claims = node!({
            "aud": grant.audiences,
            "exp": grant.now.saturating_add(grant.expiration_seconds),
            "iat": grant.now,
            "iss": self.issuer,
            "jti": grant.id,
            "nbf": grant.now,
            "sub": super::user_name(account.namespace(), account.name()),
        });
        claims.set("kubernetes.io", private);
        claims
    }
}
