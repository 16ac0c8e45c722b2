//! Admission policies: policies and bindings, compiled when they change ([`set`]), matched to requests ([`matching`])
//! and given their parameters ([`params`]).
//!
//! Source of the rules and texts: kubernetes/apiserver pkg/admission/plugin/policy.
// PERFORMANCE: per-request path

pub mod matching;
pub mod mutating;
pub mod params;
pub mod set;
pub mod validating;

use crate::webhook::GROUP;
use crate::{Attributes, Cluster};
use fairlead_api::{GroupResource, Node, Status, StatusResult};
use std::sync::Arc;

/// Requests that no policy sees: policies must not lock themselves in, and reviews must work always.
pub fn is_exempt(attributes: &Attributes) -> bool {
    let plural = attributes.resource.resource.as_str();
    match attributes.resource.group.as_str() {
        GROUP => matches!(
            plural,
            "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        ),
        "authentication.k8s.io" => matches!(plural, "selfsubjectreviews" | "tokenreviews"),
        "authorization.k8s.io" => matches!(
            plural,
            "localsubjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "selfsubjectrulesreviews"
                | "subjectaccessreviews"
        ),
        _ => false,
    }
}

/// Whether errors of a policy let the request pass.
pub fn ignores_failures(policy: &Node) -> bool {
    policy.str_at(&["spec", "failurePolicy"]) == "Ignore"
}

/// The namespace that expressions see; null for what is in none, and for namespaces themselves.
///
/// # Errors
/// NotFound.
pub async fn namespace(attributes: &Attributes, cluster: &Cluster) -> StatusResult<Arc<Node>> {
    let kind = &attributes.kind;
    let is_namespace = kind.kind == "Namespace" && kind.group.is_empty() && kind.version == "v1";
    if attributes.namespace.is_empty() || is_namespace {
        return Ok(Arc::new(Node::Null));
    }
    let name = &attributes.namespace;
    let found = cluster.find("", "namespaces", "", name).await;
    found.ok_or_else(|| Status::not_found(&GroupResource::new("", "namespaces"), name))
}
