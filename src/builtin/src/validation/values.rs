//! Rules of single values that several groups share: parts of paths, addresses, percentages, conditions, metadata that
//! is updated.
//!
//! Source of the rules and wording: kubernetes apimachinery pkg/util/validation, pkg/apis/meta/v1/validation, and
//! pkg/apis/apps/validation.
// PERFORMANCE: per-request path

use super::at::At;
use super::common::{self, NEGATIVE};
use fairlead_api::metadata::{
    SelectorLeniency, validate_label_selector, validate_object_meta, validate_object_meta_update,
};
use fairlead_api::name::{self, Complaints, NameFn, ip};
use fairlead_api::{FieldErrors, FieldPath, Node};
use std::collections::BTreeSet;

// === metadata ===

/// The metadata of a new object of a kind that does not ask for qualified finalizers.
pub fn plain_meta(object: &Node, namespaced: bool, name: NameFn, errors: &mut FieldErrors) {
    let meta = object.meta().unwrap_or(&Node::Null);
    errors.extend(validate_object_meta(
        meta,
        namespaced,
        name,
        &FieldPath::new("metadata"),
    ));
}

/// What such a kind repeats on update.
pub fn plain_meta_update(object: &Node, old: &Node, errors: &mut FieldErrors) {
    let meta = |object| Node::meta(object).unwrap_or(&Node::Null);
    let path = FieldPath::new("metadata");
    errors.extend(validate_object_meta_update(meta(object), meta(old), &path));
}

/// The checks that kinds which look at metadata themselves repeat on update.
pub fn metadata_update(object: &Node, old: &Node, errors: &mut FieldErrors) {
    plain_meta_update(object, old, errors);
    common::finalizers(object, errors);
}

/// Names that may be anything.
pub fn any_name(_: &str, _: bool) -> Complaints {
    Vec::new()
}

/// Names that stand in a path; generated ones are checked like others.
pub fn path_segment_name(name: &str, _: bool) -> Complaints {
    name::name_is_path_segment(name, false)
}

// === references ===

/// A name that must stand in a path, where it is given.
pub fn path_segment(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = at.str(field);
    at.complain(field, value, name::name_is_path_segment(value, false), errors);
}

/// A name that must be given and stand in a path.
pub fn required_path_segment(at: &At, field: &str, errors: &mut FieldErrors) {
    if at.require(field, errors) {
        path_segment(at, field, errors);
    }
}

/// The string member as the name of an object.
pub fn object_name(at: &At, field: &str, rule: NameFn, errors: &mut FieldErrors) {
    let value = at.str(field);
    at.complain(field, value, rule(value, false), errors);
}

/// `domain/path`, as a name of a controller.
pub fn domain_prefixed_path(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = at.str(field);
    if !at.require(field, errors) {
        return;
    }
    let Some((host, path)) = value.split_once('/').filter(|(h, p)| !h.is_empty() && !p.is_empty()) else {
        return at.invalid(
            field,
            value,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
            errors,
        );
    };
    at.complain(field, host, name::is_dns1123_subdomain(host), errors);
    if !path.bytes().all(in_path) {
        at.invalid(
            field,
            path,
            name::regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]),
            errors,
        );
    }
}

fn in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)
}

// === selectors ===

/// The value as a `metav1.LabelSelector`.
pub fn selector(at: &At, leniency: SelectorLeniency, errors: &mut FieldErrors) {
    errors.extend(validate_label_selector(Some(at.node), leniency, &at.path()));
}

/// What is let pass in selectors of an object whose stored selector is invalid itself.
pub fn leniency_for(old: Option<&Node>) -> SelectorLeniency {
    let path = FieldPath::root();
    let old = old.filter(|selector| !selector.is_null());
    let invalid = old.is_some_and(|s| !validate_label_selector(Some(s), SelectorLeniency::default(), &path).is_empty());
    SelectorLeniency {
        any_values: invalid,
        ..SelectorLeniency::default()
    }
}

// === addresses ===

/// An address in a field that older servers checked less: what is in `known` passes as it is.
pub fn legacy_ip(at: &At, field: &str, value: &str, known: &[&str], errors: &mut FieldErrors) {
    if !known.contains(&value) {
        at.complain(field, value, ip::is_valid_ip_for_legacy_field(value), errors);
    }
}

