//! Authorization: whether the user may. Only this filter makes an [`Authorized`] request.

use crate::body::Response;
use crate::encode;
use crate::filters::{Filter, Next, go_on};
use crate::metrics::Metrics;
use crate::request::Identified;
use crate::request_info::RequestInfo;
use fairlead_api::field::go_quote;
use fairlead_api::selector::{FieldRequirement, FieldSelector};
use fairlead_api::{GroupResource, Status, UserInfo};
use fairlead_auth::{Authorizer, AuthzAttributes, Decision};
use http::HeaderValue;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

/// A request that may be served. Made by the filter and by nobody else.
pub struct Authorized<T>(T);

impl<T> Authorized<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}

pub struct Authorization {
    pub authorizer: Arc<dyn Authorizer>,
    pub metrics: Metrics,
}

impl Filter for Authorization {
    type In = Identified;
    type Out = Authorized<Identified>;

    fn handle<S: Next<Authorized<Identified>>>(
        self: Arc<Self>,
        request: Identified,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let started = Instant::now();
            let attributes = attributes(&request.known.info, &request.user);
            let (decision, reason) = self.authorizer.authorize(&attributes).await;
            let result = match decision {
                Decision::Allow => "allowed",
                Decision::Deny => "denied",
                Decision::NoOpinion => "no-opinion",
            };
            self.metrics.authorization_attempts.with(&[result]).inc();
            self.metrics.authorization_latency.with(&[result]).observe(started.elapsed().as_secs_f64());
            if decision == Decision::Allow {
                return go_on(next, Authorized(request)).await;
            }
            let known = &request.known;
            let mut response = encode::status(&forbidden(&attributes, &reason), &known.parts.headers, &known.query);
            response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
            response
        }
    }
}

/// What the authorizer is asked.
pub fn attributes(info: &RequestInfo, user: &Arc<UserInfo>) -> AuthzAttributes {
    AuthzAttributes {
        user: user.clone(),
        verb: info.verb.clone(),
        namespace: info.namespace.clone(),
        group: info.group.clone(),
        version: info.version.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        name: info.name.clone(),
        resource_request: info.resource_request,
        path: info.path.clone(),
        field_selector: info.field_selector.as_deref().map(field_requirements).unwrap_or_default(),
        label_selector: Vec::new(),
    }
}

/// The 403 that says who may not do what, in upstream's words.
pub fn forbidden(attributes: &AuthzAttributes, reason: &str) -> Status {
    let user = go_quote(&attributes.user.name);
    let verb = &attributes.verb;
    let message = if !attributes.resource_request {
        format!("User {user} cannot {verb} path {}", go_quote(&attributes.path))
    } else {
        let resource = match attributes.subresource.as_str() {
            "" => go_quote(&attributes.resource),
            sub => go_quote(&format!("{}/{sub}", attributes.resource)),
        };
        let group = go_quote(&attributes.group);
        let place = match attributes.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {}", go_quote(namespace)),
        };
        format!("User {user} cannot {verb} resource {resource} in API group {group} {place}")
    };
    // Nothing a client wrote comes back as markup.
    let mut why = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    Status::forbidden(&GroupResource::new(&attributes.group, &attributes.resource), &attributes.name, why)
}

fn field_requirements(selector: &str) -> Vec<FieldRequirement> {
    FieldSelector::parse(selector).map(|s| s.requirements).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::request_info::tests::known;

    #[test]
    fn refusals_read_as_upstream() {
        let user = Arc::new(UserInfo::new("alice", &[]));
        for (method, uri, reason, message) in [
            (
                "GET",
                "/api/v1/namespaces/default/pods",
                "",
                r#"pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                "GET",
                "/apis/apps/v1/namespaces/n/deployments/x/scale",
                "",
                r#"deployments.apps "x" is forbidden: User "alice" cannot get resource "deployments/scale" in API group "apps" in the namespace "n""#,
            ),
            ("GET", "/api/v1/nodes", "why", r#"nodes is forbidden: User "alice" cannot list resource "nodes" in API group "" at the cluster scope: why"#),
            ("GET", "/foo%3Cb%3E", "", r#"forbidden: User "alice" cannot get path "/foo&lt;b&gt;""#),
        ] {
            let status = forbidden(&attributes(&known(method, uri).info, &user), reason);
            assert_eq!(status.message(), message);
            assert_eq!(status.code(), 403);
        }
    }
}
