//! Events of the core group, and what they share with those of `events.k8s.io`.

use crate::cells::{Row, or};
use crate::events::validation;
use crate::value::int;
use compact_str::CompactString;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct Events;

impl Hooks for Events {
    fn selectable_from(&self) -> &'static [&'static [&'static str]] {
        &[&["source"], &["reportingComponent"]]
    }

    fn selectable(&self, object: &Node) -> Vec<(CompactString, CompactString)> {
        vec![(
            "source".into(),
            or(
                object.str_at(&["source", "component"]),
                object.str("reportingComponent"),
            )
            .into(),
        )]
    }

    fn garbage_collected(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::core(object, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::core(object, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let row = Row::new(object, now_seconds);
        let first = match row.passed(&["firstTimestamp"]) {
            unknown if unknown == "<unknown>" => row.passed(&["eventTime"]),
            first => first,
        };
        let (last, count) = match object.get("series").and_then(Node::as_map) {
            Some(_) => (
                row.passed(&["series", "lastObservedTime"]),
                int(object, &["series", "count"]),
            ),
            None => match row.passed(&["lastTimestamp"]) {
                unknown if unknown == "<unknown>" => (first.clone(), int(object, &["count"]).max(1)),
                last => (last, int(object, &["count"]).max(1)),
            },
        };
        let (kind, name) = (
            object.str_at(&["involvedObject", "kind"]).to_lowercase(),
            object.str_at(&["involvedObject", "name"]),
        );
        let component = or(
            object.str_at(&["source", "component"]),
            object.str("reportingComponent"),
        );
        let instance = or(object.str_at(&["source", "host"]), object.str("reportingInstance"));
        row.cell(last)
            .text(&["type"])
            .text(&["reason"])
            .cell(if name.is_empty() {
                kind
            } else {
                format!("{kind}/{name}")
            })
            .text(&["involvedObject", "fieldPath"])
            .cell(if instance.is_empty() {
                component.to_owned()
            } else {
                format!("{component}, {instance}")
            })
            .cell(object.str("message").trim())
            .cell(first)
            .cell(count)
            .cell(object.name())
            .done()
    }
}