// === numbers ===

/// An `IntOrString` that is not negative: a number or a percentage.
pub fn int_or_percent(at: &At, field: &str, errors: &mut FieldErrors) {
    match at.text(field) {
        Some(text) => at.complain(field, text, name::is_percent(text), errors),
        None if at.int(field) < 0 => at.invalid(field, at.int(field), NEGATIVE, errors),
        None => {}
    }
}

/// A percentage above 100 is refused; anything else passes.
pub fn at_most_100_percent(at: &At, field: &str, errors: &mut FieldErrors) {
    let Some(text) = at.text(field) else { return };
    let digits = text.strip_suffix('%').unwrap_or_default();
    if name::is_percent(text).is_empty() && digits.parse::<i64>().unwrap_or(i64::MAX) > 100 {
        at.invalid(field, text, "must not be greater than 100%", errors);
    }
}

// === conditions ===

const REASON_LIMIT: usize = 1024;
const MESSAGE_LIMIT: usize = 32 * 1024;
pub const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// A list of `metav1.Condition`.
pub fn conditions(at: &At, field: &str, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for condition in at.each(field) {
        let kind = condition.str("type");
        if !seen.insert(kind) {
            condition.duplicate("type", kind, errors);
        }
        self::condition(&condition, errors);
    }
}

/// One `metav1.Condition`.
pub fn condition(at: &At, errors: &mut FieldErrors) {
    common::qualified_name(at, "type", errors);
    at.one_of("status", STATUSES, errors);
    let generation = at.int("observedGeneration");
    if generation < 0 {
        at.invalid(
            "observedGeneration",
            generation,
            "must be greater than or equal to zero",
            errors,
        );
    }
    if at.str("lastTransitionTime").is_empty() {
        at.required("lastTransitionTime", "", errors);
    }
    let reason = at.str("reason");
    if at.require("reason", errors) {
        at.complain("reason", reason, name::is_condition_reason(reason), errors);
        if reason.len() > REASON_LIMIT {
            at.too_long("reason", REASON_LIMIT as i64, errors);
        }
    }
    if at.str("message").len() > MESSAGE_LIMIT {
        at.too_long("message", MESSAGE_LIMIT as i64, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn texts(check: impl FnOnce(&mut FieldErrors)) -> Vec<String> {
        let mut errors = Vec::new();
        check(&mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn percentages_are_at_most_a_hundred() {
        let object = node!({"a": "150%", "b": -1, "c": "x", "d": "100%"});
        let at = At::root(&object);
        let complaints = |field: &str| {
            texts(|errors| {
                int_or_percent(&at, field, errors);
                at_most_100_percent(&at, field, errors);
            })
        };
        assert_eq!(
            complaints("a"),
            [r#"a: Invalid value: "150%": must not be greater than 100%"#]
        );
        assert_eq!(
            complaints("b"),
            ["b: Invalid value: -1: must be greater than or equal to 0"]
        );
        assert!(complaints("c")[0].starts_with(r#"c: Invalid value: "x": a valid percent string"#));
        assert!(complaints("d").is_empty());
    }

    #[test]
    fn controllers_have_a_domain_and_a_path() {
        let object = node!({"a": "acme.io/foo", "b": "acme.io/", "c": "a_/b c"});
        let at = At::root(&object);
        let complaints = |field: &str| texts(|errors| domain_prefixed_path(&at, field, errors)).len();
        assert_eq!(["a", "b", "c", "d"].map(complaints), [0, 1, 2, 1]);
    }

    #[test]
    fn conditions_have_one_of_each_type() {
        let condition =
            node!({"type": "Ready", "status": "True", "reason": "Ok", "lastTransitionTime": "2020-01-01T00:00:00Z"});
        let object = node!({"conditions": []});
        let mut object = object;
        object.set("conditions", vec![condition.clone(), condition]);
        let complaints = texts(|errors| conditions(&At::named(&object, "status"), "conditions", errors));
        assert_eq!(complaints, [r#"status.conditions[1].type: Duplicate value: "Ready""#]);
    }
}
