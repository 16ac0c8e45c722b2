//! DaemonSets.

use crate::cells::Row;
use crate::gated::drop_from_pod_spec;
use crate::pod_spec::default_template;
use crate::validation::warnings;
use crate::validation::workloads;
use crate::value::{or, or_empty};
use fairlead_api::{FieldErrors, Map, Node, alike};
use fairlead_resource::{HookContext, Hooks};

/// How often the template changed, counted before there was a revision history.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const POD_SPEC: &[&str] = &["spec", "template", "spec"];

pub struct DaemonSets;

impl Hooks for DaemonSets {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        let strategy = spec.make_at(&["updateStrategy"]);
        or_empty(strategy, "type", "RollingUpdate");
        if strategy.str("type") == "RollingUpdate" {
            or(strategy, "rollingUpdate", Map::new());
            let update = strategy.make_at(&["rollingUpdate"]);
            or(update, "maxUnavailable", 1);
            or(update, "maxSurge", 0);
        }
        or(spec, "revisionHistoryLimit", 10);
        default_template(object, &["spec", "template"]);
        // COMPAT: it is a field inside upstream, and so always written; managed fields know it as an annotation.
        let generation = template_generation(object);
        set_template_generation(object, generation);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
        const TEMPLATE: &[&str] = &["spec", "template"];
        let generation = template_generation(old) + i64::from(!alike(object.at(TEMPLATE), old.at(TEMPLATE)));
        set_template_generation(object, generation);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::workload(object, old, false)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::daemon_set(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::daemon_set(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::daemon_set_status(object, old, errors);
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        set_template_generation(object, template_generation(old));
    }

    fn hidden_annotations(&self) -> &'static [&'static str] {
        &[TEMPLATE_GENERATION]
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .int(&["status", "desiredNumberScheduled"])
            .int(&["status", "currentNumberScheduled"])
            .int(&["status", "numberReady"])
            .int(&["status", "updatedNumberScheduled"])
            .int(&["status", "numberAvailable"])
            .labels(&["spec", "template", "spec", "nodeSelector"])
            .age()
            .containers(&["spec", "template", "spec", "containers"])
            .selector(&["spec", "selector"])
            .done()
    }
}

fn template_generation(object: &Node) -> i64 {
    let annotation = object
        .annotations()
        .and_then(|a| a.get(TEMPLATE_GENERATION))
        .and_then(Node::as_str);
    annotation.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Node, generation: i64) {
    object
        .meta_mut()
        .slot("annotations")
        .set(TEMPLATE_GENERATION, generation.to_string());
}
