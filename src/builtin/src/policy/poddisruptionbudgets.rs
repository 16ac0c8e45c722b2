//! PodDisruptionBudgets.

use crate::cells::{Row, int_or_string};
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct PodDisruptionBudgets;

impl Hooks for PodDisruptionBudgets {
    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let bound = |key| int_or_string(object.at(&["spec", key]), "N/A");
        Row::named(object, now_seconds)
            .cell(bound("minAvailable"))
            .cell(bound("maxUnavailable"))
            .int(&["status", "disruptionsAllowed"])
            .age()
            .done()
    }
}
