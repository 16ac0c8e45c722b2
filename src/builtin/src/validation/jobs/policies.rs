//! Policies of jobs: which failures count, when enough has succeeded, when pods are replaced.

use super::super::at::At;
use super::super::{common, shown};
use super::{INDEXED_ONLY, indexes};
use fairlead_api::{FieldErrors, Node};
use std::collections::HashSet;

pub fn pod_failure(spec: &At, errors: &mut FieldErrors) {
    let Some(policy) = spec.get("podFailurePolicy") else {
        return;
    };
    let rules = policy.len("rules");
    if rules > 20 {
        policy.too_many("rules", rules, 20, errors);
    }
    let names = |list: &str| crate::value::list(spec.node, &["template", "spec", list]);
    let containers = names("containers").iter().chain(names("initContainers"));
    let containers: HashSet<&str> = containers.map(|container| container.str("name")).collect();
    for rule in policy.each("rules") {
        failure_rule(&rule, spec.has("backoffLimitPerIndex"), &containers, errors);
    }
}

fn failure_rule(rule: &At, per_index: bool, containers: &HashSet<&str>, errors: &mut FieldErrors) {
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    match rule.str("action") {
        "FailIndex" if !per_index => {
            rule.invalid(
                "action",
                "FailIndex",
                "requires the backoffLimitPerIndex to be set",
                errors,
            );
        }
        _ => required_value(rule, "action", ACTIONS, errors),
    }
    let codes = rule.get("onExitCodes");
    if let Some(codes) = &codes {
        exit_codes(codes, containers, errors);
    }
    let patterns = rule.len("onPodConditions");
    if patterns > 20 {
        rule.too_many("onPodConditions", patterns, 20, errors);
    }
    for pattern in rule.each("onPodConditions") {
        common::qualified_name(&pattern, "type", errors);
        required_value(&pattern, "status", &["False", "True", "Unknown"], errors);
    }
    let detail = match (codes.is_some(), patterns > 0) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    invalid_without_value(rule, "", detail, errors);
}

/// An error that says only that the value is invalid.
pub fn invalid_without_value(at: &At, field: &str, detail: &str, errors: &mut FieldErrors) {
    // COMPAT: the value is left out, with its colon.
    at.invalid(field, Node::Null, detail, errors);
    if let Some(error) = errors.last_mut() {
        error.shown = Some(std::mem::take(&mut error.detail));
    }
}

fn required_value(at: &At, field: &str, supported: &[&str], errors: &mut FieldErrors) {
    if at.str(field).is_empty() {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        at.required(field, &format!("valid values: [{}]", quoted.join(" ")), errors);
    } else {
        at.one_of(field, supported, errors);
    }
}

fn exit_codes(codes: &At, containers: &HashSet<&str>, errors: &mut FieldErrors) {
    required_value(codes, "operator", &["In", "NotIn"], errors);
    if let Some(container) = codes.text("containerName").filter(|name| !containers.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        codes.invalid("containerName", container, detail, errors);
    }
    let values: Vec<i64> = codes.list("values").iter().filter_map(Node::as_i64).collect();
    let text = || shown::json("[]int", codes.node.get("values"));
    match values.len() {
        0 => codes.invalid_shown("values", text(), "at least one value is required", errors),
        1..=255 => {}
        many => codes.too_many("values", many, 255, errors),
    }
    let mut seen = HashSet::new();
    for value in codes.each("values") {
        let code = value.node.as_i64().unwrap_or_default();
        if codes.str("operator") == "In" && code == 0 {
            value.invalid("", code, "must not be 0 for the In operator", errors);
        }
        if !seen.insert(code) {
            value.duplicate("", code, errors);
        }
    }
    if values.windows(2).any(|pair| pair[0] > pair[1]) {
        codes.invalid_shown("values", text(), "must be ordered", errors);
    }
}

pub fn success(spec: &At, errors: &mut FieldErrors) {
    let Some(policy) = spec.get("successPolicy") else {
        return;
    };
    if spec.str("completionMode") != "Indexed" {
        let text = shown::json("batch.SuccessPolicy", Some(policy.node));
        policy.invalid_shown("", text, INDEXED_ONLY, errors);
        return;
    }
    let rules = policy.len("rules");
    if rules == 0 {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        policy.required("rules", detail, errors);
    }
    if rules > 20 {
        policy.too_many("rules", rules, 20, errors);
    }
    for rule in policy.each("rules") {
        success_rule(&rule, spec.int("completions"), errors);
    }
}

fn success_rule(rule: &At, completions: i64, errors: &mut FieldErrors) {
    const LIMIT: usize = 64 * 1024;
    let (count, indexes) = (rule.number("succeededCount"), rule.text("succeededIndexes"));
    if count.is_none() && indexes.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        rule.required("", detail, errors);
    }
    let mut total = 0;
    if let Some(text) = indexes {
        if text.len() > LIMIT {
            rule.too_long("succeededIndexes", LIMIT as i64, errors);
        }
        match indexes::count(text, completions) {
            Ok(count) => total = count,
            Err(why) => {
                let detail = format!("error parsing succeededIndexes: {why}");
                rule.invalid("succeededIndexes", text, detail, errors);
            }
        }
    }
    let Some(count) = count else { return };
    rule.non_negative("succeededCount", errors);
    let mut at_most = |most: i64, what: &str| {
        let detail = format!("must be less than or equal to {most} (the number of {what})");
        rule.invalid("succeededCount", count, detail, errors);
    };
    if count > completions {
        at_most(completions, "specified completions");
    }
    if indexes.is_some() && count > total {
        at_most(total, "indexes in the specified succeededIndexes field");
    }
}

pub fn pod_replacement(spec: &At, errors: &mut FieldErrors) {
    let supported: &[&str] = match spec.has("podFailurePolicy") {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    spec.one_of_if_set("podReplacementPolicy", supported, errors);
}
