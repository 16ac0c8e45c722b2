//! SubjectAccessReview, SelfSubjectAccessReview, LocalSubjectAccessReview.
//!
//! Source of behaviour: kubernetes pkg/registry/authorization, pkg/apis/authorization/validation.

use super::AUTHORIZATION;
use super::attributes::{Asked, check_selectors};
use crate::authorization::{Authorizer, Decision};
use fairlead_api::field::{FieldError, FieldErrors, FieldPath};
use fairlead_api::gvk::GroupKind;
use fairlead_api::{Map, Node, Status, StatusResult, UserInfo, node};
use std::sync::Arc;

/// May somebody do something?
pub async fn subject_access_review(review: Node, authorizer: &dyn Authorizer) -> Node {
    let user = subject(spec(&review));
    answer(review, &user, authorizer).await
}

/// May I do something?
pub async fn self_subject_access_review(review: Node, user: &Arc<UserInfo>, authorizer: &dyn Authorizer) -> Node {
    answer(review, user, authorizer).await
}

/// # Errors
/// What is wrong with a SubjectAccessReview.
pub fn check_subject_access_review(review: &Node) -> StatusResult<()> {
    let mut errors = check_spec(review, Subject::Named);
    errors.extend(check_metadata(review, &[], "must be empty"));
    refuse(&errors)
}

/// # Errors
/// What is wrong with a SelfSubjectAccessReview.
pub fn check_self_subject_access_review(review: &Node) -> StatusResult<()> {
    let mut errors = check_spec(review, Subject::Requestor);
    errors.extend(check_metadata(review, &[], "must be empty"));
    refuse(&errors)
}

/// # Errors
/// What is wrong with a LocalSubjectAccessReview in a namespace.
pub fn check_local_subject_access_review(review: &Node, namespace: &str) -> StatusResult<()> {
    let mut errors = check_spec(review, Subject::Named);
    errors.extend(check_metadata(
        review,
        &["namespace"],
        "must be empty except for namespace",
    ));
    if let Some(resource) = resource_attributes(review) {
        let asked = resource.str("namespace");
        if asked != review.namespace() {
            let path = FieldPath::new("spec.resourceAttributes.namespace");
            errors.push(FieldError::invalid(&path, asked, "must match metadata.namespace"));
        }
    }
    if let Some(other) = non_resource_attributes(review) {
        let path = FieldPath::new("spec.nonResourceAttributes");
        errors.push(FieldError::invalid(
            &path,
            shown(other),
            "disallowed on this kind of request",
        ));
    }
    refuse(&errors)?;
    if namespace.is_empty() {
        return Err(Status::bad_request(format!(
            "namespace is required on this type: {namespace}"
        )));
    }
    if namespace != review.namespace() {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    Ok(())
}

/// Whom a review is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Named,
    Requestor,
}

fn spec(review: &Node) -> &Node {
    review.get("spec").unwrap_or(&Node::Null)
}

fn resource_attributes(review: &Node) -> Option<&Node> {
    spec(review).get("resourceAttributes").filter(|a| !a.is_null())
}

fn non_resource_attributes(review: &Node) -> Option<&Node> {
    spec(review).get("nonResourceAttributes").filter(|a| !a.is_null())
}

