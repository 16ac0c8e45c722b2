//! ReplicationControllers.

use crate::cells::Row;
use crate::gated::drop_from_pod_spec;
use crate::pod_spec::default_template;
use crate::validation::warnings;
use crate::validation::workloads;
use crate::value::or;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

const POD_SPEC: &[&str] = &["spec", "template", "spec"];

pub struct ReplicationControllers;

impl Hooks for ReplicationControllers {
    fn default(&self, object: &mut Node) {
        let labels = object.at(&["spec", "template", "metadata", "labels"]).cloned();
        if let Some(labels) = labels {
            or(object.make_at(&["spec"]), "selector", labels.clone());
            or(object.make_at(&["metadata"]), "labels", labels);
        }
        or(object.make_at(&["spec"]), "replicas", 1);
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
    }

    fn orphans_dependents(&self) -> bool {
        true
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::replication_controller(object, old)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::replication_controller(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::replication_controller(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::replicas_status(object, errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .int(&["spec", "replicas"])
            .int(&["status", "replicas"])
            .int(&["status", "readyReplicas"])
            .age()
            .containers(&["spec", "template", "spec", "containers"])
            .labels(&["spec", "selector"])
            .done()
    }
}
