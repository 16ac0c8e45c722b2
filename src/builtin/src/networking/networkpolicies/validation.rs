//! What NetworkPolicies are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/networking/validation/validation.go.
// PERFORMANCE: per-request path

use crate::validation::at::At;
use crate::validation::{common, shown, values};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::name::{self, ip};
use fairlead_api::{FieldErrors, FieldPath, Node};

const TYPES: &[&str] = &["Ingress", "Egress"];

/// What an update lets pass because the stored object has it already.
#[derive(Default)]
struct Known<'a> {
    selectors: SelectorLeniency,
    ranges: Vec<&'a str>,
}

pub fn create(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, true, name::name_is_dns_subdomain, errors);
    spec(object, &Known::default(), errors);
}

pub fn update(object: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(object, errors);
    let known = Known {
        selectors: values::leniency_for(old.at(&["spec", "podSelector"])),
        ranges: ranges(old),
    };
    spec(object, &known, errors);
}

fn ranges(object: &Node) -> Vec<&str> {
    let mut found = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = object.get("spec").map_or(&[][..], |spec| spec.list(rules));
        let blocks = rules
            .iter()
            .flat_map(|rule| rule.list(peers))
            .filter_map(|peer| peer.get("ipBlock"));
        for block in blocks {
            found.push(block.str("cidr"));
            found.extend(block.list("except").iter().filter_map(Node::as_str));
        }
    }
    found
}

/// What to say about ranges that are accepted.
pub fn warnings(object: &Node) -> Vec<String> {
    let at = At::root(object);
    let spec = at.part("spec");
    let mut warnings = Vec::new();
    let mut warn = |path: FieldPath, range: &str| {
        warnings.extend(
            ip::cidr_warnings(range)
                .into_iter()
                .map(|warning| format!("{path}: {warning}")),
        );
    };
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.each(rules) {
            for peer in rule.each(peers) {
                let Some(block) = peer.get("ipBlock") else { continue };
                warn(block.path_of("cidr"), block.str("cidr"));
                for except in block.each("except") {
                    warn(except.path(), except.node.as_str().unwrap_or_default());
                }
            }
        }
    }
    warnings
}

fn spec(object: &Node, known: &Known, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    common::label_selector_with(&spec, "podSelector", known.selectors, errors);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.each(rules) {
            rule.each("ports").for_each(|port| self::port(&port, errors));
            rule.each(peers).for_each(|peer| self::peer(&peer, known, errors));
        }
    }
    if spec.list("policyTypes").len() > TYPES.len() {
        let shown = shown::json("[]string", spec.node.get("policyTypes"));
        return spec.invalid_shown(
            "policyTypes",
            shown,
            "may not specify more than two policyTypes",
            errors,
        );
    }
    for kind in spec.each("policyTypes") {
        let text = kind.node.as_str().unwrap_or_default();
        if !TYPES.contains(&text) {
            kind.not_supported("", text, TYPES, errors);
        }
    }
}

fn port(at: &At, errors: &mut FieldErrors) {
    at.one_of_if_set("protocol", &["TCP", "UDP", "SCTP"], errors);
    let end = at.number("endPort");
    let refuse_end = |detail: &str, errors: &mut FieldErrors| {
        if let Some(end) = end {
            at.invalid("endPort", end, detail, errors);
        }
    };
    match (at.number("port"), at.text("port")) {
        (Some(port), _) => {
            common::port_number(at, "port", errors);
            if let Some(end) = end {
                if end < port {
                    at.invalid("endPort", port, "must be greater than or equal to `port`", errors);
                }
                common::port_number(at, "endPort", errors);
            }
        }
        (None, Some(_)) => {
            refuse_end("may not be specified when `port` is non-numeric", errors);
            common::port_number_or_name(at, "port", errors);
        }
        (None, None) => refuse_end("may not be specified when `port` is not specified", errors),
    }
}

fn peer(at: &At, known: &Known, errors: &mut FieldErrors) {
    let mut peers = 0;
    for selector in ["podSelector", "namespaceSelector"] {
        peers += usize::from(at.has(selector));
        common::label_selector_with(at, selector, known.selectors, errors);
    }
    if let Some(block) = at.get("ipBlock") {
        ip_block(&block, known, errors);
        if peers > 0 {
            at.forbidden("", "may not specify both ipBlock and another peer", errors);
        }
    } else if peers == 0 {
        at.required("", "must specify a peer", errors);
    }
}

fn ip_block(at: &At, known: &Known, errors: &mut FieldErrors) {
    if !at.require("cidr", errors) {
        return;
    }
    let text = at.str("cidr");
    cidr(at, "cidr", text, known, errors);
    let Some(whole) = ip::parse_cidr_sloppy(text).map(ip::Cidr::network) else {
        return;
    };
    for except in at.each("except") {
        let text = except.node.as_str().unwrap_or_default();
        cidr(&except, "", text, known, errors);
        let Some(part) = ip::parse_cidr_sloppy(text).map(ip::Cidr::network) else {
            continue;
        };
        if !whole.contains(part.address) || whole.prefix >= part.prefix {
            except.invalid("", text, "must be a strict subset of `cidr`", errors);
        }
    }
}

fn cidr(at: &At, field: &str, value: &str, known: &Known, errors: &mut FieldErrors) {
    if !known.ranges.contains(&value) {
        at.complain(field, value, ip::is_valid_cidr_for_legacy_field(value), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn object(peer: Node) -> Node {
        let mut rule = node!({});
        rule.set("from", vec![peer]);
        let mut object = node!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"podSelector": {}}});
        object.set_at(&["spec", "ingress"], vec![rule]);
        object
    }

    #[test]
    fn ranges_that_were_there_stay() {
        let object = object(node!({"ipBlock": {"cidr": "1.2.3.4/24", "except": ["9.9.9.0/28"]}}));
        let mut errors = Vec::new();
        create(&object, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "1.2.3.4/24": must not have bits set beyond the prefix length"#,
                r#"spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "9.9.9.0/28": must be a strict subset of `cidr`"#,
            ]
        );
        errors.clear();
        update(&object, &object, &mut errors);
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn a_peer_is_one_thing() {
        for (peer, expected) in [
            (
                node!({}),
                "spec.ingress[0].from[0]: Required value: must specify a peer",
            ),
            (
                node!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
                "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
        ] {
            let mut errors = Vec::new();
            create(&object(peer), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
    }
}
