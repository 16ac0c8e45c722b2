//! TokenReview and SelfSubjectReview: who is that, and who am I?
//!
//! Source of behaviour: kubernetes pkg/registry/authentication.

use crate::authentication::peer::PeerCertificates;
use crate::authentication::{Authenticator, Credentials};
use fairlead_api::{Map, Node, Status, StatusResult, Timestamp, UserInfo, node};

/// # Errors
/// BadRequest for a TokenReview without a token.
pub fn check_token_review(review: &Node) -> StatusResult<()> {
    match review.str_at(&["spec", "token"]) {
        "" => Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        )),
        _ => Ok(()),
    }
}

/// Asks the server's authenticators about a token; `audiences` are the server's own.
pub async fn token_review(
    mut review: Node,
    authenticator: &dyn Authenticator,
    audiences: &[String],
) -> StatusResult<Node> {
    let token = review.str_at(&["spec", "token"]).to_owned();
    let spec = review.get("spec").unwrap_or(&Node::Null);
    let asked: Vec<String> = spec
        .list("audiences")
        .iter()
        .filter_map(Node::as_str)
        .map(str::to_owned)
        .collect();
    let asked = if asked.is_empty() { audiences } else { &asked };
    let peer = PeerCertificates::default();
    let credentials = Credentials {
        bearer: Some(&token),
        audiences: asked,
        ..Credentials::none(&peer)
    };
    let status = match authenticator.authenticate(&credentials).await {
        Ok(Some(found)) => {
            if !asked.is_empty() && !asked.iter().any(|a| found.audiences.contains(a)) {
                return Err(Status::internal("error validating audiences"));
            }
            let mut status = node!({"authenticated": true});
            status.set("user", user_node(&found.user));
            if !found.audiences.is_empty() {
                status.set("audiences", node!(found.audiences));
            }
            status
        }
        Ok(None) => node!({"user": {}}),
        Err(error) => node!({"user": {}, "error": error.0}),
    };
    review.set("status", status);
    Ok(review)
}

/// `kubectl auth whoami`
pub fn self_subject_review(user: &UserInfo, now: Timestamp) -> Node {
    let mut answer = node!({
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": now.rfc3339()},
    });
    answer.set_at(&["status", "userInfo"], user_node(user));
    answer
}

/// `authentication.k8s.io UserInfo`, empty fields left out.
fn user_node(user: &UserInfo) -> Node {
    let mut node = Node::map();
    for (key, value) in [("username", &user.name), ("uid", &user.uid)] {
        if !value.is_empty() {
            node.set(key, value.as_str());
        }
    }
    if !user.groups.is_empty() {
        node.set(
            "groups",
            user.groups.iter().map(|g| Node::String(g.clone())).collect::<Vec<_>>(),
        );
    }
    if !user.extra.is_empty() {
        let values = |v: &Vec<String>| Node::List(v.iter().map(|v| Node::from(v.as_str())).collect());
        node.set(
            "extra",
            user.extra.iter().map(|(k, v)| (k.as_str(), values(v))).collect::<Map>(),
        );
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::token_file::TokenFile;
    use crate::authentication::union::Union;
    use futures_util::FutureExt;
    use std::sync::Arc;

    fn ask(spec: Node) -> StatusResult<Node> {
        let union = Union {
            authenticators: vec![Arc::new(TokenFile::parse("t,ann,1,g").unwrap())],
            audiences: vec!["us".into()],
            anonymous: None,
        };
        let mut review = Node::map();
        review.set("spec", spec);
        let answer = token_review(review, &union, &["us".into()]).now_or_never().unwrap();
        answer.map(|mut answer| answer.remove("status").unwrap())
    }

    #[test]
    fn tokens_are_looked_up_for_an_audience() {
        assert_eq!(
            ask(node!({"token": "t"})).unwrap(),
            node!({"authenticated": true, "audiences": ["us"],
                "user": {"username": "ann", "uid": "1", "groups": ["g", "system:authenticated"]}})
        );
        assert_eq!(
            ask(node!({"token": "x"})).unwrap(),
            node!({"user": {}, "error": "invalid bearer token"})
        );
        assert_eq!(
            ask(node!({"token": "t", "audiences": ["other"]})).unwrap(),
            node!({"user": {}, "error": "invalid bearer token"})
        );
        assert_eq!(check_token_review(&node!({})).unwrap_err().code(), 400);
    }
}
