//! DefaultTolerationSeconds: how long pods stay on nodes that are not ready or cannot be reached.
// PERFORMANCE: per-request path

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::{Node, StatusResult, node};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct DefaultTolerationSeconds;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

impl Plugin for DefaultTolerationSeconds {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.is_main("", "pods") && (attributes.creates() || attributes.updates())
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let settings = &cluster.settings;
        let tolerations = attributes.object.make_at(&["spec", "tolerations"]);
        let wanted = [(NOT_READY, settings.not_ready_seconds), (UNREACHABLE, settings.unreachable_seconds)];
        let given = tolerations.as_list().map_or(&[][..], Vec::as_slice);
        let missing: Vec<Node> = wanted
            .into_iter()
            .filter(|(key, _)| !given.iter().any(|toleration| tolerates(toleration, key)))
            .map(|(key, seconds)| {
                node!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})
            })
            .collect();
        match tolerations {
            Node::List(tolerations) => tolerations.extend(missing),
            other => *other = Node::List(missing),
        }
        now(Ok(()))
    }
}

fn tolerates(toleration: &Node, key: &str) -> bool {
    let matches = |field: &str, wanted: &str| matches!(toleration.str(field), given if given.is_empty() || given == wanted);
    matches("key", key) && matches("effect", "NoExecute")
}
