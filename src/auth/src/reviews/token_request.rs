//! TokenRequest (`serviceaccounts/<name>/token`): a token for a service account, bound to an object if asked.
//!
//! Source of behaviour: kubernetes pkg/registry/core/serviceaccount/storage/token.go.

use super::AUTHENTICATION;
use crate::authentication::service_account::issuer::{Grant, Issuer, WARN_ONLY_SECONDS};
use crate::objects::{ObjectSource, find};
use fairlead_api::field::{FieldError, FieldPath, go_quote};
use fairlead_api::gvk::{GroupKind, GroupResource, GroupVersion};
use fairlead_api::{Node, Status, StatusResult, Timestamp, node};
use std::sync::Arc;

const MINIMUM_SECONDS: i64 = 600;
const MAXIMUM_SECONDS: i64 = 1 << 32;
/// How long a token lives where the request does not say.
pub const DEFAULT_TOKEN_SECONDS: i64 = 3600;

/// One request for a token.
pub struct TokenRequest<'a> {
    /// The service account of the path.
    pub namespace: &'a str,
    pub name: &'a str,
    /// The `TokenRequest` of the body.
    pub object: Node,
    pub now: Timestamp,
    /// A new UUID, which becomes the credential id.
    pub id: &'a str,
}

/// The answered object, and what goes beside it.
#[derive(Debug, PartialEq)]
pub struct TokenRequestAnswer {
    pub object: Node,
    pub warnings: Vec<String>,
    pub audit: Vec<(String, String)>,
}

/// What precedes validating admission: whether the request is one for this account, and what it leaves to the server.
///
/// # Errors
/// NotFound, Conflict for the uid of another account, Invalid.
pub async fn check_token_request(
    request: &mut TokenRequest<'_>,
    source: &dyn ObjectSource,
    issuer: &Issuer,
) -> StatusResult<()> {
    check_metadata(request)?;
    let account = get(source, "serviceaccounts", request.namespace, request.name).await?;
    let uid = request.object.uid();
    if !uid.is_empty() && uid != account.uid() {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            account.uid()
        );
        return Err(Status::conflict(
            &GroupResource::new(AUTHENTICATION, "TokenRequest"),
            request.name,
            why,
        ));
    }
    complete(request, &account, issuer);
    check_expiration(&request.object)
}

/// The answer to what [`check_token_request`] let through.
///
/// # Errors
/// NotFound and Conflict for what the token is to be bound to, Internal where it cannot be signed.
pub async fn token_request(
    mut request: TokenRequest<'_>,
    source: &dyn ObjectSource,
    issuer: &Issuer,
) -> StatusResult<TokenRequestAnswer> {
    let account = get(source, "serviceaccounts", request.namespace, request.name).await?;
    let mut seconds = expiration(&request.object);
    let bound = bind(&request, source).await?;
    let mut warnings = Vec::new();
    if issuer.max_expiration_seconds > 0 && seconds > issuer.max_expiration_seconds {
        let limit = issuer.max_expiration_seconds;
        warnings.push(format!(
            "requested expiration of {seconds} seconds shortened to {limit} seconds"
        ));
        seconds = limit;
        request.object.set_at(&["spec", "expirationSeconds"], seconds);
    }
    let audiences: Vec<String> = request
        .object
        .get("spec")
        .map_or(&[][..], |s| s.list("audiences"))
        .iter()
        .filter_map(Node::as_str)
        .map(str::to_owned)
        .collect();
    let ours = audiences.iter().all(|a| issuer.audiences.contains(a));
    let extend = issuer.extend_expiration && bound.pod.is_some() && seconds == WARN_ONLY_SECONDS && ours;
    let grant = Grant {
        account: &account,
        pod: bound.pod.as_deref(),
        secret: bound.secret.as_deref(),
        node: bound.node.as_ref().map(|(name, uid)| (name.as_str(), uid.as_str())),
        audiences: &audiences,
        now: request.now.unix_seconds(),
        expiration_seconds: if extend { issuer.extended_seconds } else { seconds },
        warn_after_seconds: if extend { seconds } else { 0 },
        id: request.id,
    };
    let token = issuer
        .token(&grant)
        .map_err(|e| Status::internal(format!("failed to generate token: {e}")))?;
    let expires = Timestamp::from_unix_seconds(request.now.unix_seconds().saturating_add(seconds)).rfc3339();
    request
        .object
        .set("status", node!({"token": token, "expirationTimestamp": expires}));
    let audit = vec![(
        "authentication.kubernetes.io/issued-credential-id".into(),
        format!("JTI={}", request.id),
    )];
    Ok(TokenRequestAnswer {
        object: request.object,
        warnings,
        audit,
    })
}

