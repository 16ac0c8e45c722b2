//! PriorityLevelConfigurations.

mod validation;

use super::flowschemas::validation::conditions;
use crate::cells::{NONE, Row};
use crate::value::{int, keep_metadata, or, with};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct PriorityLevelConfigurations;

impl Hooks for PriorityLevelConfigurations {
    fn default(&self, object: &mut Node) {
        for (kind, shares) in [("limited", 30), ("exempt", 0)] {
            with(object, &["spec", kind], |level| {
                or(level, "nominalConcurrencyShares", shares);
                or(level, "lendablePercent", 0);
            });
        }
        with(object, &["spec", "limited", "limitResponse", "queuing"], |queuing| {
            for (field, default) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if int(queuing, &[field]) == 0 {
                    queuing.set(field, default);
                }
            }
        });
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        keep_metadata(object, old);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            _ => &[&["status"]],
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        conditions(object, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        const QUEUING: [&str; 4] = ["spec", "limited", "limitResponse", "queuing"];
        let limited = object.at(&["spec", "limited"]);
        let shares = limited.map(|l| l.get("nominalConcurrencyShares").cloned().unwrap_or_default());
        let queuing = object.at(&QUEUING).filter(|q| q.as_map().is_some());
        let number = |key: &str| queuing.map_or_else(|| Node::string(NONE), |q| Node::Int(int(q, &[key])));
        Row::named(object, now_seconds)
            .text(&["spec", "type"])
            .cell(shares.unwrap_or_else(|| Node::string(NONE)))
            .cell(number("queues"))
            .cell(number("handSize"))
            .cell(number("queueLengthLimit"))
            .age()
            .done()
    }
}
