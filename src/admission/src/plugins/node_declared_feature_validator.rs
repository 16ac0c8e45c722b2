//! NodeDeclaredFeatureValidator: a running pod is not changed in a way that its node does not declare to support.

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct NodeDeclaredFeatureValidator;

const POD_RESIZE: &str = "InPlacePodLevelResourcesVerticalScaling";
const INIT_RESIZE: &str = "InPlacePodVerticalScalingInitContainers";

impl Plugin for NodeDeclaredFeatureValidator {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        changes_running_pod(attributes) && matches!(attributes.subresource.as_str(), "" | "resize")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(check(attributes, cluster))
    }
}

/// Whether an update changes the spec of a pod that has a node.
pub(super) fn changes_running_pod(attributes: &Attributes) -> bool {
    attributes.updates()
        && attributes.is("", "pods")
        && !attributes.object.str_at(&["spec", "nodeName"]).is_empty()
        && attributes.object.generation() != attributes.old_object.generation()
}

fn check(attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    let (new, old) = (&attributes.object, &*attributes.old_object);
    let set = |node: &Node, path: &[&str]| node.at(path).filter(|value| !value.is_zero()).cloned();
    let mut needed = Vec::new();
    if set(new, &["spec", "resources"]) != set(old, &["spec", "resources"]) {
        needed.push(POD_RESIZE);
    }
    let init = |pod: &Node| -> Vec<Option<Node>> {
        let containers = pod.get("spec").map_or(&[][..], |spec| spec.list("initContainers"));
        let plain = containers.iter().filter(|container| container.str("restartPolicy") != "Always");
        plain.map(|container| set(container, &["resources"])).collect()
    };
    if init(new) != init(old) {
        needed.push(INIT_RESIZE);
    }
    if needed.is_empty() {
        return Ok(());
    }
    let name = new.str_at(&["spec", "nodeName"]);
    let quoted = go_quote(name);
    let Some(node) = cluster.lookup.get("", "nodes", "", name) else {
        return Err(attributes.forbidden(format_args!("node {quoted} not found")));
    };
    let declared = node.get("status").map_or(&[][..], |status| status.list("declaredFeatures"));
    needed.retain(|feature| !declared.iter().any(|given| given.as_str() == Some(feature)));
    if needed.is_empty() {
        return Ok(());
    }
    let missing = needed.join(", ");
    Err(attributes.forbidden(format_args!(
        "pod update requires features {missing} which are not available on node {quoted}"
    )))
}
