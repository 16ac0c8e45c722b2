//! Events of `events.k8s.io`: those of the core group under other names.

use super::conversion::convert;
use super::validation;
use compact_str::{CompactString, format_compact};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct Events;

impl Hooks for Events {
    fn garbage_collected(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, errors);
    }

    /// To upstream these are Events of the core group.
    fn group_in_errors(&self) -> Option<&'static str> {
        Some("")
    }

    fn stored_field(&self, field: &str) -> Option<CompactString> {
        match field.strip_prefix("regarding.") {
            Some(field) => Some(format_compact!("involvedObject.{field}")),
            None => (field == "reportingController").then(|| "reportingComponent".into()),
        }
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let mut core = object.clone();
        convert(&mut core, "v1");
        crate::core::events::Events.row(&core, now_seconds)
    }
}
