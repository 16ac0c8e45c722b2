//! The parameters of a policy, as a binding refers to them.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/policy/generic/policy_dispatcher.go (CollectParams).
// PERFORMANCE: per-request path

use crate::Cluster;
use crate::cluster::Known;
use fairlead_api::selector::LabelSelector;
use fairlead_api::{GroupVersionKind, GroupVersionResource, Node};
use std::sync::Arc;

/// What a policy's parameters are.
#[derive(Clone, Debug)]
pub enum ParamKind {
    /// It has none.
    None,
    Of(Known),
}

/// # Errors
/// The kind is not served.
pub fn kind(policy: &Node, cluster: &Cluster) -> Result<ParamKind, String> {
    let Some(kind) = policy.at(&["spec", "paramKind"]).filter(|kind| !kind.is_null()) else {
        return Ok(ParamKind::None);
    };
    let version = kind.str("apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let wanted = GroupVersionKind {
        group: group.into(),
        version: version.into(),
        kind: kind.str("kind").into(),
    };
    match cluster.versions.known(&wanted) {
        Some(known) => Ok(ParamKind::Of(known)),
        None => Err(format!(
            "failed to find resource referenced by paramKind: '{group}/{version}, Kind={}'",
            wanted.kind
        )),
    }
}

/// The parameters to evaluate a policy with, once with each. One that is null stands for none at all.
///
/// # Errors
/// What is wrong with the reference, or that nothing is found where something must be.
pub async fn collect(
    kind: &ParamKind,
    binding: &Node,
    namespace: &str,
    cluster: &Cluster,
) -> Result<Vec<Arc<Node>>, String> {
    let none = || Ok(vec![Arc::new(Node::Null)]);
    let ParamKind::Of(known) = kind else { return none() };
    let Some(reference) = binding
        .at(&["spec", "paramRef"])
        .filter(|reference| !reference.is_null())
    else {
        return none();
    };
    let (name, own) = (reference.str("name"), reference.str("namespace"));
    let namespace = match (known.namespaced, own, namespace) {
        (false, "", _) => "",
        (false, ..) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, "", "") => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into(),
            );
        }
        (true, "", namespace) => namespace,
        (true, own, _) => own,
    };
    let GroupVersionResource { group, resource, .. } = &known.resource;
    let selector = reference.get("selector").filter(|selector| !selector.is_null());
    let found = match selector {
        _ if !name.is_empty() && selector.is_some() => {
            return Err("paramRef.name and paramRef.selector are mutually exclusive".into());
        }
        _ if !name.is_empty() => cluster
            .find(group, resource, namespace, name)
            .await
            .into_iter()
            .collect(),
        Some(selector) => {
            let selector = LabelSelector::from_node(selector).map_err(|why| why.to_string())?;
            let mut all = cluster.lookup.list(group, resource, namespace);
            all.retain(|object| selector.matches(object.labels()));
            all
        }
        None => return Err("one of name or selector must be provided".into()),
    };
    if found.is_empty() && reference.str("parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    let mut params = Vec::with_capacity(found.len());
    for object in found {
        params.push(versioned(object, known, cluster).await?);
    }
    Ok(params)
}

/// A stored object in the version that the policy wants.
async fn versioned(object: Arc<Node>, known: &Known, cluster: &Cluster) -> Result<Arc<Node>, String> {
    let stored = object.str("apiVersion");
    let stored = stored.rsplit('/').next().unwrap_or(stored);
    if stored.is_empty() || stored == known.resource.version {
        return Ok(object);
    }
    let from = GroupVersionResource {
        version: stored.into(),
        ..known.resource.clone()
    };
    let converted = cluster
        .versions
        .convert((*object).clone(), &from, &known.resource)
        .await;
    converted.map(Arc::new).map_err(|status| status.message().to_owned())
}
