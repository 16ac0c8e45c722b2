//! `autoscaling/v1` ⇄ `autoscaling/v2`: what the older version has no field for travels in annotations.

use super::horizontalpodautoscalers::{DEFAULT_UTILIZATION, default_metric, is_cpu_utilization};
use super::noted;
use crate::value::{int, list};
use fairlead_api::{Node, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// Converts in place; `to` is an apiVersion.
pub fn convert(object: &mut Node, to: &str) {
    match (object.str("apiVersion").ends_with("/v1"), to.ends_with("v1")) {
        (true, false) => to_v2(object),
        (false, true) => to_v1(object),
        _ => {}
    }
    object.set("apiVersion", to);
}

fn to_v1(object: &mut Node) {
    drop_annotations(object);
    let metrics = list(object, &["spec", "metrics"]).to_vec();
    let current = list(object, &["status", "currentMetrics"]).to_vec();
    let others: Vec<Node> = metrics
        .iter()
        .filter(|m| !is_cpu_utilization(m))
        .map(spec_to_v1)
        .collect();
    let behavior = object.remove_at(&["spec", "behavior"]);
    let conditions = object.remove_at(&["status", "conditions"]);
    object.remove_at(&["spec", "metrics"]);
    object.remove_at(&["status", "currentMetrics"]);
    if let Some(metric) = metrics.iter().find(|m| is_cpu_utilization(m)) {
        let utilization = int(metric, &["resource", "target", "averageUtilization"]);
        object.set_at(&["spec", "targetCPUUtilizationPercentage"], utilization);
    }
    let cpu = current.iter().find(|m| {
        m.str("type") == "Resource"
            && m.str_at(&["resource", "name"]) == "cpu"
            && m.at(&["resource", "current", "averageUtilization"]).is_some()
    });
    if let Some(metric) = cpu {
        let utilization = int(metric, &["resource", "current", "averageUtilization"]);
        object.set_at(&["status", "currentCPUUtilizationPercentage"], utilization);
    }
    let mut annotate = |key: &str, text: String| {
        object.meta_mut().slot("annotations").set(key, text);
    };
    if !others.is_empty() {
        annotate(METRICS, noted::text(&Node::List(others)));
    }
    if !current.is_empty() {
        annotate(
            CURRENT_METRICS,
            noted::text(&Node::List(current.iter().map(status_to_v1).collect())),
        );
    }
    if let Some(behavior) = behavior {
        annotate(BEHAVIOR, noted::behavior_text(&behavior));
    }
    if let Some(conditions) = conditions.filter(|c| !c.is_zero()) {
        annotate(CONDITIONS, noted::text(&conditions));
    }
}

fn to_v2(object: &mut Node) {
    let noted_text = |key: &str| object.annotations()?.get(key)?.as_str();
    let noted = |key: &str| json::parse(noted_text(key)?.as_bytes()).ok();
    let (metrics, current, conditions) = (noted(METRICS), noted(CURRENT_METRICS), noted(CONDITIONS));
    let behavior = noted_text(BEHAVIOR).and_then(noted::behavior);
    let utilization = object
        .remove_at(&["spec", "targetCPUUtilizationPercentage"])
        .and_then(|u| u.as_i64());
    object.remove_at(&["status", "currentCPUUtilizationPercentage"]);
    let mut all: Vec<Node> = metrics
        .as_ref()
        .and_then(Node::as_list)
        .into_iter()
        .flatten()
        .map(spec_to_v2)
        .collect();
    all.extend(utilization.map(default_metric));
    if all.is_empty() {
        all.push(default_metric(DEFAULT_UTILIZATION));
    }
    object.set_at(&["spec", "metrics"], all);
    if let Some(behavior) = behavior {
        object.set_at(&["spec", "behavior"], behavior);
    }
    if let Some(current) = current.as_ref().and_then(Node::as_list) {
        let current: Vec<Node> = current.iter().map(status_to_v2).collect();
        object.set_at(&["status", "currentMetrics"], current);
    }
    if let Some(conditions) = conditions {
        object.set_at(&["status", "conditions"], conditions);
    }
    if let Some(status) = object.get_mut("status").filter(|status| status.as_map().is_some()) {
        // What one version always writes the other leaves out, and the other way round.
        if status.get("currentReplicas").is_some_and(Node::is_zero) {
            status.remove("currentReplicas");
        }
        if status.get("currentMetrics").is_none() {
            status.set("currentMetrics", Node::Null);
        }
    }
    drop_annotations(object);
}

fn drop_annotations(object: &mut Node) {
    let Some(annotations) = object.at_mut(&["metadata", "annotations"]).and_then(Node::as_map_mut) else {
        return;
    };
    annotations.retain(|key, _| !matches!(key.as_str(), METRICS | CURRENT_METRICS | BEHAVIOR | CONDITIONS));
    if annotations.is_empty() {
        object.remove_at(&["metadata", "annotations"]);
    }
}

// The older metrics are flat: the names of what became a metric, its selector and its target.

/// How one kind of metric is called in both versions: older field, newer path.
type Names = &'static [(&'static str, &'static [&'static str])];

