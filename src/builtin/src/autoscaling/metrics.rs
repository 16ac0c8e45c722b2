//! The metrics of an autoscaler in one cell: current and wanted values.

use crate::cells::NONE;
use crate::value::list;
use fairlead_api::Node;

const UNKNOWN: &str = "<unknown>";

/// The first two metrics, and how many more there are.
pub fn summary(object: &Node) -> String {
    const MAX: usize = 2;
    let metrics = list(object, &["spec", "metrics"]);
    let current = list(object, &["status", "currentMetrics"]);
    if metrics.is_empty() {
        return NONE.into();
    }
    let shown = metrics
        .iter()
        .enumerate()
        .take(MAX)
        .map(|(i, metric)| one(metric, current.get(i)));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match metrics.len() {
        more if more > MAX => format!("{shown} + {} more...", more - MAX),
        _ => shown,
    }
}

fn one(metric: &Node, status: Option<&Node>) -> String {
    let (key, by_resource) = match metric.str("type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".into(),
    };
    let target = |field: &str| metric.at(&[key, "target", field]);
    let known = status.and_then(|s| s.get(key));
    let current = |field: &str| known.and_then(|s| s.at(&["current", field]));
    let quantity = |value: Option<&Node>| value.and_then(Node::as_str).map(str::to_owned);
    let percent = |value: Option<&Node>| value.and_then(Node::as_i64).map(|v| format!("{v}%"));
    let unknown = || UNKNOWN.to_owned();
    if by_resource {
        let name = metric.str_at(&[key, "name"]);
        let (current, target) = match target("averageValue") {
            Some(value) => {
                let now = if known.is_some() {
                    quantity(current("averageValue")).unwrap_or_else(|| "0".into())
                } else {
                    unknown()
                };
                (now, quantity(Some(value)).unwrap_or_default())
            }
            None => (
                percent(current("averageUtilization")).unwrap_or_else(unknown),
                percent(target("averageUtilization")).unwrap_or_else(|| "<auto>".into()),
            ),
        };
        return format!("{name}: {current}/{target}");
    }
    match target("averageValue") {
        Some(value) => {
            let now = quantity(current("averageValue")).unwrap_or_else(unknown);
            let suffix = if key == "pods" { "" } else { " (avg)" };
            format!("{now}/{}{suffix}", value.as_str().unwrap_or(""))
        }
        None => {
            let now = if known.is_some() {
                quantity(current("value")).unwrap_or_else(|| "0".into())
            } else {
                unknown()
            };
            format!("{now}/{}", quantity(target("value")).unwrap_or_else(|| "0".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn utilization_is_shown_in_percent() {
        let metric = node!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
        assert_eq!(one(&metric, None), "cpu: <unknown>/80%");
        let status = node!({"resource": {"current": {"averageUtilization": 7}}});
        assert_eq!(one(&metric, Some(&status)), "cpu: 7%/80%");
    }
}
