//! EndpointSlices.

pub mod validation;

use crate::cells::{Row, UNSET, three};
use crate::value::{bump_generation, each, or};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct EndpointSlices;

impl Hooks for EndpointSlices {
    fn default(&self, object: &mut Node) {
        each(object, "ports", |port| {
            or(port, "name", "");
            or(port, "protocol", "TCP");
        });
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        each(object, "endpoints", |endpoint| {
            endpoint.remove("deprecatedTopology");
        });
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        // What an older version left there stays only while the object is otherwise untouched.
        let kept = old.list("endpoints") == object.list("endpoints");
        if !kept {
            each(object, "endpoints", |endpoint| {
                endpoint.remove("deprecatedTopology");
            });
        }
        bump_generation(
            object,
            old,
            &[&["addressType"], &["endpoints"], &["ports"], &["metadata", "labels"]],
        );
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, Some(old), errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        validation::warnings(object, old.is_none())
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let ports = object
            .list("ports")
            .iter()
            .map(|port| match port.get("port").and_then(Node::as_i64) {
                Some(number) => number.to_string(),
                None => port.get("name").and_then(Node::as_str).unwrap_or("*").to_owned(),
            });
        let addresses = object
            .list("endpoints")
            .iter()
            .flat_map(|e| e.list("addresses"))
            .filter_map(Node::as_str);
        Row::named(object, now_seconds)
            .text(&["addressType"])
            .cell(unset(three(ports, UNSET)))
            .cell(three(addresses, UNSET))
            .age()
            .done()
    }
}

/// A single port without a name leaves nothing to show.
fn unset(cell: String) -> String {
    if cell.is_empty() { UNSET.into() } else { cell }
}
