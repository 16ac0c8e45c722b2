//! CSIStorageCapacities.

use crate::cells::{Row, UNSET};
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct CSIStorageCapacities;

impl Hooks for CSIStorageCapacities {
    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .text(&["storageClassName"])
            .text_or(&["capacity"], UNSET)
            .done()
    }
}
