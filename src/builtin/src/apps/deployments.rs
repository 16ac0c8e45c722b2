//! Deployments.

use crate::cells::Row;
use crate::gated::drop_from_pod_spec;
use crate::pod_spec::default_template;
use crate::validation::warnings;
use crate::validation::workloads;
use crate::value::{bump_generation, copy, int, or, or_empty};
use fairlead_api::selector::LabelSelector;
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

const POD_SPEC: &[&str] = &["spec", "template", "spec"];

pub struct Deployments;

impl Hooks for Deployments {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        or(spec, "replicas", 1);
        let strategy = spec.make_at(&["strategy"]);
        or_empty(strategy, "type", "RollingUpdate");
        if strategy.str("type") == "RollingUpdate" {
            or(strategy, "rollingUpdate", Map::new());
            let update = strategy.make_at(&["rollingUpdate"]);
            or(update, "maxUnavailable", "25%");
            or(update, "maxSurge", "25%");
        }
        or(spec, "revisionHistoryLimit", 10);
        or(spec, "progressDeadlineSeconds", 600);
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
        bump_generation(object, old, &[&["spec"], &["metadata", "annotations"]]);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::workload(object, old, true)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::deployment(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::deployment(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::deployment_status(object, old, errors);
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        copy(object, old, &["metadata", "labels"]);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["spec"], &["metadata", "labels"]],
            _ => &[&["status"]],
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        // An empty selector is shown empty here, unlike elsewhere.
        let selector = match object.at(&["spec", "selector"]).map(LabelSelector::from_node) {
            Some(Ok(selector)) => selector.to_string(),
            Some(Err(_)) => "<invalid>".into(),
            None => String::new(),
        };
        Row::named(object, now_seconds)
            .cell(format!(
                "{}/{}",
                int(object, &["status", "readyReplicas"]),
                int(object, &["spec", "replicas"])
            ))
            .int(&["status", "updatedReplicas"])
            .int(&["status", "availableReplicas"])
            .age()
            .containers(&["spec", "template", "spec", "containers"])
            .cell(selector)
            .done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn strategies_are_filled_in() {
        let mut object = node!({"spec": {"strategy": {}, "template": {}}});
        Deployments.default(&mut object);
        let wanted = node!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
        assert_eq!(object.at(&["spec", "strategy"]), Some(&wanted));
        let mut object = node!({"spec": {"strategy": {"type": "Recreate"}}});
        Deployments.default(&mut object);
        assert_eq!(object.at(&["spec", "strategy"]), Some(&node!({"type": "Recreate"})));
    }
}
