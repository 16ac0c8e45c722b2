//! Ingresses.

pub mod validation;

use crate::cells::{NONE, Row, load_balancer};
use crate::value::list;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct Ingresses;

impl Hooks for Ingresses {
    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::status(object, old, errors);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        match old {
            None => validation::class_warning(object).into_iter().collect(),
            Some(_) => validation::ip_warnings(object),
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let ports = if list(object, &["spec", "tls"]).is_empty() {
            "80"
        } else {
            "80, 443"
        };
        Row::named(object, now_seconds)
            .text_or(&["spec", "ingressClassName"], NONE)
            .cell(hosts(list(object, &["spec", "rules"])))
            .cell(load_balancer(list(object, &["status", "loadBalancer", "ingress"])))
            .cell(ports)
            .age()
            .done()
    }
}

/// The hosts of the first rules: once three are found, further rules are only counted.
fn hosts(rules: &[Node]) -> String {
    const MAX: usize = 3;
    let mut hosts = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= hosts.len() == MAX;
        if !more && !rule.str("host").is_empty() {
            hosts.push(rule.str("host"));
        }
    }
    match hosts.len() {
        0 => "*".into(),
        _ if more => format!("{} + {} more...", hosts.join(","), rules.len() - MAX),
        _ => hosts.join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn hosts_are_cut_after_three() {
        let rules = |names: &[&str]| names.iter().map(|n| node!({"host": n})).collect::<Vec<_>>();
        assert_eq!(hosts(&rules(&[])), "*");
        assert_eq!(hosts(&rules(&["a", "b"])), "a,b");
        assert_eq!(hosts(&rules(&["a", "b", "c", "d"])), "a,b,c + 1 more...");
    }
}
