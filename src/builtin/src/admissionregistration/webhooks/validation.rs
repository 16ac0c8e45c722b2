//! What webhook configurations are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/admissionregistration/validation/validation.go.
// PERFORMANCE: per-request path

use crate::admissionregistration::expressions::Compiler;
use crate::admissionregistration::rules::{self, FAILURE_POLICIES, MATCH_POLICIES};
use crate::validation::at::At;
use crate::validation::{common, shown, values};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::webhook::{validate_service, validate_url};
use fairlead_api::{FieldErrors, Node, name};
use std::collections::BTreeSet;

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];

/// What an update lets pass because the stored object has it already.
#[derive(Clone, Copy, Default)]
struct Leniency {
    any_conditions: bool,
    any_side_effects: bool,
    any_versions: bool,
    duplicate_names: bool,
    selectors: SelectorLeniency,
}

impl Leniency {
    fn of(new: &Node, old: &Node) -> Leniency {
        let (new, old) = (new.list("webhooks"), old.list("webhooks"));
        let names: BTreeSet<&str> = old.iter().map(|hook| hook.str("name")).collect();
        let conditions = |hook: &Node| hook.list("matchConditions").to_vec();
        let understood = |hook: &Node| {
            let versions = hook.list("admissionReviewVersions");
            versions.is_empty()
                || versions
                    .iter()
                    .any(|version| is_accepted(version.as_str().unwrap_or_default()))
        };
        let selectors = old
            .iter()
            .flat_map(|hook| [hook.get("namespaceSelector"), hook.get("objectSelector")]);
        Leniency {
            any_conditions: new.len() == old.len()
                && new.iter().zip(old).all(|(new, old)| conditions(new) == conditions(old)),
            any_side_effects: !old
                .iter()
                .all(|hook| SIDE_EFFECTS[..2].contains(&hook.str("sideEffects"))),
            any_versions: !old.iter().all(understood),
            duplicate_names: names.len() < old.len(),
            selectors: selectors
                .map(values::leniency_for)
                .find(|leniency| leniency.any_values)
                .unwrap_or_default(),
        }
    }
}

/// A configuration of either kind; `old` is what is stored.
pub fn validate(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    values::plain_meta(object, false, name::name_is_dns_subdomain, errors);
    let leniency = old.map_or(Leniency::default(), |old| Leniency::of(object, old));
    let at = At::root(object);
    let mut names = BTreeSet::new();
    for hook in at.each("webhooks") {
        webhook(&hook, leniency, errors);
        versions(&hook, leniency, errors);
        let name = hook.str("name");
        if !leniency.duplicate_names && !name.is_empty() && !names.insert(name.to_owned()) {
            hook.duplicate("name", name, errors);
        }
    }
}

fn webhook(at: &At, leniency: Leniency, errors: &mut FieldErrors) {
    let name = at.str("name");
    if at.require("name", errors) {
        at.complain("name", name, name::is_fully_qualified_name(name), errors);
    }
    for rule in at.each("rules") {
        rules::rule(&rule, errors);
    }
    at.one_of_if_set("failurePolicy", FAILURE_POLICIES, errors);
    at.one_of_if_set("matchPolicy", MATCH_POLICIES, errors);
    let side_effects = if leniency.any_side_effects {
        SIDE_EFFECTS
    } else {
        &SIDE_EFFECTS[..2]
    };
    match at.has("sideEffects") {
        true => at.one_of("sideEffects", side_effects, errors),
        false => {
            let detail = format!("must specify one of {}", side_effects.join(", "));
            at.required("sideEffects", &detail, errors);
        }
    }
    if let Some(seconds) = at
        .number("timeoutSeconds")
        .filter(|seconds| !(1..=30).contains(seconds))
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        at.invalid("timeoutSeconds", seconds, detail, errors);
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        common::label_selector_with(at, selector, leniency.selectors, errors);
    }
    at.one_of_if_set("reinvocationPolicy", &["IfNeeded", "Never"], errors);
    client(at, errors);
    if !leniency.any_conditions {
        rules::match_conditions(at, &Compiler::new(false), errors);
    }
}

fn client(at: &At, errors: &mut FieldErrors) {
    let client = at.part("clientConfig");
    match (client.text("url"), client.get("service")) {
        (Some(url), None) => errors.extend(validate_url(url, &client.path_of("url"))),
        (None, Some(service)) => errors.extend(validate_service(service.node, &service.path())),
        _ => at.required("clientConfig", "exactly one of url or service is required", errors),
    }
}

fn versions(at: &At, leniency: Leniency, errors: &mut FieldErrors) {
    const FIELD: &str = "admissionReviewVersions";
    if at.len(FIELD) == 0 {
        let detail = format!("must specify one of {}", VERSIONS.join(", "));
        return at.required(FIELD, &detail, errors);
    }
    let mut seen = BTreeSet::new();
    for version in at.each(FIELD) {
        let text = version.node.as_str().unwrap_or_default();
        if !seen.insert(text.to_owned()) {
            version.invalid("", text, "duplicate version", errors);
            continue;
        }
        version.complain("", text, name::is_dns1035_label(text), errors);
    }
    if !leniency.any_versions && !at.strings(FIELD).any(|(_, version)| is_accepted(version)) {
        let detail = format!("must include at least one of {}", VERSIONS.join(", "));
        at.invalid_shown(FIELD, shown::json("[]string", at.node.get(FIELD)), &detail, errors);
    }
}

fn is_accepted(version: &str) -> bool {
    VERSIONS.contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn configuration(hook: Node) -> Node {
        let mut object = node!({"metadata": {"name": "a"}});
        object.set("webhooks", vec![hook]);
        object
    }

    #[test]
    fn what_was_stored_may_have_side_effects() {
        let hook = |effects: &str| {
            let mut hook = node!({"name": "a.example.com", "clientConfig": {"url": "https://h/"}, "admissionReviewVersions": ["v1"]});
            hook.set("sideEffects", effects);
            configuration(hook)
        };
        let count = |new: &str, old: Option<&str>| {
            let mut errors = Vec::new();
            validate(&hook(new), old.map(hook).as_ref(), &mut errors);
            errors.len()
        };
        assert_eq!(count("None", None), 0);
        assert_eq!(count("Some", None), 1);
        assert_eq!(count("Some", Some("None")), 1);
        assert_eq!(count("Some", Some("Unknown")), 0);
    }

    #[test]
    fn versions_are_understood() {
        let mut errors = Vec::new();
        let hook = node!({"name": "a.example.com", "sideEffects": "None", "clientConfig": {"url": "https://h/"}, "admissionReviewVersions": ["v9"]});
        validate(&configuration(hook), None, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [r#"webhooks[0].admissionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1"#]
        );
    }
}
