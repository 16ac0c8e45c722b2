//! Approval of groups that belong to the Kubernetes project (KEP-1111).

use crate::condition::{self, Condition};
use fairlead_api::Node;
use fairlead_api::field::go_quote;
use fairlead_api::url::GoUrl;

pub const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What the annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    Invalid,
    Approved,
    /// Admittedly not approved.
    Bypassed,
    Missing,
}

/// Whether a group belongs to the Kubernetes project.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| {
        group
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

pub fn annotation(crd: &Node) -> &str {
    crd.annotations()
        .and_then(|a| a.get(ANNOTATION))
        .and_then(Node::as_str)
        .unwrap_or_default()
}

/// The approval of a definition, and why it is that.
pub fn state(crd: &Node) -> (Approval, String) {
    let value = annotation(crd);
    let must = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    if value.is_empty() {
        (Approval::Missing, format!("{must}, {SEE}"))
    } else if value.starts_with("unapproved") {
        (Approval::Bypassed, format!("not approved: {}", go_quote(value)))
    } else if GoUrl::parse_request_uri(value).is_ok_and(|u| !u.host.is_empty() && !u.scheme.is_empty()) {
        (Approval::Approved, format!("approved in {value}"))
    } else {
        (
            Approval::Invalid,
            format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}"),
        )
    }
}

/// Writes the condition about approval. Answers whether that changed the status.
pub fn set_condition(crd: &mut Node, now: &str) -> bool {
    if !is_protected(crd.str_at(&["spec", "group"])) {
        return false;
    }
    let before = crd.get("status").cloned();
    let (state, message) = state(crd);
    let (status, reason) = match state {
        Approval::Missing => (false, "MissingAnnotation"),
        Approval::Bypassed => (false, "UnapprovedAnnotation"),
        Approval::Approved => (true, "ApprovedAnnotation"),
        Approval::Invalid => (false, "InvalidAnnotation"),
    };
    condition::set(
        crd,
        &Condition::new("KubernetesAPIApprovalPolicyConformant", status, reason, &message),
        now,
    );
    crd.get("status") != before.as_ref()
}
