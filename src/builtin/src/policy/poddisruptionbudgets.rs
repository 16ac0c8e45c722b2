//! PodDisruptionBudgets.

use crate::cells::{Row, int_or_string};
use crate::validation::at::At;
use crate::validation::{common, shown, values};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct PodDisruptionBudgets;

impl Hooks for PodDisruptionBudgets {
    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, SelectorLeniency::default(), errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        let leniency = values::leniency_for(old.at(&["spec", "selector"]));
        validate(object, leniency, errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        let at = At::root(object);
        let status = at.part("status");
        values::conditions(&status, "conditions", errors);
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            status.non_negative(field, errors);
        }
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

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

/// Source of the rules, their order and wording: kubernetes pkg/apis/policy/validation/validation.go.
fn validate(object: &Node, leniency: SelectorLeniency, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    const BOUNDS: [&str; 2] = ["minAvailable", "maxUnavailable"];
    if BOUNDS.iter().all(|bound| spec.has(bound)) {
        let shown = shown::json("policy.PodDisruptionBudgetSpec", Some(spec.node));
        spec.invalid_shown("", shown, "minAvailable and maxUnavailable cannot be both set", errors);
    }
    for bound in BOUNDS.into_iter().filter(|bound| spec.has(bound)) {
        values::int_or_percent(&spec, bound, errors);
        values::at_most_100_percent(&spec, bound, errors);
    }
    common::label_selector_with(&spec, "selector", leniency, errors);
    spec.one_of_if_set(
        "unhealthyPodEvictionPolicy",
        &["AlwaysAllow", "IfHealthyBudget"],
        errors,
    );
}
