//! Behind a core ([`crate::core_backend`]) it is the core that knows users and roles: tokens this server does not know are
//! reviewed there, and what is this server's own is allowed to whom the core's RBAC allows it.
// PERFORMANCE: per-request path

use fairlead_api::{Node, UserInfo, node};
use fairlead_auth::authorization::ResolvedRules;
use fairlead_auth::{AuthError, Authenticated, Authenticator, Authorizer, AuthzAttributes, Credentials, Decision};
use fairlead_discovery::{Route, Router};
use fairlead_gateway::core::{CORE, Core, CoreError};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Tokens, reviewed by the core.
pub struct CoreTokens {
    core: Core,
    known: Kept<[u8; 32], Option<Arc<UserInfo>>>,
}

/// Decisions of the core, for what it does not decide itself when the request reaches it.
pub struct CoreAuthorizer {
    core: Core,
    /// Made later: the routes need the server that needs this.
    router: Arc<OnceLock<Router>>,
    known: Kept<String, (Decision, String)>,
}

/// How long an answer of the core is believed. Upstream's webhooks keep them for minutes; a revoked right should not last.
const KEPT: Duration = Duration::from_secs(10);
const MAX_KEPT: usize = 10_000;

impl CoreTokens {
    pub fn new(core: Core) -> CoreTokens {
        CoreTokens {
            core,
            known: Kept::default(),
        }
    }

    async fn review(&self, token: &str) -> Result<Option<Arc<UserInfo>>, CoreError> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.known.get(&key) {
            return Ok(known);
        }
        let review = node!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": token},
        });
        let answer = self
            .core
            .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
            .await?;
        let is_known = answer.at(&["status", "authenticated"]).and_then(Node::as_bool) == Some(true);
        let user = answer
            .at(&["status", "user"])
            .filter(|_| is_known)
            .map(|user| Arc::new(read_user(user)));
        self.known.put(key, user.clone());
        Ok(user)
    }
}

impl Authenticator for CoreTokens {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        Box::pin(async move {
            let Some(token) = c.bearer else { return Ok(None) };
            match self.review(token).await {
                Ok(user) => Ok(user.map(|user| Authenticated::new(UserInfo::clone(&user), "core"))),
                Err(error) => Err(AuthError(format!("the core cannot review a token: {error}"))),
            }
        })
    }
}

fn read_user(user: &Node) -> UserInfo {
    let texts = |list: &[Node]| {
        list.iter()
            .filter_map(Node::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut read = UserInfo {
        name: user.str("username").into(),
        uid: user.str("uid").into(),
        groups: texts(user.list("groups")).into_iter().map(Into::into).collect(),
        ..UserInfo::default()
    };
    if let Some(extra) = user.get("extra").and_then(Node::as_map) {
        for (key, values) in extra.iter() {
            let values = values.as_list().map_or(&[][..], Vec::as_slice);
            read.extra.insert(key.as_str().into(), texts(values));
        }
    }
    read
}

impl CoreAuthorizer {
    pub fn new(core: Core, router: Arc<OnceLock<Router>>) -> CoreAuthorizer {
        CoreAuthorizer {
            core,
            router,
            known: Kept::default(),
        }
    }

    /// Whether the request goes on to the core, which decides by itself whether the user may.
    fn is_decided_there(&self, a: &AuthzAttributes) -> bool {
        // Impersonation above all is asked about other things than the request: those are decided here and now.
        let verb = matches!(
            a.verb.as_str(),
            "" | "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection"
        );
        let Some(router) = self.router.get().filter(|_| verb && a.resource_request) else {
            return false;
        };
        let route = router.load().route(&a.group, &a.version, &a.resource);
        matches!(route, Some(Route::Remote(remote)) if remote.api_service == CORE)
    }

    async fn review(&self, a: &AuthzAttributes) -> Result<(Decision, String), CoreError> {
        let object = review(a);
        let key = fairlead_api::json::to_string(&object);
        if let Some(known) = self.known.get(&key) {
            return Ok(known);
        }
        let answer = self
            .core
            .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &object)
            .await?;
        let is = |key: &str| answer.at(&["status", key]).and_then(Node::as_bool) == Some(true);
        let decision = match (is("allowed"), is("denied")) {
            (_, true) => Decision::Deny,
            (true, false) => Decision::Allow,
            (false, false) => Decision::NoOpinion,
        };
        let decided = (decision, answer.str_at(&["status", "reason"]).to_owned());
        self.known.put(key, decided.clone());
        Ok(decided)
    }
}

impl Authorizer for CoreAuthorizer {
    fn authorize<'a>(&'a self, attributes: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        Box::pin(async move {
            if self.is_decided_there(attributes) {
                return (Decision::Allow, "decided by the core".into());
            }
            match self.review(attributes).await {
                Ok(decided) => decided,
                Err(error) => (Decision::NoOpinion, format!("the core cannot be asked: {error}")),
            }
        })
    }

    fn rules_for<'a>(&'a self, _: &'a UserInfo, _: &'a str) -> BoxFuture<'a, ResolvedRules> {
        // Rules are reviewed by the core, whose group that is.
        Box::pin(std::future::ready(ResolvedRules {
            incomplete: true,
            ..ResolvedRules::default()
        }))
    }
}

/// The SubjectAccessReview of a request.
fn review(a: &AuthzAttributes) -> Node {
    let mut object = node!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"user": a.user.name.as_str(), "uid": a.user.uid.as_str()},
    });
    let groups: Vec<Node> = a.user.groups.iter().map(|g| Node::string(g.as_str())).collect();
    object.set_at(&["spec", "groups"], groups);
    for (key, values) in &a.user.extra {
        let values: Vec<Node> = values.iter().map(|v| Node::string(v.as_str())).collect();
        object.set_at(&["spec", "extra", key.as_str()], values);
    }
    if a.resource_request {
        let attributes = node!({
            "verb": a.verb.as_str(), "namespace": a.namespace.as_str(), "group": a.group.as_str(), "version": a.version.as_str(),
            "resource": a.resource.as_str(), "subresource": a.subresource.as_str(), "name": a.name.as_str(),
        });
        object.set_at(&["spec", "resourceAttributes"], attributes);
    } else {
        let attributes = node!({"verb": a.verb.as_str(), "path": a.path.as_str()});
        object.set_at(&["spec", "nonResourceAttributes"], attributes);
    }
    object
}

/// Answers, for a short time.
struct Kept<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Kept(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = kept.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (until, _)| now < *until);
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
        }
        kept.insert(key, (now + KEPT, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_says_who_and_what() {
        let mut user = UserInfo::new("ann", &["dev"]);
        user.extra.insert("k".into(), vec!["v".into()]);
        let attributes = AuthzAttributes {
            user: Arc::new(user),
            verb: "create".into(),
            group: "g".into(),
            resource: "things".into(),
            namespace: "n".into(),
            resource_request: true,
            ..AuthzAttributes::default()
        };
        let object = review(&attributes);
        assert_eq!(object.str_at(&["spec", "user"]), "ann");
        assert_eq!(object.str_at(&["spec", "resourceAttributes", "resource"]), "things");
        assert_eq!(object.at(&["spec", "extra"]).unwrap().list("k").len(), 1);
        let other = review(&AuthzAttributes {
            path: "/metrics".into(),
            ..AuthzAttributes::default()
        });
        assert_eq!(other.str_at(&["spec", "nonResourceAttributes", "path"]), "/metrics");
        assert!(other.at(&["spec", "resourceAttributes"]).is_none());
    }
}
