//! PriorityClasses.

use crate::cells::Row;
use crate::validation::at::At;
use crate::validation::common;
use crate::value::{self, or};
use fairlead_api::name;
use fairlead_api::{FieldErrors, GroupResource, Node, Status, StatusResult};
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

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::finalizers(object, errors);
        let at = At::root(object);
        if value::int(object, &["value"]) != value::int(old, &["value"]) {
            at.forbidden("value", "may not be changed in an update.", errors);
        }
        common::immutable(&at, old, "preemptionPolicy", "*string", errors);
    }

    fn check_delete(&self, object: &Node, _: &HookContext) -> StatusResult<()> {
        match SYSTEM.iter().any(|(name, _)| *name == object.name()) {
            true => Err(Status::forbidden(
                &GroupResource::new("scheduling.k8s.io", "priorityclasses"),
                object.name(),
                "this is a system priority class and cannot be deleted",
            )),
            false => Ok(()),
        }
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

const SYSTEM_PREFIX: &str = "system-";
/// Classes of the system, whose values are fixed; none is the default one.
const SYSTEM: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];
const HIGHEST: i64 = 1_000_000_000;

/// Source of the rules, their order and wording: kubernetes pkg/apis/scheduling/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    if object.name().starts_with(SYSTEM_PREFIX) {
        if let Some(why) = not_of_the_system(&at, object.name()) {
            let detail = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            );
            at.part("metadata").forbidden("name", detail, errors);
        }
    } else if at.int("value") > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        at.forbidden("value", detail, errors);
    }
    if at.has("preemptionPolicy") {
        at.required_one_of("preemptionPolicy", &["PreemptLowerPriority", "Never"], errors);
    }
}

fn not_of_the_system(at: &At, name: &str) -> Option<String> {
    let Some((_, value)) = SYSTEM.into_iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if at.int("value") != value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    at.flag("globalDefault")
        .then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
