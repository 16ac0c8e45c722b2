//! StatefulSets.

use crate::cells::Row;
use crate::gated::{drop_from_pod_spec, drop_unless_used};
use crate::pod_spec::{default_claim_spec, default_template};
use crate::validation::warnings;
use crate::validation::workloads;
use crate::value::{each, int, or, or_empty, with};
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

const POD_SPEC: &[&str] = &["spec", "template", "spec"];
const MAX_UNAVAILABLE: &[&str] = &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];

pub struct StatefulSets;

impl Hooks for StatefulSets {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        or(spec, "podManagementPolicy", "OrderedReady");
        let strategy = spec.make_at(&["updateStrategy"]);
        if strategy.str("type").is_empty() {
            strategy.set("type", "RollingUpdate");
            or(strategy, "rollingUpdate", Map::new());
        }
        if strategy.str("type") == "RollingUpdate" {
            with(strategy, &["rollingUpdate"], |update| {
                or(update, "partition", 0);
            });
        }
        or(spec, "persistentVolumeClaimRetentionPolicy", Map::new());
        let retention = spec.make_at(&["persistentVolumeClaimRetentionPolicy"]);
        or_empty(retention, "whenDeleted", "Retain");
        or_empty(retention, "whenScaled", "Retain");
        or(spec, "replicas", 1);
        or(spec, "revisionHistoryLimit", 10);
        each(spec, "volumeClaimTemplates", |claim| {
            or(claim.make_at(&["status"]), "phase", "Pending");
            default_claim_spec(claim.make_at(&["spec"]));
        });
        default_template(object, &["spec", "template"]);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
        drop_unless_used(object, None, MAX_UNAVAILABLE);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
        drop_unless_used(object, Some(old), MAX_UNAVAILABLE);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, context: &HookContext) -> Vec<String> {
        match context.subresource {
            "status" => Vec::new(),
            _ => warnings::stateful_set(object, old),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::stateful_set(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::stateful_set(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::stateful_set_status(object, old, errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .cell(format!(
                "{}/{}",
                int(object, &["status", "readyReplicas"]),
                int(object, &["spec", "replicas"])
            ))
            .age()
            .containers(&["spec", "template", "spec", "containers"])
            .done()
    }
}
