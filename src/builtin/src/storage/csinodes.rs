//! CSINodes.

use crate::cells::Row;
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct CSINodes;

impl Hooks for CSINodes {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).count(&["spec", "drivers"]).age().done()
    }
}