const SPECS: &[(&str, Names)] = &[
    (
        "external",
        &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("targetValue", &["target", "value"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "object",
        &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("target", &["describedObject"]),
            ("targetValue", &["target", "value"]),
            ("averageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("targetAverageUtilization", &["target", "averageUtilization"]),
            ("targetAverageValue", &["target", "averageValue"]),
        ],
    ),
];

const STATUSES: &[(&str, Names)] = &[
    (
        "external",
        &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("currentValue", &["current", "value"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "object",
        &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("target", &["describedObject"]),
            ("currentValue", &["current", "value"]),
            ("averageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("currentAverageUtilization", &["current", "averageUtilization"]),
            ("currentAverageValue", &["current", "averageValue"]),
        ],
    ),
];

/// Fields the older version always writes.
const ALWAYS: &[&str] = &[
    "targetValue",
    "currentValue",
    "currentAverageValue",
    "targetAverageValue",
];

fn spec_to_v1(metric: &Node) -> Node {
    older(metric, SPECS, |key, field| match (key, field) {
        ("object", "targetValue") | ("pods", "targetAverageValue") => ALWAYS.contains(&field),
        _ => false,
    })
}

fn status_to_v1(metric: &Node) -> Node {
    older(metric, STATUSES, |key, field| match (key, field) {
        ("external", "currentAverageValue") => false,
        _ => ALWAYS.contains(&field),
    })
}

fn older(metric: &Node, table: &[(&str, Names)], always: impl Fn(&str, &str) -> bool) -> Node {
    let mut out = Node::map();
    out.set("type", metric.str("type"));
    for (key, names) in table {
        let Some(source) = metric.get(key) else { continue };
        let mut flat = Node::map();
        for (old, new) in *names {
            match source.at(new) {
                Some(value) => flat.set(old, value.clone()),
                None if always(key, old) => flat.set(old, "0"),
                None => {}
            }
        }
        out.set(key, flat);
    }
    out
}

fn spec_to_v2(metric: &Node) -> Node {
    let mut out = newer(metric, SPECS);
    for (key, _) in SPECS {
        let Some(Node::Map(_)) = out.get(key) else { continue };
        let target = |field: &str| out.at(&[key, "target", field]).is_some();
        let kind = match *key {
            "external" if target("value") => "Value",
            "object" if !target("averageValue") => "Value",
            "resource" | "containerResource" if target("averageUtilization") => "Utilization",
            _ => "AverageValue",
        };
        // A zero value beside an average is only the older version's way of writing nothing.
        if *key == "object" && target("averageValue") && out.str_at(&[key, "target", "value"]) == "0" {
            out.remove_at(&[key, "target", "value"]);
        }
        out.set_at(&[key, "target", "type"], kind);
    }
    out
}

fn status_to_v2(metric: &Node) -> Node {
    newer(metric, STATUSES)
}

fn newer(metric: &Node, table: &[(&str, Names)]) -> Node {
    let mut out = Node::map();
    out.set("type", metric.str("type"));
    for (key, names) in table {
        let Some(source) = metric.get(key) else { continue };
        for (old, new) in *names {
            if let Some(value) = source.get(old) {
                let path: Vec<&str> = std::iter::once(*key).chain(new.iter().copied()).collect();
                out.set_at(&path, value.clone());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn everything_survives_the_way_there_and_back() {
        let object = node!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "annotations": {"k": "v"}},
            "spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Max"}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"metric": {"name": "m"}, "describedObject": {"kind": "K", "name": "n"},
                    "target": {"type": "Value", "value": "5"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
            "status": {"conditions": [{"type": "AbleToScale", "status": "True"}], "currentMetrics": null}});
        let mut copy = object.clone();
        convert(&mut copy, "autoscaling/v1");
        assert_eq!(int(&copy, &["spec", "targetCPUUtilizationPercentage"]), 50);
        assert_eq!(copy.at(&["spec", "metrics"]), None);
        convert(&mut copy, "autoscaling/v2");
        assert_eq!(copy, object);
    }

    #[test]
    fn no_metrics_mean_the_default() {
        let mut object = node!({"apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 1}});
        convert(&mut object, "autoscaling/v2");
        assert_eq!(
            object.at(&["spec", "metrics"]),
            Some(&Node::List(vec![default_metric(80)]))
        );
    }
}
