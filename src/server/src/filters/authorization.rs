//! Authorization: whether the user may. Only this filter makes an [`Authorized`] request.

use crate::body::Response;
use crate::filters::{Filter, Next, go_on};
use crate::metrics::Metrics;
use crate::page;
use crate::request::Identified;
use crate::request_info::RequestInfo;
use crate::router::failure;

use fairlead_api::UserInfo;
use fairlead_api::selector::{FieldRequirement, FieldSelector, LabelSelector, Requirement};
use fairlead_audit::Trail;
use fairlead_auth::authorization::forbidden::forbidden;
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
    /// Whether the operators' page is served, whose files everybody may have.
    pub page: bool,
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
            if self.page && page::is_file(&request.known.parts.method, &request.known.info.path) {
                return go_on(next, Authorized(request)).await;
            }
            let started = Instant::now();
            let attributes = attributes(&request.known.info, &request.user);
            let (decision, reason) = self.authorizer.authorize(&attributes).await;
            if let Some(trail) = &request.known.trail {
                note(trail, decision, &reason, started);
            }
            let result = match decision {
                Decision::Allow => "allowed",
                Decision::Deny => "denied",
                Decision::NoOpinion => "no-opinion",
            };
            self.metrics.authorization_attempts.with(&[result]).inc();
            self.metrics
                .authorization_latency
                .with(&[result])
                .observe(started.elapsed().as_secs_f64());
            if decision == Decision::Allow {
                return go_on(next, Authorized(request)).await;
            }
            let known = &request.known;
            let mut response = failure(&forbidden(&attributes, &reason), known);
            response
                .headers_mut()
                .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
            response
        }
    }
}

/// What the audit event tells of the decision.
fn note(trail: &Trail, decision: Decision, reason: &str, started: Instant) {
    let decided = if decision == Decision::Allow { "allow" } else { "forbid" };
    trail.annotate("authorization.k8s.io/decision", decided);
    trail.annotate("authorization.k8s.io/reason", reason);
    trail.spent("authorization", started.elapsed());
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
        field_selector: info
            .field_selector
            .as_deref()
            .map(field_requirements)
            .unwrap_or_default(),
        label_selector: info
            .label_selector
            .as_deref()
            .map(label_requirements)
            .unwrap_or_default(),
    }
}

fn field_requirements(selector: &str) -> Vec<FieldRequirement> {
    FieldSelector::parse(selector)
        .map(|s| s.requirements)
        .unwrap_or_default()
}

fn label_requirements(selector: &str) -> Vec<Requirement> {
    LabelSelector::parse(selector)
        .map(|s| s.requirements().to_vec())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::request_info::tests::known;

    #[test]
    fn a_selector_on_a_name_is_a_name() {
        let user = Arc::new(UserInfo::new("alice", &[]));
        let info = known(
            "GET",
            "/api/v1/namespaces/n/pods?fieldSelector=metadata.name=p,spec.nodeName!=x",
        )
        .info;
        let attributes = attributes(&info, &user);
        assert_eq!((attributes.verb.as_str(), attributes.name.as_str()), ("list", "p"));
        assert_eq!(attributes.field_selector.len(), 2);
    }
}
