//! What webhooks, policies and bindings match: rules, selectors, match conditions.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/admissionregistration/validation/validation.go.
// PERFORMANCE: per-request path

use super::expressions::{Compiler, Purpose};
use crate::validation::at::At;
use crate::validation::{common, shown};
use fairlead_api::{FieldError, FieldErrors, name};
use std::collections::BTreeSet;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
pub const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
pub const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const MAX_CONDITIONS: usize = 64;

// === rules ===

/// A `RuleWithOperations`.
pub fn rule(at: &At, errors: &mut FieldErrors) {
    if at.len("operations") == 0 {
        at.required("operations", "", errors);
    }
    only_wildcard(at, "operations", "operations", errors);
    for operation in at.each("operations") {
        let text = operation.node.as_str().unwrap_or_default();
        if !OPERATIONS.contains(&text) {
            operation.not_supported("", text, OPERATIONS, errors);
        }
    }
    if at.len("apiGroups") == 0 {
        at.required("apiGroups", "", errors);
    }
    only_wildcard(at, "apiGroups", "API groups", errors);
    if at.len("apiVersions") == 0 {
        at.required("apiVersions", "", errors);
    }
    only_wildcard(at, "apiVersions", "API versions", errors);
    for version in at
        .each("apiVersions")
        .filter(|version| version.node.as_str() == Some(""))
    {
        version.required("", "", errors);
    }
    resources(at, errors);
    at.one_of_if_set("scope", &["*", "Cluster", "Namespaced"], errors);
}

/// A star among others is one too many.
fn only_wildcard(at: &At, field: &str, others: &str, errors: &mut FieldErrors) {
    if at.len(field) > 1 && at.strings(field).any(|(_, value)| value == "*") {
        let detail = format!("if '*' is present, must not specify other {others}");
        refuse_list(at, field, &detail, errors);
    }
}

fn refuse_list(at: &At, field: &str, detail: &str, errors: &mut FieldErrors) {
    let shown = shown::json("[]string", at.node.get(field));
    at.invalid_shown(field, shown, detail, errors);
}

/// Resources and subresources; a wildcard covers what comes after it.
fn resources(at: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "resources";
    if at.len(FIELD) == 0 {
        at.required(FIELD, "", errors);
    }
    let (mut resources, mut subresources) = (BTreeSet::new(), BTreeSet::new());
    // COMPAT: of the resources without subresource, the last one decides.
    let (mut all, mut star, mut plain) = (false, false, false);
    for (i, text) in at.strings(FIELD) {
        let path = at.path_of(FIELD).index(i);
        if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        all |= text == "*/*";
        star |= text == "*";
        let Some((resource, subresource)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if resources.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(FieldError::invalid(&path, text, detail));
        }
        if subresources.contains(subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {text}");
            errors.push(FieldError::invalid(&path, text, detail));
        }
        if subresource == "*" {
            resources.insert(resource);
        }
        if resource == "*" {
            subresources.insert(subresource);
        }
    }
    if all && at.len(FIELD) > 1 {
        let detail = "if '*/*' is present, must not specify other resources";
        refuse_list(at, FIELD, detail, errors);
    }
    if star && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        refuse_list(at, FIELD, detail, errors);
    }
}

// === what policies match ===

/// A `MatchResources`; the admission of new types was strict from the start.
pub fn match_resources(at: &At, errors: &mut FieldErrors) {
    match at.has("matchPolicy") {
        true => at.one_of("matchPolicy", MATCH_POLICIES, errors),
        false => at.required("matchPolicy", "", errors),
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        match at.has(selector) {
            true => common::label_selector(at, selector, errors),
            false => at.required(selector, "", errors),
        }
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in at.each(rules) {
            named_rule(&rule, errors);
        }
    }
}

fn named_rule(at: &At, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    for (i, text) in at.strings("resourceNames") {
        let path = at.path_of("resourceNames").index(i);
        fairlead_api::metadata::complain(errors, &path, text, name::name_is_path_segment(text, false));
        if !names.insert(text) {
            errors.push(FieldError::duplicate(&path, text));
        }
    }
    rule(at, errors);
}

/// What is deleted is not mutated.
pub fn mutable_operations(at: &At, errors: &mut FieldErrors) {
    const MUTABLE: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
    let rules = at.list("resourceRules").iter().flat_map(|rule| rule.list("operations"));
    for operation in rules.filter_map(|operation| operation.as_str()) {
        if !MUTABLE.contains(&operation) {
            // COMPAT: the path has no indices.
            let path = at.path_of("resourceRules").child("operations");
            errors.push(FieldError::not_supported(&path, operation, MUTABLE));
        }
    }
}

// === match conditions ===

pub fn match_conditions(at: &At, compiler: &Compiler, errors: &mut FieldErrors) {
    const FIELD: &str = "matchConditions";
    if at.len(FIELD) > MAX_CONDITIONS {
        at.too_many(FIELD, at.len(FIELD), MAX_CONDITIONS, errors);
    }
    let mut names = BTreeSet::new();
    for condition in at.each(FIELD) {
        match condition.str("expression").trim() {
            "" => condition.required("expression", "", errors),
            text => compiler.check(Purpose::MatchCondition, &condition, "expression", text, errors),
        }
        let name = condition.str("name");
        if condition.require("name", errors) {
            common::qualified_name(&condition, "name", errors);
            if !names.insert(name.to_owned()) {
                condition.duplicate("name", name, errors);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::{Node, node};

    fn complaints(resources: Node) -> Vec<String> {
        let mut object = node!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"]});
        object.set("resources", resources);
        let mut errors = Vec::new();
        rule(&At::root(&object), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wildcards_cover_what_follows() {
        assert!(complaints(node!(["pods", "pods/*"])).is_empty());
        assert_eq!(
            complaints(node!(["a/*", "a/b"])),
            [r#"resources[1]: Invalid value: "a/b": if 'a/*' is present, must not specify a/b"#]
        );
        assert_eq!(
            complaints(node!(["*", "a"])),
            [
                r#"resources: Invalid value: ["*","a"]: if '*' is present, must not specify other resources without subresources"#
            ]
        );
        assert_eq!(complaints(node!([""])), ["resources[0]: Required value"]);
    }
}
