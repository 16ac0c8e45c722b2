//! What HorizontalPodAutoscalers are checked for, in the form of the newer version.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/autoscaling/validation/validation.go.
// PERFORMANCE: per-request path

use crate::autoscaling::conversion::convert;
use crate::validation::at::At;
use crate::validation::resource_names::container_resource_name;
use crate::validation::{common, values};
use fairlead_api::name;
use fairlead_api::{FieldErrors, Node};
use std::borrow::Cow;

const NEWER: &str = "autoscaling/v2";
const METRIC_TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
const PERIOD_LIMIT: i64 = 1800;
const WINDOW_LIMIT: i64 = 3600;

/// How the apiVersion of a reference is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    Any,
    /// The core group has no name.
    AnyGroup,
    NamedGroup,
}

pub fn create(object: &Node, errors: &mut FieldErrors) {
    let object = newer(object);
    common::object_meta(&object, true, name::name_is_dns_subdomain, errors);
    spec(&object, None, errors);
}

pub fn update(object: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(object, errors);
    spec(&newer(object), Some(&newer(old)), errors);
}

pub fn status(object: &Node, errors: &mut FieldErrors) {
    common::finalizers(object, errors);
    let at = At::root(object);
    let status = at.part("status");
    status.non_negative("currentReplicas", errors);
    status.non_negative("desiredReplicas", errors);
}

/// Both versions are checked as what the newer one says.
fn newer(object: &Node) -> Cow<'_, Node> {
    match object.str("apiVersion") {
        NEWER => Cow::Borrowed(object),
        _ => {
            let mut copy = object.clone();
            convert(&mut copy, NEWER);
            Cow::Owned(copy)
        }
    }
}

fn spec(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    let old = old.and_then(|old| old.get("spec"));
    let (minimum, maximum) = (spec.number("minReplicas"), spec.int("maxReplicas"));
    let was_zero = old.and_then(|old| old.get("minReplicas")).and_then(Node::as_i64) == Some(0);
    let lowest = i64::from(!was_zero);
    if let Some(minimum) = minimum.filter(|minimum| *minimum < lowest) {
        let detail = format!("must be greater than or equal to {lowest}");
        spec.invalid("minReplicas", minimum, detail, errors);
    }
    match maximum {
        0 => spec.required("maxReplicas", "must be set and greater than 0", errors),
        ..0 => spec.invalid("maxReplicas", maximum, "must be greater than or equal to 1", errors),
        _ => {}
    }
    if minimum.is_some_and(|minimum| maximum < minimum) {
        let detail = "must be greater than or equal to `minReplicas`";
        spec.invalid("maxReplicas", maximum, detail, errors);
    }
    let target = spec.part("scaleTargetRef");
    reference(&target, versions_of_target(&target, old), errors);
    metrics(&spec, versions_of_objects(old), errors);
    if let Some(behavior) = spec.get("behavior") {
        for rules in ["scaleUp", "scaleDown"] {
            if let Some(rules) = behavior.get(rules) {
                self::rules(&rules, errors);
            }
        }
    }
}

// === references ===

fn versions_of_target(target: &At, old: Option<&Node>) -> Versions {
    let old = old.map(|old| old.get("scaleTargetRef").unwrap_or(&Node::Null));
    let same = |old: &Node| {
        ["apiVersion", "kind"]
            .iter()
            .all(|field| old.str(field) == target.str(field))
    };
    match old {
        Some(old) if same(old) => Versions::Any,
        _ if target.str("kind") == "ReplicationController" => Versions::AnyGroup,
        _ => Versions::NamedGroup,
    }
}

/// Where a stored reference is invalid already, none is looked at.
fn versions_of_objects(old: Option<&Node>) -> Versions {
    let metrics = old.map_or(&[][..], |old| old.list("metrics"));
    let objects = metrics
        .iter()
        .filter(|m| m.str("type") == "Object")
        .filter_map(|m| m.get("object"));
    let invalid = |object: &Node| {
        let version = object.str_at(&["describedObject", "apiVersion"]);
        version_mistake(version, Versions::AnyGroup).is_some()
    };
    match objects.into_iter().any(invalid) {
        true => Versions::Any,
        false => Versions::AnyGroup,
    }
}