fn subject(spec: &Node) -> Arc<UserInfo> {
    let words = |list: &[Node]| {
        list.iter()
            .filter_map(Node::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let extra = spec.get("extra").and_then(Node::as_map).into_iter().flat_map(Map::iter);
    Arc::new(UserInfo {
        name: spec.str("user").into(),
        uid: spec.str("uid").into(),
        groups: spec
            .list("groups")
            .iter()
            .filter_map(Node::as_str)
            .map(Into::into)
            .collect(),
        extra: extra
            .map(|(k, v)| (k.to_string(), words(v.as_list().map_or(&[], Vec::as_slice))))
            .collect(),
    })
}

async fn answer(mut review: Node, user: &Arc<UserInfo>, authorizer: &dyn Authorizer) -> Node {
    let asked = match resource_attributes(&review) {
        Some(attributes) => Asked::about_resource(user, attributes),
        None => Asked::about_path(user, non_resource_attributes(&review).unwrap_or(&Node::Null)),
    };
    let (decision, reason) = authorizer.authorize(&asked.attributes).await;
    let mut status = node!({"allowed": decision == Decision::Allow});
    if decision == Decision::Deny {
        status.set("denied", true);
    }
    for (key, text) in [("reason", reason), ("evaluationError", asked.errors.join("; "))] {
        if !text.is_empty() {
            status.set(key, text);
        }
    }
    review.set("status", status);
    review
}

fn check_spec(review: &Node, subject: Subject) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::new("spec");
    let (resource, other) = (resource_attributes(review), non_resource_attributes(review));
    match (resource, other) {
        (Some(_), Some(other)) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            shown(other),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            Node::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let spec = spec(review);
    if subject == Subject::Named && spec.str("user").is_empty() && spec.list("groups").is_empty() {
        errors.push(FieldError::invalid(
            &path.child("user"),
            "",
            "at least one of user or group must be specified",
        ));
    }
    if let Some(resource) = resource {
        check_selectors(resource, &path.child("resourceAttributes"), &mut errors);
    }
    errors
}

/// NonResourceAttributes as Go's internal type prints.
fn shown(attributes: &Node) -> Node {
    node!({"Path": attributes.str("path"), "Verb": attributes.str("verb")})
}

/// Metadata has to be empty, but for managed fields and what `but` names.
fn check_metadata(review: &Node, but: &[&str], detail: &str) -> Option<FieldError> {
    let metadata = review.get("metadata").and_then(Node::as_map)?;
    let counts = |key: &str, value: &Node| !value.is_zero() && key != "managedFields" && !but.contains(&key);
    metadata.iter().any(|(key, value)| counts(key, value)).then(|| {
        let mut error = FieldError::invalid(&FieldPath::new("metadata"), Node::Map(metadata.clone()), detail);
        error.shown = Some(in_struct_order(metadata));
        error
    })
}

/// ObjectMeta as Go writes it: in the order of its fields, empty ones left out.
fn in_struct_order(metadata: &Map) -> String {
    const FIELDS: [&str; 15] = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ];
    const OWNER: [&str; 6] = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    const MANAGED: [&str; 7] = [
        "manager",
        "operation",
        "apiVersion",
        "time",
        "fieldsType",
        "fieldsV1",
        "subresource",
    ];
    let of = |map: &Map, fields: &[&str], inner: &dyn Fn(&str, &Node) -> String| {
        let members = fields
            .iter()
            .filter_map(|f| Some((f, map.get(f).filter(|v| !v.is_zero())?)));
        let members: Vec<String> = members.map(|(f, v)| format!("\"{f}\":{}", inner(f, v))).collect();
        format!("{{{}}}", members.join(","))
    };
    let plain = |_: &str, value: &Node| fairlead_api::json::to_string(value);
    of(metadata, &FIELDS, &|field, value| {
        let order: &[&str] = match field {
            "ownerReferences" => &OWNER,
            "managedFields" => &MANAGED,
            _ => return plain(field, value),
        };
        let items = value
            .as_list()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(Node::as_map);
        let items: Vec<String> = items.map(|item| of(item, order, &plain)).collect();
        format!("[{}]", items.join(","))
    })
}

/// COMPAT: the kind is not known any more where upstream makes this error, and is empty in it.
fn refuse(errors: &FieldErrors) -> StatusResult<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(&GroupKind::new(AUTHORIZATION, ""), "", errors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::union::{AlwaysAllow, AlwaysDeny};
    use futures_util::FutureExt;

    fn review(body: Node) -> StatusResult<Node> {
        check_subject_access_review(&body)?;
        let answered = subject_access_review(body, &AlwaysAllow).now_or_never();
        Ok(answered.expect("nothing waits"))
    }

    #[test]
    fn answers_keep_the_question() {
        let asked = node!({"kind": "SubjectAccessReview", "metadata": {"managedFields": [{"manager": "m"}]},
            "spec": {"user": "u", "resourceAttributes": {"resource": "pods", "verb": "get"}}});
        let mut answered = review(asked.clone()).unwrap();
        assert_eq!(answered.remove("status"), Some(node!({"allowed": true})));
        assert_eq!(answered, asked);
        let denied = subject_access_review(asked, &AlwaysDeny).now_or_never().unwrap();
        assert_eq!(
            denied.get("status"),
            Some(&node!({"allowed": false, "reason": "Everything is forbidden."}))
        );
    }

    #[test]
    fn questions_are_checked_as_upstream() {
        let error = |body: Node| review(body).unwrap_err().message().to_owned();
        assert_eq!(
            error(node!({"spec": {}})),
            ".authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of \
             nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \"\": at least one of \
             user or group must be specified]"
        );
        assert_eq!(
            error(
                node!({"metadata": {"name": "x", "managedFields": [{"operation": "Update", "manager": "m"}]},
                "spec": {"user": "u", "nonResourceAttributes": {"path": "/", "verb": "get"}}})
            ),
            ".authorization.k8s.io \"\" is invalid: metadata: Invalid value: \
             {\"name\":\"x\",\"managedFields\":[{\"manager\":\"m\",\"operation\":\"Update\"}]}: must be empty"
        );
        let both = node!({"spec": {"user": "u", "resourceAttributes": {"fieldSelector": {}},
            "nonResourceAttributes": {"path": "/", "verb": "get"}}});
        assert!(
            error(both).contains(r#"Invalid value: {"Path":"/","Verb":"get"}: cannot be specified in combination"#)
        );
    }

    #[test]
    fn local_reviews_stay_in_their_namespace() {
        let ask = |body: Node, namespace: &str| check_local_subject_access_review(&body, namespace);
        let body = |namespace: &str, inner: &str| {
            node!({"metadata": {"namespace": namespace},
                "spec": {"user": "u", "resourceAttributes": {"namespace": inner, "verb": "get", "resource": "pods"}}})
        };
        assert!(ask(body("a", "a"), "a").is_ok());
        assert!(
            ask(body("a", "b"), "a")
                .unwrap_err()
                .message()
                .contains("must match metadata.namespace")
        );
        assert_eq!(ask(body("a", "a"), "b").unwrap_err().code(), 400);
    }
}