fn kind() -> GroupKind {
    GroupKind::new(AUTHENTICATION, "TokenRequest")
}

/// Name and namespace in the body are those of the path, if they are there.
fn check_metadata(request: &TokenRequest) -> StatusResult<()> {
    let metadata = FieldPath::new("metadata");
    for (field, given, expected) in [
        ("name", request.object.name(), request.name),
        ("namespace", request.object.namespace(), request.namespace),
    ] {
        if !given.is_empty() && given != expected {
            let detail = format!("must match the service account {field} if specified");
            let error = FieldError::invalid(&metadata.child(field), given, detail);
            return Err(Status::invalid(&kind(), request.name, &vec![error]));
        }
    }
    Ok(())
}

/// Fills in what the request leaves to the server.
fn complete(request: &mut TokenRequest, account: &Node, issuer: &Issuer) {
    let created = request.now.rfc3339();
    let metadata = request.object.meta_mut();
    for (key, value) in [
        ("name", account.name()),
        ("namespace", account.namespace()),
        ("uid", account.uid()),
    ] {
        if metadata.get(key).is_none_or(Node::is_zero) {
            metadata.insert(key, Node::from(value));
        }
    }
    metadata.insert("creationTimestamp", Node::from(created));
    request
        .object
        .set("status", node!({"token": "", "expirationTimestamp": null}));
    let spec = request.object.make_at(&["spec"]).make_map();
    if spec.get("audiences").is_none_or(Node::is_zero) {
        spec.insert("audiences", node!(issuer.audiences));
    }
    if spec.get("expirationSeconds").is_none_or(Node::is_null) {
        spec.insert("expirationSeconds", Node::Int(DEFAULT_TOKEN_SECONDS));
    }
    spec.slot("boundObjectRef");
}

fn expiration(object: &Node) -> i64 {
    let seconds = object.at(&["spec", "expirationSeconds"]);
    seconds.and_then(Node::as_i64).unwrap_or(0)
}

fn check_expiration(object: &Node) -> StatusResult<()> {
    let seconds = expiration(object);
    let detail = if seconds < MINIMUM_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MAXIMUM_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid(&FieldPath::new("spec.expirationSeconds"), seconds, detail);
    Err(Status::invalid(&kind(), "", &vec![error]))
}

/// What a token is bound to.
#[derive(Default)]
struct Bound {
    pod: Option<Arc<Node>>,
    secret: Option<Arc<Node>>,
    /// Name and uid.
    node: Option<(String, String)>,
}

async fn bind(request: &TokenRequest<'_>, source: &dyn ObjectSource) -> StatusResult<Bound> {
    let mut bound = Bound::default();
    let Some(reference) = request.object.at(&["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else {
        return Ok(bound);
    };
    let kind = GroupVersion::parse(reference.str("apiVersion"))
        .unwrap_or_default()
        .kind(reference.str("kind"));
    let name = reference.str("name");
    let object = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => get(source, "pods", request.namespace, name).await?,
        ("", "Node") => get(source, "nodes", "", name).await?,
        ("", "Secret") => get(source, "secrets", request.namespace, name).await?,
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {kind}"
            )));
        }
    };
    let uid = object.uid().to_owned();
    match kind.kind.as_str() {
        "Pod" => {
            if object.str_at(&["spec", "serviceAccountName"]) != request.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                    go_quote(request.name)
                )));
            }
            let node = object.str_at(&["spec", "nodeName"]);
            if !node.is_empty() {
                // The name is a hint to whoever reads the token, also where the node is gone.
                let found = find(source, "", "nodes", "", node).await;
                bound.node = Some((node.to_owned(), found.map_or_else(String::new, |n| n.uid().to_owned())));
            }
            bound.pod = Some(object);
        }
        "Node" => bound.node = Some((name.to_owned(), uid.clone())),
        _ => bound.secret = Some(object),
    }
    let wanted = reference.str("uid");
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Status::conflict(
            &GroupResource::new(&kind.group, &kind.kind),
            name,
            why,
        ));
    }
    Ok(bound)
}

