//! Spreading pods over topologies, and the label keys that pods take their own values of.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::common;
use super::Leniency;
use fairlead_api::{FieldErrors, Map, Node, name};
use std::collections::HashSet;

const LIST: &str = "topologySpreadConstraints";
const NO_SELECTOR: &str = "must not be specified when labelSelector is not set";
const IN_BOTH: &str = "exists in both matchLabelKeys and labelSelector";

pub fn validate(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    for (i, constraint) in spec.each(LIST).enumerate() {
        constraint.positive("maxSkew", errors);
        let (key, action) = (constraint.str("topologyKey"), constraint.str("whenUnsatisfiable"));
        if key.is_empty() {
            constraint.required("topologyKey", "can not be empty", errors);
        }
        constraint.one_of("whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"], errors);
        let mut later = spec.list(LIST)[i + 1..].iter();
        if later.any(|other| other.str("topologyKey") == key && other.str("whenUnsatisfiable") == action) {
            let pair = format!("{{{key}, {action}}}");
            constraint.duplicate("{topologyKey, whenUnsatisfiable}", pair, errors);
        }
        if let Some(domains) = constraint.number("minDomains") {
            constraint.positive("minDomains", errors);
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                constraint.invalid("minDomains", domains, detail, errors);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.one_of_if_set(field, &["Honor", "Ignore"], errors);
        }
        if leniency.spread_label_keys {
            unmerged_label_keys(&constraint, errors);
        } else {
            match_label_keys(&constraint, errors);
        }
        if !leniency.spread_selector {
            common::label_selector(&constraint, "labelSelector", errors);
        }
    }
}

/// Only the selectors: whether a stored spec broke their rules.
pub fn selectors(spec: &At, errors: &mut FieldErrors) {
    for constraint in spec.each(LIST) {
        common::label_selector(&constraint, "labelSelector", errors);
    }
}

/// Only the label keys.
pub fn label_keys(spec: &At, errors: &mut FieldErrors) {
    for constraint in spec.each(LIST) {
        match_label_keys(&constraint, errors);
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys`, beside the selector that the former were merged into.
pub fn match_label_keys(at: &At, errors: &mut FieldErrors) {
    let selector = at.node.get("labelSelector").filter(|selector| !selector.is_null());
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        if at.len(list) > 0 && selector.is_none() {
            at.forbidden(list, NO_SELECTOR, errors);
            continue;
        }
        for key in at.each(list) {
            let text = key.node.as_str().unwrap_or_default();
            key.complain("", text, name::is_qualified_name(text), errors);
        }
    }
    if let Some(selector) = selector {
        let mut known: HashSet<&str> = keys_of_labels(selector).collect();
        for expression in selector.list("matchExpressions") {
            let key = expression.str("key");
            // The last of several keys counts.
            let index = at.strings("matchLabelKeys").filter(|(_, own)| *own == key).last();
            if let Some((i, _)) = index.filter(|_| known.contains(key)) {
                // COMPAT: the index is put after the wrong field.
                errors.push(fairlead_api::FieldError::invalid(&at.path().index(i), key, IN_BOTH));
            }
            known.insert(key);
        }
    }
    let mismatched: HashSet<&str> = at.strings("mismatchLabelKeys").map(|(_, key)| key).collect();
    for key in at.each("matchLabelKeys") {
        let text = key.node.as_str().unwrap_or_default();
        if mismatched.contains(text) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            key.invalid("", text, detail, errors);
        }
    }
}

/// The rule for constraints that were stored before keys were merged into selectors.
fn unmerged_label_keys(at: &At, errors: &mut FieldErrors) {
    if at.len("matchLabelKeys") == 0 {
        return;
    }
    let selector = at.node.get("labelSelector").filter(|selector| !selector.is_null());
    let mut known: HashSet<&str> = HashSet::new();
    match selector {
        None => at.forbidden("matchLabelKeys", NO_SELECTOR, errors),
        Some(selector) => {
            known.extend(keys_of_labels(selector));
            known.extend(selector.list("matchExpressions").iter().map(|e| e.str("key")));
        }
    }
    for key in at.each("matchLabelKeys") {
        let text = key.node.as_str().unwrap_or_default();
        key.complain("", text, name::is_qualified_name(text), errors);
        if known.contains(text) {
            key.invalid("", text, IN_BOTH, errors);
        }
    }
}

fn keys_of_labels(selector: &Node) -> impl Iterator<Item = &str> {
    let labels = selector.get("matchLabels").and_then(Node::as_map);
    labels.into_iter().flat_map(Map::keys).map(|key| key.as_str())
}
