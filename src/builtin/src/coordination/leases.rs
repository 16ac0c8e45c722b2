//! Leases.

use crate::cells::Row;
use fairlead_api::Node;
use fairlead_resource::{HookContext, Hooks};

pub struct Leases;

impl Hooks for Leases {
    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        for field in GATED {
            object.remove_at(&["spec", field]);
        }
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        for field in GATED {
            if old.at(&["spec", field]).is_none() {
                object.remove_at(&["spec", field]);
            }
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .text(&["spec", "holderIdentity"])
            .age()
            .done()
    }
}

/// Fields of coordinated leader election, which is off by default (KEP-4355).
const GATED: [&str; 2] = ["strategy", "preferredHolder"];
