//! What a refused client is told.
//!
//! Source of the wording: kubernetes/apiserver pkg/endpoints/handlers/responsewriters/errors.go.

use super::AuthzAttributes;
use fairlead_api::Status;
use fairlead_api::field::go_quote;
use fairlead_api::gvk::GroupResource;

/// The 403 for what was not allowed, with the authorizers' reason if they gave one.
/// The listener sends it with `X-Content-Type-Options: nosniff`.
pub fn forbidden(attributes: &AuthzAttributes, reason: &str) -> Status {
    let mut message = sanitized(&message(attributes));
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    let resource = GroupResource::new(&attributes.group, &attributes.resource);
    Status::forbidden(&resource, &attributes.name, message)
}

fn message(a: &AuthzAttributes) -> String {
    let user = go_quote(&a.user.name);
    if !a.resource_request {
        return format!("User {user} cannot {} path {}", a.verb, go_quote(&a.path));
    }
    let slash = if a.subresource.is_empty() { "" } else { "/" };
    let resource = go_quote(&format!("{}{slash}{}", a.resource, a.subresource));
    let scope = match a.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {}", go_quote(namespace)),
    };
    format!(
        "User {user} cannot {} resource {resource} in API group {} {scope}",
        a.verb,
        go_quote(&a.group)
    )
}

/// Nothing a browser could take for HTML.
fn sanitized(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::UserInfo;
    use std::sync::Arc;

    #[test]
    fn refusals_read_as_upstream() {
        let mut a = AuthzAttributes {
            user: Arc::new(UserInfo::new("<u>", &[])),
            verb: "get".into(),
            group: "apps".into(),
            resource: "deployments".into(),
            subresource: "scale".into(),
            namespace: "ns".into(),
            name: "d".into(),
            resource_request: true,
            ..AuthzAttributes::default()
        };
        assert_eq!(
            forbidden(&a, "why").message(),
            r#"deployments.apps "d" is forbidden: User "&lt;u&gt;" cannot get resource "deployments/scale" in API group "apps" in the namespace "ns": why"#
        );
        a = AuthzAttributes {
            user: a.user,
            verb: a.verb,
            path: "/x".into(),
            ..AuthzAttributes::default()
        };
        assert_eq!(
            forbidden(&a, "").message(),
            r#"forbidden: User "&lt;u&gt;" cannot get path "/x""#
        );
    }
}
