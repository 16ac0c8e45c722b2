//! StorageClasses and VolumeAttributesClasses.

use crate::cells::{Row, or as text_or};
use crate::networking::ingressclasses::default_name;
use crate::validation::at::At;
use crate::validation::{common, node_labels, shown, values};
use crate::value::or;
use fairlead_api::name;
use fairlead_api::{FieldError, FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};
use std::collections::{BTreeMap, BTreeSet};

const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

pub struct StorageClasses;

impl Hooks for StorageClasses {
    fn default(&self, object: &mut Node) {
        or(object, "reclaimPolicy", "Delete");
        or(object, "volumeBindingMode", "Immediate");
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        class(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        class(object, errors);
        values::metadata_update(object, old, errors);
        let at = At::root(object);
        common::immutable(&at, old, "parameters", "{}string", errors);
        common::immutable(&at, old, "provisioner", "string", errors);
        common::immutable(&at, old, "reclaimPolicy", "*string", errors);
        common::immutable(&at, old, "volumeBindingMode", "*string", errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        let at = At::root(object);
        let mut warnings = Vec::new();
        for term in at.each("allowedTopologies") {
            for requirement in term.each("matchLabelExpressions") {
                let said = node_labels::deprecation(requirement.str("key"));
                warnings.extend(said.map(|said| format!("{}: {said}", requirement.path_of("key"))));
            }
        }
        warnings
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::new(object, now_seconds)
            .cell(default_name(object, &DEFAULT_CLASS))
            .text(&["provisioner"])
            .cell(text_or(object.str("reclaimPolicy"), "Delete"))
            .cell(text_or(object.str("volumeBindingMode"), "Immediate"))
            .flag(&["allowVolumeExpansion"])
            .age()
            .done()
    }
}

pub struct VolumeAttributesClasses;

impl Hooks for VolumeAttributesClasses {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        attributes(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::finalizers(object, errors);
        let at = At::root(object);
        if object.str("driverName") != old.str("driverName") {
            at.forbidden("driverName", "updates to driverName are forbidden.", errors);
        }
        if !shown::equal("{}string", object.get("parameters"), old.get("parameters")) {
            at.forbidden("parameters", "updates to parameters are forbidden.", errors);
        }
        attributes(object, errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).text(&["driverName"]).age().done()
    }
}

// === validation ===
//
// Source of the rules, their order and wording: kubernetes pkg/apis/storage/validation/validation.go.

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 * 1024;

fn class(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    provisioner(&at, "provisioner", errors);
    parameters(&at, errors);
    if !at.str("reclaimPolicy").is_empty() {
        at.one_of("reclaimPolicy", &["Delete", "Retain"], errors);
    }
    match at.has("volumeBindingMode") {
        true => at.one_of("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], errors),
        false => at.required("volumeBindingMode", "", errors),
    }
    topologies(&at, errors);
}

fn attributes(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    provisioner(&at, "driverName", errors);
    if parameters(&at, errors) && at.len("parameters") == 0 {
        at.required("parameters", "must contain at least one key/value pair", errors);
    }
}

fn provisioner(at: &At, field: &str, errors: &mut FieldErrors) {
    if at.require(field, errors) {
        let name = at.str(field).to_lowercase();
        at.complain(field, &name, name::is_qualified_name(&name), errors);
    }
}

/// Answers whether there are few enough to look at.
fn parameters(at: &At, errors: &mut FieldErrors) -> bool {
    const FIELD: &str = "parameters";
    if at.len(FIELD) > MAX_PARAMETERS {
        at.too_long(FIELD, MAX_PARAMETERS as i64, errors);
        return false;
    }
    let mut size = 0;
    for (key, value) in at.entries(FIELD) {
        if key.is_empty() {
            at.invalid(FIELD, key, "field can not be empty.", errors);
        }
        size += key.len() + value.node.as_str().unwrap_or_default().len();
    }
    if size > MAX_PARAMETERS_SIZE {
        at.too_long(FIELD, MAX_PARAMETERS_SIZE as i64, errors);
    }
    true
}

// --- topologies ---

type Term<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn topologies(at: &At, errors: &mut FieldErrors) {
    // COMPAT: comparison starts with as many empty terms as there are terms.
    let terms = at.list("allowedTopologies").len();
    let mut seen: Vec<Term> = vec![Term::new(); terms];
    let found: Vec<At> = at.each("allowedTopologies").collect();
    for term in &found {
        let labels = self::term(term, errors);
        for _ in seen.iter().filter(|other| **other == labels) {
            term.duplicate("matchLabelExpressions", "", errors);
        }
        seen.push(labels);
    }
}

fn term<'a>(at: &'a At<'a>, errors: &mut FieldErrors) -> Term<'a> {
    let mut labels = Term::new();
    for requirement in at.each("matchLabelExpressions") {
        if requirement.len("values") == 0 {
            requirement.required("values", "", errors);
        }
        let mut values = BTreeSet::new();
        for (i, value) in requirement.strings("values") {
            if !values.insert(value) {
                errors.push(FieldError::duplicate(&requirement.path_of("values").index(i), value));
            }
        }
        common::qualified_name(&requirement, "key", errors);
        let key = requirement.str("key");
        if labels.contains_key(key) {
            requirement.duplicate("key", key, errors);
        }
        labels.insert(key, values);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn terms_differ_and_say_something() {
        let mut object = node!({"metadata": {"name": "a"}, "provisioner": "p", "volumeBindingMode": "Immediate"});
        let term = |value: &str| {
            let mut requirement = node!({"key": "zone"});
            requirement.set("values", vec![Node::string(value)]);
            let mut term = node!({});
            term.set("matchLabelExpressions", vec![requirement]);
            term
        };
        object.set("allowedTopologies", vec![term("a"), term("b"), term("a"), node!({})]);
        let mut errors = Vec::new();
        class(&object, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let expected = |i: usize| format!("allowedTopologies[{i}].matchLabelExpressions: Duplicate value: \"\"");
        assert_eq!(texts, [expected(2), expected(3), expected(3), expected(3), expected(3)]);
    }
}
