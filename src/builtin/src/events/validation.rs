//! What Events are checked for, under the core group's field names. Only the newer group is strict.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/core/validation/events.go.
// PERFORMANCE: per-request path

use super::conversion::convert;
use crate::validation::at::At;
use crate::validation::{common, shown, values};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};
use std::borrow::Cow;

const LIMIT: usize = 128;
const MESSAGE_LIMIT: usize = 1024;

/// An Event of the core group.
pub fn core(event: &Node, errors: &mut FieldErrors) {
    lenient(event, "reportingComponent", errors);
}

/// A new Event of `events.k8s.io`.
pub fn create(event: &Node, errors: &mut FieldErrors) {
    let event = in_core(event);
    lenient(&event, "reportingController", errors);
    common::object_meta(&event, true, name::name_is_dns_subdomain, errors);
    series(&event, errors);
    let at = At::root(&event);
    if !at.has("eventTime") {
        at.required("eventTime", "", errors);
    }
    let kind = at.str("type");
    if !matches!(kind, "Normal" | "Warning") {
        at.invalid("type", "", format!("has invalid value: {kind}"), errors);
    }
    let source = at.part("source");
    let set = [
        ("firstTimestamp", at.has("firstTimestamp")),
        ("lastTimestamp", at.has("lastTimestamp")),
        ("count", at.int("count") != 0),
        (
            "source",
            !source.str("component").is_empty() || !source.str("host").is_empty(),
        ),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        at.invalid(field, "", "needs to be unset", errors);
    }
}

/// An Event of `events.k8s.io` that changes: only its series may.
pub fn update(event: &Node, old: &Node, errors: &mut FieldErrors) {
    let (event, old) = (in_core(event), in_core(old));
    lenient(&event, "reportingController", errors);
    values::metadata_update(&event, &old, errors);
    if event.get("series") != old.get("series") {
        series(&event, errors);
    }
    // Members, how errors call them, and their types, in the order they are compared.
    const FIXED: [(&str, &str, &str); 14] = [
        ("involvedObject", "involvedObject", "core.ObjectReference"),
        ("reason", "reason", "string"),
        ("message", "message", "string"),
        ("source", "source", "core.EventSource"),
        ("firstTimestamp", "firstTimestamp", "time"),
        ("lastTimestamp", "lastTimestamp", "time"),
        ("count", "count", "int"),
        // COMPAT: looked at twice.
        ("reason", "reason", "string"),
        ("type", "type", "string"),
        ("eventTime", "eventTime", "time"),
        ("action", "action", "string"),
        ("related", "related", "*core.ObjectReference"),
        ("reportingComponent", "reportingController", "string"),
        ("reportingInstance", "reportingInstance", "string"),
    ];
    for (field, called, kind) in FIXED {
        let (new, old) = (event.get(field), old.get(field));
        if !shown::equal(kind, new, old) {
            errors.push(common::changed(&FieldPath::new(called), new, kind, common::IMMUTABLE));
        }
    }
}

fn in_core(event: &Node) -> Cow<'_, Node> {
    match event.str("apiVersion") {
        "v1" => Cow::Borrowed(event),
        _ => {
            let mut copy = event.clone();
            convert(&mut copy, "v1");
            Cow::Owned(copy)
        }
    }
}

fn series(event: &Node, errors: &mut FieldErrors) {
    let at = At::root(event);
    let Some(series) = at.get("series") else { return };
    if series.int("count") < 2 {
        series.invalid("count", "", "should be at least 2", errors);
    }
    if !series.has("lastObservedTime") {
        series.required("lastObservedTime", "", errors);
    }
}

/// The rules of every Event; those with an event time have to say more.
fn lenient(event: &Node, controller: &str, errors: &mut FieldErrors) {
    let at = At::root(event);
    let involved = at.part("involvedObject");
    let (namespace, own) = (involved.str("namespace"), event.namespace());
    let timed = at.has("eventTime");
    let agrees = match (namespace, timed) {
        ("", true) => matches!(own, "default" | "kube-system"),
        ("", false) => matches!(own, "" | "default"),
        (_, true) => true,
        (_, false) => namespace == own,
    };
    if !agrees {
        involved.invalid("namespace", namespace, "does not match event.namespace", errors);
    }
    if timed {
        attributed(&at, controller, errors);
    }
    let complaints = name::is_dns1123_subdomain(own);
    at.complain("namespace", own, complaints, errors);
}

fn attributed(at: &At, controller: &str, errors: &mut FieldErrors) {
    let reporter = at.str("reportingComponent");
    let path = FieldPath::new(controller);
    if reporter.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    fairlead_api::metadata::complain(errors, &path, reporter, name::is_qualified_name(reporter));
    for field in ["reportingInstance", "action", "reason"] {
        at.require(field, errors);
        at_most(at, field, LIMIT, errors);
    }
    at_most(at, "message", MESSAGE_LIMIT, errors);
}

fn at_most(at: &At, field: &str, limit: usize, errors: &mut FieldErrors) {
    if at.str(field).len() > limit {
        at.invalid(field, "", format!("can have at most {limit} characters"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn event() -> Node {
        node!({"apiVersion": "events.k8s.io/v1", "metadata": {"name": "a", "namespace": "default", "resourceVersion": "1"},
            "eventTime": "2020-01-01T00:00:00.000000Z", "type": "Normal", "action": "a", "reason": "r",
            "reportingController": "c", "reportingInstance": "i"})
    }

    fn texts(check: impl FnOnce(&mut FieldErrors)) -> Vec<String> {
        let mut errors = Vec::new();
        check(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn old_fields_stay_unset_in_the_newer_group() {
        assert!(texts(|errors| create(&event(), errors)).is_empty());
        let mut object = event();
        object.set("deprecatedCount", 3);
        assert_eq!(
            texts(|errors| create(&object, errors)),
            [r#"count: Invalid value: "": needs to be unset"#]
        );
    }

    #[test]
    fn only_series_change() {
        let mut new = event();
        new.set(
            "series",
            node!({"count": 2, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}),
        );
        assert!(texts(|errors| update(&new, &event(), errors)).is_empty());
        new.set("reason", "other");
        assert_eq!(
            texts(|errors| update(&new, &event(), errors)),
            [r#"reason: Invalid value: "other": field is immutable"#; 2]
        );
    }

    #[test]
    fn an_event_is_in_the_namespace_of_its_object() {
        let event = node!({"apiVersion": "v1", "metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}});
        assert_eq!(
            texts(|errors| core(&event, errors)),
            [r#"involvedObject.namespace: Invalid value: "b": does not match event.namespace"#]
        );
    }
}
