//! TaintNodesByCondition: new nodes start as not ready, so that nothing is scheduled there too early.

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::{Node, StatusResult, node};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

impl Plugin for TaintNodesByCondition {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.creates() && attributes.is_main("", "nodes")
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, _: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let taints = attributes.object.make_at(&["spec", "taints"]);
        let tainted = |taint: &Node| taint.str("key") == NOT_READY && taint.str("effect") == NO_SCHEDULE;
        match taints {
            Node::List(taints) if taints.iter().any(tainted) => {}
            Node::List(taints) => taints.push(not_ready()),
            other => *other = Node::List(vec![not_ready()]),
        }
        now(Ok(()))
    }
}

fn not_ready() -> Node {
    node!({"key": NOT_READY, "effect": NO_SCHEDULE})
}
