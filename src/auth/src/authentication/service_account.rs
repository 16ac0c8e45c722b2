//! [`ServiceAccountTokens`]: verifies the tokens we issued, and that what they stand for still exists.
//!
//! Source of behaviour: kubernetes pkg/serviceaccount (jwt.go, claims.go, legacy.go).
// PERFORMANCE: per-request path

use super::keys::PublicKey;
use super::{ALL_SERVICE_ACCOUNTS, AuthError, Authenticated, Authenticator, CREDENTIAL_ID, Credentials};
use crate::authorization::rule::quoted_list;
use crate::objects::{ObjectSource, find};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claims::{Bound, Claims, Private};
use compact_str::format_compact;
use fairlead_api::field::go_quote;
use fairlead_api::{Clock, Node, Timestamp, UserInfo, name};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

mod claims;
pub mod issuer;
mod legacy;

/// What a service account's user name begins with.
pub const USER_PREFIX: &str = "system:serviceaccount:";
/// What the group of a namespace's service accounts begins with.
pub const GROUP_PREFIX: &str = "system:serviceaccounts:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// Clocks may differ by this much.
const LEEWAY_SECONDS: i64 = 60;
/// How many verified signatures are remembered.
const REMEMBERED: usize = 8192;

/// The service account token authenticator, for tokens of the TokenRequest API and of Secrets.
pub struct ServiceAccountTokens {
    pub config: Config,
    source: Arc<dyn ObjectSource>,
    clock: Arc<dyn Clock>,
    /// Claims of tokens whose signature was verified, by the token's digest. What they stand for is looked up each time.
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

/// Takes namespace, name and day.
pub type LegacyTokenUsed = Arc<dyn Fn(&str, &str, &str) + Send + Sync>;

/// What tokens must be like. Changing keys means making a new authenticator.
#[derive(Clone, Default)]
pub struct Config {
    /// `--service-account-issuer`; tokens of others are not ours.
    pub issuers: Vec<String>,
    /// `--api-audiences`: who this server is.
    pub audiences: Vec<String>,
    pub keys: Vec<PublicKey>,
    /// Told when a Secret's token was used: namespace, name and day (`2006-01-02`), at most once a day and Secret,
    /// to be kept in the label `kubernetes.io/legacy-token-last-used`.
    pub legacy_token_used: Option<LegacyTokenUsed>,
}

/// `system:serviceaccount:<namespace>:<name>`
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("{USER_PREFIX}{namespace}:{name}")
}

/// Namespace and name of a service account's user name.
pub fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, account) = user.strip_prefix(USER_PREFIX)?.split_once(':')?;
    let valid =
        name::name_is_dns_label(namespace, false).is_empty() && name::name_is_dns_subdomain(account, false).is_empty();
    valid.then_some((namespace, account))
}

/// The user of a service account, without what a token adds.
pub fn user_info(namespace: &str, name: &str, uid: &str) -> UserInfo {
    UserInfo {
        name: user_name(namespace, name).into(),
        uid: uid.into(),
        groups: vec![
            ALL_SERVICE_ACCOUNTS.into(),
            format_compact!("{GROUP_PREFIX}{namespace}"),
        ],
        ..UserInfo::default()
    }
}

impl ServiceAccountTokens {
    pub fn new(config: Config, source: Arc<dyn ObjectSource>, clock: Arc<dyn Clock>) -> ServiceAccountTokens {
        ServiceAccountTokens {
            config,
            source,
            clock,
            verified: Mutex::default(),
        }
    }

    async fn check(&self, token: &str, asked: &[String]) -> Result<Option<Authenticated>, AuthError> {
        let Some(claims) = self.signed(token)? else {
            return Ok(None);
        };
        let mut authenticated = match &claims.private {
            Private::Bound(bound) => {
                let audiences = self.audiences(&claims, asked)?;
                let mut found = self.check_bound(&claims, bound).await?;
                found.audiences = audiences;
                found
            }
            Private::Legacy(secret) => {
                let audiences = self.audiences(&claims, asked)?;
                let mut found = legacy::check(self, token, &claims, secret).await?;
                found.audiences = audiences;
                found
            }
        };
        if claims.audiences.is_empty() {
            authenticated
                .audit
                .push(("authentication.k8s.io/legacy-token", claims.subject.clone()));
        }
        Ok(Some(authenticated))
    }

