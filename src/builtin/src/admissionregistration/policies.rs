//! ValidatingAdmissionPolicies, MutatingAdmissionPolicies and their bindings.

mod validation;

use super::webhooks::{default_rule, static_name_warnings};
use crate::cells::{Row, UNSET};
use crate::value::{each, keep_metadata, or, with};
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

/// Policies of both kinds; `rules` is the field that holds what they do.
pub struct Policies {
    pub rules: &'static str,
}

impl Policies {
    fn mutates(&self) -> bool {
        self.rules == "mutations"
    }

    fn validate(&self, object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
        match self.mutates() {
            true => validation::mutating(object, old, errors),
            false => validation::validating(object, old, errors),
        }
    }
}

impl Hooks for Policies {
    fn default(&self, object: &mut Node) {
        or(object.make_at(&["spec"]), "failurePolicy", "Fail");
        with(object, &["spec", "matchConstraints"], default_match);
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        keep_metadata(object, old);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            _ if !self.mutates() => &[&["status"]],
            _ => &[],
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        self.validate(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        self.validate(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::status(object, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        static_name_warnings(object)
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let kind = match object.at(&["spec", "paramKind"]) {
            Some(kind) => format!("{}/{}", kind.str("apiVersion"), kind.str("kind")),
            None => UNSET.into(),
        };
        Row::named(object, now_seconds)
            .count(&["spec", self.rules])
            .cell(kind)
            .age()
            .done()
    }
}

/// Bindings of policies of both kinds.
pub struct PolicyBindings {
    pub mutates: bool,
}

impl Hooks for PolicyBindings {
    fn default(&self, object: &mut Node) {
        with(object, &["spec", "matchResources"], default_match);
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::binding(object, self.mutates, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::binding(object, self.mutates, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        static_name_warnings(object)
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let parameters = match object.at(&["spec", "paramRef"]) {
            Some(reference) if !reference.str("name").is_empty() => {
                let namespace = reference.str("namespace");
                let namespace = if namespace.is_empty() { "*" } else { namespace };
                format!("{namespace}/{}", reference.str("name"))
            }
            Some(reference) if reference.get("selector").is_some() => go_selector(reference.get("selector")),
            _ => UNSET.into(),
        };
        Row::named(object, now_seconds)
            .text(&["spec", "policyName"])
            .cell(parameters)
            .age()
            .done()
    }
}

fn default_match(resources: &mut Node) {
    or(resources, "matchPolicy", "Equivalent");
    or(resources, "namespaceSelector", Map::new());
    or(resources, "objectSelector", Map::new());
    each(resources, "resourceRules", default_rule);
    each(resources, "excludeResourceRules", default_rule);
}

/// COMPAT: the selector as Go prints the struct.
fn go_selector(selector: Option<&Node>) -> String {
    let labels = selector.and_then(|s| s.get("matchLabels")).and_then(Node::as_map);
    let labels: String = labels
        .into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or("")))
        .collect();
    let expressions: String = selector
        .map_or(&[][..], |s| s.list("matchExpressions"))
        .iter()
        .map(|e| {
            let values: Vec<&str> = e.list("values").iter().filter_map(Node::as_str).collect();
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                e.str("key"),
                e.str("operator"),
                values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
