//! PodTopologyLabels: pods carry the zone and region of the node they run on.

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct PodTopologyLabels;

const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

impl Plugin for PodTopologyLabels {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.creates() && attributes.is("", "pods") && node_name(attributes).is_some()
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let node = node_name(attributes).and_then(|name| cluster.lookup.get("", "nodes", "", name));
        let Some(labels) = node.as_deref().and_then(Node::labels) else {
            return now(Ok(()));
        };
        for key in LABELS {
            if let Some(value) = labels.get(key) {
                attributes.object.set_at(&["metadata", "labels", key], value.clone());
            }
        }
        now(Ok(()))
    }
}

/// The node of a pod that comes with one, or of a binding.
fn node_name(attributes: &Attributes) -> Option<&str> {
    let object = &attributes.object;
    let name = match attributes.subresource.as_str() {
        "" => object.str_at(&["spec", "nodeName"]),
        "binding" if object.str_at(&["target", "kind"]) == "Node" => object.str_at(&["target", "name"]),
        _ => return None,
    };
    Some(name).filter(|name| !name.is_empty())
}
