//! PriorityClasses.

use crate::cells::Row;
use crate::value::or;
use fairlead_api::Node;
use fairlead_resource::{HookContext, Hooks};

pub struct PriorityClasses;

impl Hooks for PriorityClasses {
    fn default(&self, object: &mut Node) {
        or(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        // COMPAT: the first generation is also the last; nothing counts it up.
        object.meta_mut().insert("generation", Node::Int(1));
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .int(&["value"])
            .flag(&["globalDefault"])
            .age()
            .text(&["preemptionPolicy"])
            .done()
    }
}
