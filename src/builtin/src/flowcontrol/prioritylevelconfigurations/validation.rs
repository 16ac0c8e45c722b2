//! What PriorityLevelConfigurations are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/flowcontrol/validation/validation.go and
//! apiserver pkg/apis/flowcontrol/bootstrap.
// PERFORMANCE: per-request path

use crate::flowcontrol::flowschemas::validation::conditions;
use crate::validation::at::At;
use crate::validation::{common, shown};
use fairlead_api::{FieldErrors, Node, name, node};

const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
const SPEC: &str = "flowcontrol.PriorityLevelConfigurationSpec";
const ROUND_TRIP: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const MAX_QUEUES: i64 = 10_000_000;
const HASH_BITS: i64 = 60;

pub fn validate(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    if object
        .annotations()
        .is_some_and(|annotations| annotations.contains_key(ROUND_TRIP))
    {
        let detail = format!("annotation '{ROUND_TRIP}' is forbidden");
        at.part("metadata").forbidden("annotations", detail, errors);
    }
    let spec = at.part("spec");
    self::spec(&spec, object.name(), errors);
    mandatory(&spec, object.name(), errors);
    conditions(object, errors);
}

/// The levels that every server has are fixed, but for what the exempt one lends.
fn mandatory(spec: &At, name: &str, errors: &mut FieldErrors) {
    let (fixed, words) = match name {
        EXEMPT => {
            let mut fixed = node!({"type": "Exempt"});
            if let Some(own) = spec.node.get("exempt") {
                fixed.set("exempt", own.clone());
            }
            (fixed, " except the 'spec.exempt' field")
        }
        CATCH_ALL => {
            let limited =
                node!({"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}});
            let mut fixed = node!({"type": "Limited"});
            fixed.set("limited", limited);
            (fixed, "")
        }
        _ => return,
    };
    if !shown::equal(SPEC, Some(&fixed), Some(spec.node)) {
        let detail = format!("spec of '{name}'{words} must equal the fixed value");
        spec.invalid_shown("", shown::json(SPEC, Some(spec.node)), &detail, errors);
    }
}

fn spec(at: &At, name: &str, errors: &mut FieldErrors) {
    let kind = at.str("type");
    if (name == EXEMPT) != (kind == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        at.invalid("type", kind, detail, errors);
    }
    match kind {
        "Exempt" => {
            if at.has("limited") {
                at.forbidden("limited", "must be nil if the type is not Limited", errors);
            }
            if let Some(exempt) = at.get("exempt") {
                shares(&exempt, errors);
                lendable(&exempt, errors);
            }
        }
        "Limited" => {
            if at.has("exempt") {
                at.forbidden("exempt", "must be nil if the type is Limited", errors);
            }
            match at.get("limited") {
                Some(limited) => self::limited(&limited, errors),
                None => at.required("limited", "must not be empty when type is Limited", errors),
            }
        }
        _ => at.one_of("type", &["Exempt", "Limited"], errors),
    }
}

fn limited(at: &At, errors: &mut FieldErrors) {
    shares(at, errors);
    let response = at.part("limitResponse");
    match (response.str("type"), response.get("queuing")) {
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            response.forbidden("queuing", detail, errors);
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            response.required("queuing", detail, errors);
        }
        ("Queue", Some(queuing)) => self::queuing(&queuing, errors),
        _ => response.one_of("type", &["Queue", "Reject"], errors),
    }
    lendable(at, errors);
    if let Some(percent) = at.number("borrowingLimitPercent").filter(|percent| *percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        at.invalid("borrowingLimitPercent", percent, detail, errors);
    }
}

fn shares(at: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "nominalConcurrencyShares";
    if at.int(FIELD) < 0 {
        at.invalid(FIELD, at.int(FIELD), "must be a non-negative integer", errors);
    }
}

fn lendable(at: &At, errors: &mut FieldErrors) {
    let percent = at.int("lendablePercent");
    if !(0..=100).contains(&percent) {
        at.invalid(
            "lendablePercent",
            percent,
            "must be between 0 and 100, inclusive",
            errors,
        );
    }
}

fn queuing(at: &At, errors: &mut FieldErrors) {
    let (limit, queues, hand) = (at.int("queueLengthLimit"), at.int("queues"), at.int("handSize"));
    if limit <= 0 {
        at.invalid("queueLengthLimit", limit, "must be positive", errors);
    }
    if queues <= 0 {
        at.invalid("queues", queues, "must be positive", errors);
    } else if queues > MAX_QUEUES {
        at.invalid(
            "queues",
            queues,
            format!("must not be greater than {MAX_QUEUES}"),
            errors,
        );
    }
    if hand <= 0 {
        at.invalid("handSize", hand, "must be positive", errors);
    } else if hand > queues {
        at.invalid(
            "handSize",
            hand,
            format!("should not be greater than queues ({queues})"),
            errors,
        );
    } else if entropy_bits(queues, hand) > HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        at.invalid("handSize", hand, detail, errors);
    }
}

/// How many bits of a hash deal a hand of so many cards.
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, spec: Node) -> Vec<String> {
        let mut object = node!({});
        object.set_at(&["metadata", "name"], name);
        object.set("spec", spec);
        let mut errors = Vec::new();
        validate(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hands_fit_the_hash() {
        let spec = |hand: i64| {
            let mut spec = node!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 64, "queueLengthLimit": 50}}}});
            spec.set_at(&["limited", "limitResponse", "queuing", "handSize"], hand);
            spec
        };
        assert!(complaints("a", spec(10)).is_empty());
        assert_eq!(
            complaints("a", spec(11)),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be greater than 60"
            ]
        );
    }

    #[test]
    fn only_exempt_is_exempt() {
        assert_eq!(
            complaints("a", node!({"type": "Exempt"})),
            [r#"spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'"#]
        );
        assert!(complaints("exempt", node!({"type": "Exempt", "exempt": {"lendablePercent": 5}})).is_empty());
    }
}
