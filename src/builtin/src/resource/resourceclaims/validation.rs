//! What ResourceClaims and templates of them are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/resource/validation/validation.go.
// PERFORMANCE: per-request path

use crate::resource::rules::{
    self, EFFECTS, MAX_CONFIGS, configuration, fully_qualified_name, items, itself, named, set,
};
use crate::validation::at::At;
use crate::validation::{claims, common, values};
use fairlead_api::{FieldErrors, Node, name};
use std::collections::{BTreeMap, BTreeSet};

const MAX_REQUESTS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;

// === whole objects ===

pub fn create(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, true, name::name_is_dns_subdomain, errors);
    spec(&At::root(object).part("spec"), errors);
}

/// Only metadata changes.
pub fn update(object: &Node, old: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, true, name::name_is_dns_subdomain, errors);
    values::metadata_update(object, old, errors);
    common::immutable(&At::root(object), old, "spec", "resource.ResourceClaimSpec", errors);
}

/// A ResourceClaimTemplate; `old` is what is stored.
pub fn template(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    common::object_meta(object, true, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let template = at.part("spec");
    claims::template_meta(&template.part("metadata"), errors);
    spec(&template.part("spec"), errors);
    if let Some(old) = old {
        values::metadata_update(object, old, errors);
        common::immutable(&at, old, "spec", "resource.ResourceClaimTemplateSpec", errors);
    }
}

fn spec(at: &At, errors: &mut FieldErrors) {
    let devices = at.part("devices");
    let names = RequestNames::of(devices.node);
    set(&devices, "requests", MAX_REQUESTS, named, errors, request);
    items(
        &devices,
        "constraints",
        MAX_CONSTRAINTS,
        errors,
        |constraint, errors| {
            names.check_list(constraint, errors);
            self::constraint(constraint, errors);
        },
    );
    items(&devices, "config", MAX_CONFIGS, errors, |config, errors| {
        names.check_list(config, errors);
        configuration(config, false, errors);
    });
}

// === names of requests ===

/// The requests of a claim, and the alternatives of each.
pub struct RequestNames<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> RequestNames<'a> {
    /// Of a DeviceClaim.
    pub fn of(devices: &'a Node) -> RequestNames<'a> {
        let alternatives = |request: &'a Node| request.list("firstAvailable").iter().map(|a| a.str("name")).collect();
        let requests = devices.list("requests").iter();
        RequestNames(
            requests
                .map(|request| (request.str("name"), alternatives(request)))
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        let (request, alternative) = match name.split_once('/') {
            Some((request, alternative)) => (request, Some(alternative)),
            None => (name, None),
        };
        let known = self.0.get(request);
        known.is_some_and(|known| alternative.is_none_or(|alternative| known.contains(alternative)))
    }

    /// A reference to a request, or to one of its alternatives.
    pub fn check(&self, at: &At, field: &str, value: &str, errors: &mut FieldErrors) {
        const DETAIL: &str =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        if value.matches('/').count() > 1 {
            return at.invalid(field, value, DETAIL, errors);
        }
        for part in value.split('/') {
            at.complain(field, part, name::is_dns1123_label(part), errors);
        }
        if !self.has(value) {
            at.invalid(field, value, DETAIL, errors);
        }
    }

    /// The list `requests` of such references.
    pub fn check_list(&self, at: &At, errors: &mut FieldErrors) {
        set(at, "requests", MAX_REQUESTS, itself, errors, |name, errors| {
            self.check(name, "", name.node.as_str().unwrap_or_default(), errors);
        });
    }
}

// === requests ===

fn request(at: &At, errors: &mut FieldErrors) {
    common::dns_label(at, "name", errors);
    match (at.get("exactly"), at.len("firstAvailable") > 0) {
        (None, false) => at.required("", "exactly one of `exactly` or `firstAvailable` is required", errors),
        (Some(_), true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            at.invalid("", Node::Null, detail, errors);
        }
        (None, true) => set(
            at,
            "firstAvailable",
            MAX_ALTERNATIVES,
            named,
            errors,
            |alternative, errors| {
                common::dns_label(alternative, "name", errors);
                wanted(alternative, errors);
            },
        ),
        (Some(exactly), false) => wanted(&exactly, errors),
    }
}

/// What a request and each alternative of it say about devices.
fn wanted(at: &At, errors: &mut FieldErrors) {
    if at.require("deviceClassName", errors) {
        common::dns_subdomain(at, "deviceClassName", errors);
    }
    rules::selectors(at, false, errors);
    let count = at.int("count");
    match at.str("allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            at.invalid("count", count, detail, errors);
        }
        "All" => {}
        "ExactCount" => at.positive("count", errors),
        _ => at.one_of("allocationMode", &["All", "ExactCount"], errors),
    }
    for toleration in at.each("tolerations") {
        self::toleration(&toleration, errors);
    }
}

fn toleration(at: &At, errors: &mut FieldErrors) {
    let value = at.str("value");
    if !at.str("key").is_empty() {
        common::qualified_name(at, "key", errors);
    }
    match at.str("operator") {
        "Exists" if !value.is_empty() => {
            at.invalid("value", value, "must be empty for operator `Exists`", errors);
        }
        "Exists" => {}
        "Equal" => at.complain("value", value, name::is_valid_label_value(value), errors),
        _ => at.required_one_of("operator", &["Equal", "Exists"], errors),
    }
    if !at.str("effect").is_empty() {
        at.one_of("effect", EFFECTS, errors);
    }
}

fn constraint(at: &At, errors: &mut FieldErrors) {
    let attribute = ["matchAttribute", "distinctAttribute"]
        .into_iter()
        .find(|field| at.has(field));
    match attribute {
        Some(field) => fully_qualified_name(at, field, errors),
        None => {
            let detail =
                r#"exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set"#;
            at.required("", detail, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn complaints(devices: Node) -> Vec<String> {
        let mut object = node!({"metadata": {"name": "a", "namespace": "b"}});
        object.set_at(&["spec", "devices"], devices);
        let mut errors = Vec::new();
        create(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn constraints_name_requests() {
        let devices = node!({
            "requests": [{"name": "r", "firstAvailable": [{"name": "s", "deviceClassName": "c", "allocationMode": "All"}]}],
            "constraints": [{"requests": ["r", "r/s"], "matchAttribute": "example.com/a"}]
        });
        assert!(complaints(devices).is_empty());
        let devices = node!({
            "requests": [{"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}}],
            "constraints": [{"requests": ["r/s"], "matchAttribute": "a"}]
        });
        assert_eq!(
            complaints(devices),
            [
                r#"spec.devices.constraints[0].requests[0]: Invalid value: "r/s": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"#,
                r#"spec.devices.constraints[0].matchAttribute: Invalid value: "a": a fully qualified name must be a domain and a name separated by a slash"#,
            ]
        );
    }
}
