//! Leases.

use crate::cells::Row;
use crate::validation::at::At;
use crate::validation::values;
use fairlead_api::name;
use fairlead_api::{FieldErrors, Node};
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

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        values::plain_meta(object, true, name::name_is_dns_subdomain, errors);
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
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

/// Source of the rules, their order and wording: kubernetes pkg/apis/coordination/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    if let Some(seconds) = spec.number("leaseDurationSeconds").filter(|s| *s <= 0) {
        spec.invalid("leaseDurationSeconds", seconds, "must be greater than 0", errors);
    }
    spec.non_negative("leaseTransitions", errors);
    let strategy = spec.str("strategy");
    if spec.has("strategy") {
        // COMPAT: the path names the field twice.
        let at = spec.part("strategy");
        match strategy.contains('/') {
            true => at.complain("strategy", strategy, name::is_qualified_name(strategy), errors),
            false if strategy == OLDEST => {}
            false => at.not_supported("strategy", strategy, &[OLDEST], errors),
        }
    }
    if !spec.str("preferredHolder").is_empty() && strategy.is_empty() {
        spec.forbidden(
            "preferredHolder",
            "may only be specified if `strategy` is defined",
            errors,
        );
    }
}

const OLDEST: &str = "OldestEmulationVersion";
