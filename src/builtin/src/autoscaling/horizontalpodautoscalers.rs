//! HorizontalPodAutoscalers, in both versions. Conversion is in [`super::conversion`].

mod validation;

use super::metrics;
use crate::cells::{Row, UNSET};
use crate::value::or;
use fairlead_api::{FieldErrors, Map, Node, node};
use fairlead_resource::{HookContext, Hooks};

pub struct HorizontalPodAutoscalers;

impl Hooks for HorizontalPodAutoscalers {
    fn default(&self, object: &mut Node) {
        let v1 = object.str("apiVersion").ends_with("/v1");
        let spec = object.make_at(&["spec"]);
        or(spec, "minReplicas", 1);
        if v1 {
            default_v1(object);
            return;
        }
        if spec.list("metrics").is_empty() {
            spec.set("metrics", vec![default_metric(DEFAULT_UTILIZATION)]);
        }
        default_behavior(spec);
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::status(object, errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        // Both versions print what the newer one knows.
        let newer;
        let object = if object.str("apiVersion").ends_with("/v1") {
            let mut copy = object.clone();
            super::conversion::convert(&mut copy, "autoscaling/v2");
            newer = copy;
            &newer
        } else {
            object
        };
        let target = |key| object.str_at(&["spec", "scaleTargetRef", key]);
        let minimum = object.at(&["spec", "minReplicas"]).and_then(Node::as_i64);
        Row::named(object, now_seconds)
            .cell(format!("{}/{}", target("kind"), target("name")))
            .cell(metrics::summary(object))
            .cell(minimum.map_or(UNSET.to_owned(), |m| m.to_string()))
            .int(&["spec", "maxReplicas"])
            .int(&["status", "currentReplicas"])
            .age()
            .done()
    }
}

pub const DEFAULT_UTILIZATION: i64 = 80;

/// What an autoscaler without metrics goes by.
pub fn default_metric(utilization: i64) -> Node {
    let mut metric = node!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}});
    metric.set_at(&["resource", "target", "averageUtilization"], utilization);
    metric
}

/// COMPAT: the older version gets its utilization when it is converted, so only where no other metrics are noted.
fn default_v1(object: &mut Node) {
    let mut copy = object.clone();
    super::conversion::convert(&mut copy, "autoscaling/v2");
    super::conversion::convert(&mut copy, "autoscaling/v1");
    *object = copy;
}

fn default_behavior(spec: &mut Node) {
    let Some(behavior @ Node::Map(_)) = spec.get_mut("behavior") else {
        return;
    };
    let up = node!({"selectPolicy": "Max", "stabilizationWindowSeconds": 0, "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]});
    let down = node!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
    for (key, rules) in [("scaleUp", up), ("scaleDown", down)] {
        or(behavior, key, Map::new());
        let own = behavior.make_at(&[key]);
        for (name, value) in rules.as_map().cloned().unwrap_or_default() {
            or(own, &name, value);
        }
    }
}

/// Whether a metric is the one the older version has a field for.
pub fn is_cpu_utilization(metric: &Node) -> bool {
    metric.str("type") == "Resource"
        && metric.str_at(&["resource", "name"]) == "cpu"
        && metric.at(&["resource", "target", "averageUtilization"]).is_some()
}