    /// The claims of a token of ours with a good signature; `None` for tokens of others.
    fn signed(&self, token: &str) -> Result<Option<Arc<Claims>>, AuthError> {
        let key: [u8; 32] = digest(&SHA256, token.as_bytes())
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes");
        if let Some(claims) = self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(Arc::clone(claims)));
        }
        let Some(claims) = self.verify(token)?.map(Arc::new) else {
            return Ok(None);
        };
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(key, Arc::clone(&claims));
        Ok(Some(claims))
    }

    fn verify(&self, token: &str) -> Result<Option<Claims>, AuthError> {
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let parsed = |part: &str| fairlead_api::json::parse(&decoded(part)?).ok();
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Ok(None);
        };
        let Some(payload_node) = parsed(payload) else {
            return Ok(None);
        };
        let issuer = payload_node.str("iss");
        let legacy = issuer == legacy::ISSUER;
        if !legacy && !self.config.issuers.iter().any(|ours| ours == issuer) {
            return Ok(None);
        }
        let (Some(header_node), Some(signature)) = (parsed(header), decoded(signature)) else {
            return Ok(None);
        };
        let kid = header_node.str("kid");
        let keys: Vec<&PublicKey> = self
            .config
            .keys
            .iter()
            .filter(|k| kid.is_empty() || k.id == kid)
            .collect();
        if keys.is_empty() {
            return Err(AuthError::new("invalid signature, no keys found"));
        }
        // The algorithm is the key's; a token that names another has no good signature.
        let message = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let good =
            |key: &&PublicKey| header_node.str("alg") == key.algorithm.as_str() && key.verifies(message, &signature);
        if !keys.iter().any(good) {
            return Err(AuthError::new("square/go-jose: error in cryptographic primitive"));
        }
        Claims::from_node(&payload_node, legacy).map(Some)
    }

    /// The audiences that are both the token's and asked for.
    fn audiences(&self, claims: &Claims, asked: &[String]) -> Result<Vec<String>, AuthError> {
        let ours = &self.config.audiences;
        // Tokens of Secrets name no audience: they are for us.
        let of_token = if claims.audiences.is_empty() {
            ours
        } else {
            &claims.audiences
        };
        let asked = if asked.is_empty() { ours.as_slice() } else { asked };
        let common: Vec<String> = of_token.iter().filter(|a| asked.contains(a)).cloned().collect();
        if common.is_empty() && !ours.is_empty() {
            let (have, want) = (quoted_list(of_token), quoted_list(asked));
            return Err(AuthError(format!(
                "token audiences {have} is invalid for the target audiences {want}"
            )));
        }
        Ok(common)
    }

    async fn check_bound(&self, claims: &Claims, bound: &Bound) -> Result<Authenticated, AuthError> {
        let now = self.clock.now().unix_seconds();
        claims.check_times(now, LEEWAY_SECONDS)?;
        let namespace = bound.namespace.as_str();
        let account = self.account(namespace, &bound.account.name).await?;
        if account.uid() != bound.account.uid {
            return Err(AuthError(format!(
                "service account UID ({}) does not match claim ({})",
                account.uid(),
                bound.account.uid
            )));
        }
        if deleted_before(&account, now - LEEWAY_SECONDS) {
            return Err(AuthError(format!(
                "service account {namespace}/{} has been deleted",
                bound.account.name
            )));
        }
        let mut user = user_info(namespace, &bound.account.name, &bound.account.uid);
        let mut extra = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(key.to_owned(), vec![value.to_owned()]);
            }
        };
        if let Some(secret) = &bound.secret {
            self.still_there("secrets", "secret", namespace, secret, now).await?;
        }
        if let Some(pod) = &bound.pod {
            self.still_there("pods", "pod", namespace, pod, now).await?;
            if !pod.name.is_empty() && !pod.uid.is_empty() {
                extra(POD_NAME, &pod.name);
                extra(POD_UID, &pod.uid);
            }
        }
        if let Some(node) = &bound.node {
            // Beside a pod the node is a note about where it runs.
            if bound.pod.is_none() {
                self.still_there("nodes", "node", "", node, now).await?;
            }
            if !node.name.is_empty() {
                extra(NODE_NAME, &node.name);
                extra(NODE_UID, &node.uid);
            }
        }
        if !claims.id.is_empty() {
            extra(CREDENTIAL_ID, &format!("JTI={}", claims.id));
        }
        let mut authenticated = Authenticated::new(user, "service-account");
        if bound.warn_after != 0 && now > bound.warn_after {
            let late = now - bound.warn_after;
            let text = format!("subject: {}, seconds after warning threshold: {late}", claims.subject);
            authenticated.audit.push(("authentication.k8s.io/stale-token", text));
        }
        Ok(authenticated)
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Arc<Node>, AuthError> {
        let found = find(self.source.as_ref(), "", "serviceaccounts", namespace, name).await;
        found.ok_or_else(|| AuthError(format!("serviceaccounts {} not found", go_quote(name))))
    }

    async fn still_there(
        &self,
        plural: &str,
        word: &str,
        namespace: &str,
        wanted: &claims::Reference,
        now: i64,
    ) -> Result<(), AuthError> {
        let gone = || AuthError::new("service account token has been invalidated");
        let object = find(self.source.as_ref(), "", plural, namespace, &wanted.name)
            .await
            .ok_or_else(gone)?;
        if object.uid() != wanted.uid {
            let label = if word == "secret" {
                "secret UID".to_owned()
            } else {
                format!("{word} UID")
            };
            return Err(AuthError(format!(
                "{label} ({}) does not match service account {word} ref claim ({})",
                object.uid(),
                wanted.uid
            )));
        }
        if deleted_before(&object, now - LEEWAY_SECONDS) {
            Err(gone())
        } else {
            Ok(())
        }
    }
}

impl Authenticator for ServiceAccountTokens {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        Box::pin(async move {
            match c.bearer {
                Some(token) => self.check(token, c.audiences).await,
                None => Ok(None),
            }
        })
    }

    fn knows_audiences(&self) -> bool {
        true
    }
}

fn deleted_before(object: &Node, second: i64) -> bool {
    object
        .deletion_timestamp()
        .and_then(Timestamp::parse)
        .is_some_and(|at| at.unix_seconds() < second)
}

#[cfg(test)]
mod tests;
