//! NetworkPolicies.

mod validation;

use crate::cells::Row;
use crate::value::{each, list, or};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct NetworkPolicies;

impl Hooks for NetworkPolicies {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        for rules in ["ingress", "egress"] {
            each(spec, rules, |rule| {
                each(rule, "ports", |port| or(port, "protocol", "TCP"))
            });
        }
        if list(spec, &["policyTypes"]).is_empty() {
            let mut types = vec![Node::string("Ingress")];
            if !list(spec, &["egress"]).is_empty() {
                types.push(Node::string("Egress"));
            }
            spec.set("policyTypes", types);
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, errors);
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        validation::warnings(object)
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .selector(&["spec", "podSelector"])
            .age()
            .done()
    }
}
