//! Where a pod may run: affinity, node selectors, tolerations, gates.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::common;
use super::{Leniency, spread};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::{FieldErrors, name};
use std::collections::HashSet;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const BAD_OPERATOR: &str = "not a valid selector operator";
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub fn affinity(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let Some(affinity) = spec.get("affinity") else { return };
    if let Some(node) = affinity.get("nodeAffinity") {
        if let Some(selector) = node.get(REQUIRED) {
            node_selector(&selector, leniency.node_affinity_label_values, errors);
        }
        preferred_terms(&node, errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.get(kind) else { continue };
        for term in pods.each(REQUIRED) {
            pod_term(&term, leniency.affinity_label_values, errors);
        }
        for weighted in pods.each(PREFERRED) {
            weight(&weighted, errors);
            let term = weighted.part("podAffinityTerm");
            pod_term(&term, leniency.affinity_label_values, errors);
        }
    }
}

fn weight(at: &At, errors: &mut FieldErrors) {
    let weight = at.int("weight");
    if !(1..=100).contains(&weight) {
        at.invalid("weight", weight, "must be in the range 1-100", errors);
    }
}

fn pod_term(term: &At, any_values: bool, errors: &mut FieldErrors) {
    term_selectors(term, any_values, errors);
    for (_, namespace) in term.strings("namespaces") {
        // COMPAT: reported as one namespace, without index.
        let complaints = name::name_is_dns_label(namespace, false);
        term.complain("namespace", namespace, complaints, errors);
    }
    spread::match_label_keys(term, errors);
    let key = term.str("topologyKey");
    if key.is_empty() {
        term.required("topologyKey", "can not be empty", errors);
    }
    term.complain("topologyKey", key, name::is_qualified_name(key), errors);
}

fn term_selectors(term: &At, any_values: bool, errors: &mut FieldErrors) {
    let leniency = SelectorLeniency {
        any_values,
        ..SelectorLeniency::default()
    };
    for field in ["labelSelector", "namespaceSelector"] {
        common::label_selector_with(term, field, leniency, errors);
    }
}

pub fn has_bad_affinity_values(spec: &At) -> bool {
    let Some(affinity) = spec.get("affinity") else {
        return false;
    };
    let mut errors = FieldErrors::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.get(kind) else { continue };
        for term in pods.each(REQUIRED) {
            term_selectors(&term, false, &mut errors);
        }
        for weighted in pods.each(PREFERRED) {
            term_selectors(&weighted.part("podAffinityTerm"), false, &mut errors);
        }
    }
    !errors.is_empty()
}

// === node selectors ===

/// A `NodeSelector`: also of volumes.
pub fn node_selector(at: &At, any_values: bool, errors: &mut FieldErrors) {
    if at.len("nodeSelectorTerms") == 0 {
        let detail = "must have at least one node selector term";
        at.required("nodeSelectorTerms", detail, errors);
    }
    for term in at.each("nodeSelectorTerms") {
        node_selector_term(&term, any_values, errors);
    }
}

fn preferred_terms(at: &At, errors: &mut FieldErrors) {
    for term in at.each(PREFERRED) {
        weight(&term, errors);
        node_selector_term(&term.part("preference"), true, errors);
    }
}

fn node_selector_term(term: &At, any_values: bool, errors: &mut FieldErrors) {
    for requirement in term.each("matchExpressions") {
        node_requirement(&requirement, any_values, errors);
    }
    for requirement in term.each("matchFields") {
        node_field_requirement(&requirement, errors);
    }
}

fn node_requirement(at: &At, any_values: bool, errors: &mut FieldErrors) {
    let (operator, count) = (at.str("operator"), at.len("values"));
    match operator {
        "In" | "NotIn" if count == 0 => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            at.required("values", detail, errors);
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            at.forbidden("values", detail, errors);
        }
        "Gt" | "Lt" if count != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            at.required("values", detail, errors);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => at.invalid("operator", operator, BAD_OPERATOR, errors),
    }
    common::qualified_name(at, "key", errors);
    if !any_values {
        for value in at.each("values") {
            let text = value.node.as_str().unwrap_or_default();
            value.complain("", text, name::is_valid_label_value(text), errors);
        }
    }
}

fn node_field_requirement(at: &At, errors: &mut FieldErrors) {
    let (operator, key) = (at.str("operator"), at.str("key"));
    match operator {
        "In" | "NotIn" if at.len("values") != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            at.required("values", detail, errors);
        }
        "In" | "NotIn" => {}
        _ => at.invalid("operator", operator, BAD_OPERATOR, errors),
    }
    if key != "metadata.name" {
        at.invalid("key", key, "not a valid field selector key", errors);
        return;
    }
    for value in at.each("values") {
        let text = value.node.as_str().unwrap_or_default();
        value.complain("", text, name::name_is_dns_subdomain(text, false), errors);
    }
}

pub fn has_bad_node_affinity_values(spec: &At) -> bool {
    let selector = spec.node.at(&["affinity", "nodeAffinity", REQUIRED]);
    selector.is_some_and(has_bad_node_values)
}

/// Whether a `NodeSelector` has values no label can have.
pub fn has_bad_node_values(selector: &fairlead_api::Node) -> bool {
    let terms = selector.list("nodeSelectorTerms").iter();
    let expressions = terms.flat_map(|term| term.list("matchExpressions"));
    let mut values = expressions.flat_map(|expression| expression.list("values"));
    values.any(|value| !name::is_valid_label_value(value.as_str().unwrap_or_default()).is_empty())
}

// === tolerations and gates ===

/// Also of runtime classes.
pub fn tolerations(at: &At, list: &str, comparisons: bool, errors: &mut FieldErrors) {
    const OPERATORS: &[&str] = &["Equal", "Exists"];
    for toleration in at.each(list) {
        let (key, operator, value) = (
            toleration.str("key"),
            toleration.str("operator"),
            toleration.str("value"),
        );
        if !key.is_empty() {
            common::qualified_name(&toleration, "key", errors);
        }
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            toleration.invalid("operator", operator, detail, errors);
        }
        if toleration.has("tolerationSeconds") && toleration.str("effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            toleration.invalid("effect", toleration.str("effect"), detail, errors);
        }
        match operator {
            "Equal" | "" => {
                let complaints = name::is_valid_label_value(value);
                if !complaints.is_empty() {
                    toleration.invalid("operator", value, complaints.join(";"), errors);
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    toleration.invalid("operator", value, detail, errors);
                }
            }
            "Lt" | "Gt" if comparisons => decimal(&toleration, value, errors),
            "Lt" | "Gt" => {
                toleration.not_supported("operator", operator, &["Equal", "Exists", "Lt", "Gt"], errors);
            }
            _ => toleration.not_supported("operator", operator, OPERATORS, errors),
        }
        if !toleration.str("effect").is_empty() {
            toleration.one_of("effect", EFFECTS, errors);
        }
    }
}

fn decimal(toleration: &At, value: &str, errors: &mut FieldErrors) {
    if value.parse::<i64>().is_err() {
        let detail = format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
        toleration.invalid("value", value, detail, errors);
    }
}

/// The effect of a taint, which must have one.
pub fn taint_effect(taint: &At, errors: &mut FieldErrors) {
    taint.required_one_of("effect", EFFECTS, errors);
}

pub fn gates(spec: &At, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for gate in spec.each("schedulingGates") {
        let name = gate.str("name");
        gate.complain("", name, name::is_qualified_name(name), errors);
        if !seen.insert(name) {
            gate.duplicate("", name, errors);
        }
    }
}