async fn get(source: &dyn ObjectSource, plural: &str, namespace: &str, name: &str) -> StatusResult<Arc<Node>> {
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let found = find(source, "", plural, namespace, name).await;
    found.ok_or_else(|| Status::not_found(&GroupResource::new("", plural), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::keys::SigningKey;
    use crate::objects::MemoryObjects;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use futures_util::FutureExt;

    fn ask(spec: Node) -> StatusResult<(Node, Node)> {
        let objects = MemoryObjects::new();
        objects.put(
            "",
            "serviceaccounts",
            node!({"metadata": {"name": "sa", "namespace": "ns", "uid": "u1"}}),
        );
        objects.put(
            "",
            "pods",
            node!({"metadata": {"name": "p", "namespace": "ns", "uid": "u2"},
            "spec": {"serviceAccountName": "sa", "nodeName": "n"}}),
        );
        objects.put(
            "",
            "pods",
            node!({"metadata": {"name": "q", "namespace": "ns"}, "spec": {"serviceAccountName": "x"}}),
        );
        let mut issuer = Issuer::new(
            SigningKey::generate_ecdsa().unwrap().0,
            "https://us",
            vec!["https://us".into()],
        );
        issuer.max_expiration_seconds = 100_000;
        let mut object = node!({"kind": "TokenRequest"});
        object.set("spec", spec);
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let mut request = TokenRequest {
            namespace: "ns",
            name: "sa",
            object,
            now,
            id: "j",
        };
        check_token_request(&mut request, &objects, &issuer)
            .now_or_never()
            .expect("nothing waits")?;
        let answer = token_request(request, &objects, &issuer)
            .now_or_never()
            .expect("nothing waits")?;
        let token = answer.object.str_at(&["status", "token"]);
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        Ok((answer.object.clone(), fairlead_api::json::parse(&claims).unwrap()))
    }

    #[test]
    fn a_request_is_completed_and_answered() {
        let (object, claims) =
            ask(node!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}})).unwrap();
        assert_eq!(object.uid(), "u1");
        assert_eq!(object.at(&["spec", "expirationSeconds"]), Some(&Node::Int(3600)));
        assert_eq!(
            object.str_at(&["status", "expirationTimestamp"]),
            "2027-01-15T09:00:00Z"
        );
        assert_eq!(
            claims.get("kubernetes.io"),
            Some(
                &node!({"namespace": "ns", "node": {"name": "n"}, "pod": {"name": "p", "uid": "u2"},
                "serviceaccount": {"name": "sa", "uid": "u1"}})
            )
        );
        assert_eq!(claims.get("exp"), Some(&Node::Int(1_800_003_600)));
        let (object, _) = ask(node!({"expirationSeconds": 200_000})).unwrap();
        assert_eq!(object.at(&["spec", "expirationSeconds"]), Some(&Node::Int(100_000)));
        assert_eq!(object.at(&["spec", "boundObjectRef"]), Some(&Node::Null));
    }

    #[test]
    fn the_kubelets_default_lives_longer_and_warns() {
        let bound =
            node!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}, "expirationSeconds": 3607});
        let (_, claims) = ask(bound).unwrap();
        assert_eq!(
            claims.at(&["kubernetes.io", "warnafter"]),
            Some(&Node::Int(1_800_003_607))
        );
        assert_eq!(
            claims.get("exp"),
            Some(&Node::Int(1_800_000_000 + Issuer::EXTENDED_SECONDS))
        );
        let (_, claims) = ask(node!({"expirationSeconds": 3607})).unwrap();
        assert_eq!(claims.get("exp"), Some(&Node::Int(1_800_003_607)));
    }

    #[test]
    fn refusals_read_as_upstream() {
        let refused = |spec: Node| ask(spec).map(drop).unwrap_err().message().to_owned();
        let bound =
            |kind: &str, name: &str| node!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}});
        for (spec, message) in [
            (
                node!({"expirationSeconds": 0}),
                r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 0: may not specify a duration less than 10 minutes"#,
            ),
            (bound("Pod", ""), "Name parameter required."),
            (bound("Secret", "x"), r#"secrets "x" not found"#),
            (bound("Foo", "x"), "cannot bind token to object of type /v1, Kind=Foo"),
            (
                bound("Pod", "q"),
                r#"cannot bind token for serviceaccount "sa" to pod running with different serviceaccount name."#,
            ),
            (
                node!({"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "z"}}),
                r#"Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (z) does not match the UID in record. The object might have been deleted and then recreated"#,
            ),
        ] {
            assert_eq!(refused(spec), message);
        }
    }
}
