//! FlowSchemas.

pub mod validation;

use crate::cells::{NONE, Row};
use crate::value::{int, keep_metadata, list};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct FlowSchemas;

impl Hooks for FlowSchemas {
    fn default(&self, object: &mut Node) {
        if int(object, &["spec", "matchingPrecedence"]) == 0 {
            object.set_at(&["spec", "matchingPrecedence"], 1000);
        }
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
        validation::conditions(object, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let dangling = list(object, &["status", "conditions"])
            .iter()
            .find(|c| c.str("type") == "Dangling");
        Row::named(object, now_seconds)
            .text(&["spec", "priorityLevelConfiguration", "name"])
            .int(&["spec", "matchingPrecedence"])
            .text_or(&["spec", "distinguisherMethod", "type"], NONE)
            .age()
            .cell(dangling.map_or("?", |c| c.str("status")))
            .done()
    }
}