fn reference(at: &At, versions: Versions, errors: &mut FieldErrors) {
    values::required_path_segment(at, "kind", errors);
    values::required_path_segment(at, "name", errors);
    let version = at.str("apiVersion");
    if let Some(mistake) = version_mistake(version, versions) {
        at.invalid("apiVersion", version, mistake, errors);
    }
}

fn version_mistake(version: &str, versions: Versions) -> Option<String> {
    // COMPAT: a slash alone is no group and no version.
    let group = match version.matches('/').count() {
        0 => "",
        1 => version.split('/').next().unwrap_or_default(),
        _ if versions == Versions::Any => return None,
        _ => return Some(format!("unexpected GroupVersion string: {version}")),
    };
    (versions == Versions::NamedGroup && group.is_empty()).then(|| "apiVersion must specify API group".into())
}

// === behavior ===

fn rules(at: &At, errors: &mut FieldErrors) {
    if let Some(window) = at.number("stabilizationWindowSeconds") {
        if window < 0 {
            let detail = "must be greater than or equal to zero";
            at.invalid("stabilizationWindowSeconds", window, detail, errors);
        }
        if window > WINDOW_LIMIT {
            let detail = format!("must be less than or equal to {WINDOW_LIMIT}");
            at.invalid("stabilizationWindowSeconds", window, detail, errors);
        }
    }
    at.one_of_if_set("selectPolicy", &["Disabled", "Max", "Min"], errors);
    if at.len("policies") == 0 {
        at.required("policies", "must specify at least one Policy", errors);
    }
    for policy in at.each("policies") {
        policy.one_of("type", &["Percent", "Pods"], errors);
        policy.positive("value", errors);
        policy.positive("periodSeconds", errors);
        let period = policy.int("periodSeconds");
        if period > PERIOD_LIMIT {
            let detail = format!("must be less than or equal to {PERIOD_LIMIT}");
            policy.invalid("periodSeconds", period, detail, errors);
        }
    }
    if at.has("tolerance") {
        common::non_negative_quantity(at, "tolerance", errors);
    }
}

// === metrics ===

fn metrics(spec: &At, versions: Versions, errors: &mut FieldErrors) {
    let mut beyond_pods = false;
    for metric in spec.each("metrics") {
        self::metric(&metric, versions, errors);
        beyond_pods |= matches!(metric.str("type"), "Object" | "External");
    }
    if spec.number("minReplicas") == Some(0) && !beyond_pods {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        spec.forbidden("metrics", detail, errors);
    }
}

/// Sources of metrics in the order they are looked at, and their types.
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

fn metric(at: &At, versions: Versions, errors: &mut FieldErrors) {
    let kind = at.str("type");
    if kind.is_empty() {
        at.required("type", "must specify a metric source type", errors);
    }
    at.one_of("type", METRIC_TYPES, errors);
    let present: Vec<&str> = SOURCES
        .iter()
        .map(|(field, _)| *field)
        .filter(|field| at.has(field))
        .collect();
    if let Some(source) = present.first().and_then(|field| at.get(field)) {
        match present[0] {
            "object" => object(&source, versions, errors),
            "external" => external(&source, errors),
            "pods" => pods(&source, errors),
            "resource" => resource(&source, errors),
            _ => container_resource(&source, errors),
        }
    }
    let expected = SOURCES.iter().find(|(_, of)| *of == kind).map(|(field, _)| *field);
    match expected {
        Some(field) if !at.has(field) => {
            at.required(field, "must populate information for the given metric source", errors);
        }
        Some(_) => {}
        // COMPAT: an unknown type is told twice.
        None => at.one_of("type", METRIC_TYPES, errors),
    }
    if present.len() != 1 {
        for field in present.into_iter().filter(|field| Some(*field) != expected) {
            at.forbidden(field, "must populate the given metric source only", errors);
        }
    }
}

fn object(at: &At, versions: Versions, errors: &mut FieldErrors) {
    reference(&at.part("describedObject"), versions, errors);
    identifier(&at.part("metric"), errors);
    let target = at.part("target");
    self::target(&target, errors);
    if !target.has("value") && !target.has("averageValue") {
        target.required("averageValue", "must set either a target value or averageValue", errors);
    }
}

