//! Whether a policy or a binding is about a request: rules, names, selectors.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/policy/matching/matching.go.
// PERFORMANCE: per-request path

use crate::cluster::Served;
use crate::webhook::select::{by_namespace, by_object, by_rules};
use crate::{Attributes, Cluster};
use fairlead_api::Node;

/// How a request is matched: as what the resource is known to who matches, where that is not as in the request.
pub type Matched = Option<Served>;

/// Whether a policy is about a request. `None` where it is not.
///
/// # Errors
/// Why that cannot be told.
pub async fn policy(policy: &Node, attributes: &Attributes, cluster: &Cluster) -> Result<Option<Matched>, String> {
    let constraints = policy.at(&["spec", "matchConstraints"]);
    match constraints.filter(|constraints| !constraints.is_null()) {
        Some(constraints) => resources(constraints, attributes, cluster).await,
        None => Err("policy contained no match constraints, a required field".into()),
    }
}

/// Whether a binding is about a request that its policy is about.
///
/// # Errors
/// Why that cannot be told.
pub async fn binding(binding: &Node, attributes: &Attributes, cluster: &Cluster) -> Result<bool, String> {
    let constraints = binding.at(&["spec", "matchResources"]);
    match constraints.filter(|constraints| !constraints.is_null()) {
        Some(constraints) => Ok(resources(constraints, attributes, cluster).await?.is_some()),
        None => Ok(true),
    }
}

async fn resources(constraints: &Node, attributes: &Attributes, cluster: &Cluster) -> Result<Option<Matched>, String> {
    let policy = constraints.str("matchPolicy");
    let rules = constraints.list("resourceRules");
    let matched = match rules.is_empty() {
        true => Some(None),
        false => by_rules(rules, policy, attributes, cluster),
    };
    let Some(matched) = matched else {
        return Ok(None);
    };
    let excluded = by_rules(constraints.list("excludeResourceRules"), policy, attributes, cluster);
    if excluded.is_some() {
        return Ok(None);
    }
    // A selector that does not match decides even beside one that cannot be read.
    let object = by_object(constraints, attributes);
    if matches!(object, Ok(false)) {
        return Ok(None);
    }
    let in_namespace = by_namespace(constraints, attributes, cluster).await;
    match (in_namespace, object) {
        (Ok(false), _) => Ok(None),
        (Err(status), _) | (_, Err(status)) => Err(status.message().to_owned()),
        _ => Ok(Some(matched)),
    }
}
