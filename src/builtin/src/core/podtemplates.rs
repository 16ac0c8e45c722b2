//! PodTemplates.

use crate::cells::Row;
use crate::gated::drop_from_pod_spec;
use crate::pod_spec::default_template;
use crate::validation::pod::pod_template;
use crate::validation::warnings;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

const POD_SPEC: &[&str] = &["template", "spec"];

pub struct PodTemplates;

impl Hooks for PodTemplates {
    fn default(&self, object: &mut Node) {
        default_template(object, &["template"]);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::pod_template(object, old)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        pod_template(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        pod_template(object, Some(old), errors);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .containers(&["template", "spec", "containers"])
            .labels(&["template", "metadata", "labels"])
            .done()
    }
}