fn external(at: &At, errors: &mut FieldErrors) {
    identifier(&at.part("metric"), errors);
    let target = at.part("target");
    self::target(&target, errors);
    match (target.has("value"), target.has("averageValue")) {
        (false, false) => {
            let detail = "must set either a target value for metric or a per-pod target";
            target.required("averageValue", detail, errors);
        }
        (true, true) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            target.forbidden("value", detail, errors);
        }
        _ => {}
    }
}

fn pods(at: &At, errors: &mut FieldErrors) {
    identifier(&at.part("metric"), errors);
    let target = at.part("target");
    self::target(&target, errors);
    if !target.has("averageValue") {
        target.required("averageValue", "must specify a positive target averageValue", errors);
    }
}

fn resource(at: &At, errors: &mut FieldErrors) {
    if at.str("name").is_empty() {
        at.required("name", "must specify a resource name", errors);
    }
    raw_or_utilization(&at.part("target"), errors);
}

fn container_resource(at: &At, errors: &mut FieldErrors) {
    match at.str("name") {
        "" => at.required("name", "must specify a resource name", errors),
        name => container_resource_name(&at.part("name"), name, errors),
    }
    match at.str("container") {
        "" => at.required("container", "must specify a container", errors),
        _ => common::dns_label(at, "container", errors),
    }
    raw_or_utilization(&at.part("target"), errors);
}

fn raw_or_utilization(target: &At, errors: &mut FieldErrors) {
    self::target(target, errors);
    match (target.has("averageUtilization"), target.has("averageValue")) {
        (false, false) => {
            let detail = "must set either a target raw value or a target utilization";
            target.required("averageUtilization", detail, errors);
        }
        (true, true) => {
            let detail = "may not set both a target raw value and a target utilization";
            target.forbidden("averageValue", detail, errors);
        }
        _ => {}
    }
}

fn identifier(at: &At, errors: &mut FieldErrors) {
    match at.str("name") {
        "" => at.required("name", "must specify a metric name", errors),
        _ => values::path_segment(at, "name", errors),
    }
}

fn target(at: &At, errors: &mut FieldErrors) {
    let kind = at.str("type");
    if kind.is_empty() {
        at.required("type", "must specify a metric target type", errors);
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        at.invalid(
            "type",
            kind,
            "must be either Utilization, Value, or AverageValue",
            errors,
        );
    }
    for field in ["value", "averageValue"] {
        let value = common::quantity(at.node.get(field));
        if at.has(field) && value.sign() <= 0 {
            at.invalid(field, value.canonical(), "must be positive", errors);
        }
    }
    if let Some(utilization) = at.number("averageUtilization").filter(|u| *u < 1) {
        at.invalid("averageUtilization", utilization, "must be greater than 0", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn complaints(metric: Node) -> Vec<String> {
        let mut object = node!({"apiVersion": "autoscaling/v2", "metadata": {"name": "a", "namespace": "b"}, "spec": {
            "minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
        object.set_at(&["spec", "metrics"], vec![metric]);
        let mut errors = Vec::new();
        create(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_metric_has_the_source_of_its_type() {
        let target = node!({"type": "Utilization", "averageUtilization": 5});
        let mut metric = node!({"type": "Resource", "resource": {"name": "cpu"}});
        metric.set_at(&["resource", "target"], target);
        assert!(complaints(metric.clone()).is_empty());
        metric.set("type", "Pods");
        assert_eq!(
            complaints(metric),
            ["spec.metrics[0].pods: Required value: must populate information for the given metric source"]
        );
    }

    #[test]
    fn versions_name_a_group() {
        assert_eq!(version_mistake("apps/v1", Versions::NamedGroup), None);
        assert!(version_mistake("v1", Versions::NamedGroup).is_some());
        assert_eq!(version_mistake("v1", Versions::AnyGroup), None);
        assert!(version_mistake("a/b/c", Versions::AnyGroup).is_some());
        assert_eq!(version_mistake("a/b/c", Versions::Any), None);
    }
}
