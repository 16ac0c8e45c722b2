//! How much of a device's capacity may be asked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/resource/validation/validation.go.
// PERFORMANCE: per-request path

use crate::resource::rules::set;
use crate::validation::at::At;
use crate::validation::common::quantity;
use fairlead_api::quantity::Quantity;
use fairlead_api::{FieldError, FieldErrors, Node};

const MAX_OPTIONS: usize = 10;

/// A capacity of a device that several claims may have `shared`.
pub fn validate(at: &At, shared: bool, errors: &mut FieldErrors) {
    let Some(policy) = at.get("requestPolicy") else { return };
    if !shared {
        return at.forbidden("requestPolicy", "allowMultipleAllocations must be true", errors);
    }
    let capacity = quantity(at.node.get("value"));
    match (policy.len("validValues") > 0, policy.get("validRange")) {
        (true, Some(_)) => {
            let detail = r#"exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#;
            policy.forbidden("", detail, errors);
        }
        (true, None) => {
            if let Some(default) = default_of(&policy, "validValues", errors) {
                options(&policy, &default, &capacity, errors)
            }
        }
        (false, Some(range)) => {
            if let Some(default) = default_of(&policy, "validRange", errors) {
                self::range(&range, &default, &capacity, errors)
            }
        }
        (false, None) => {}
    }
}

fn default_of(policy: &At, needed_by: &str, errors: &mut FieldErrors) -> Option<Quantity> {
    if !policy.has("default") {
        policy.required("default", &format!("required when {needed_by} is defined"), errors);
        return None;
    }
    Some(quantity(policy.node.get("default")))
}

// === options ===

fn options(policy: &At, default: &Quantity, capacity: &Quantity, errors: &mut FieldErrors) {
    const FIELD: &str = "validValues";
    let values: Vec<Quantity> = policy.list(FIELD).iter().map(|value| quantity(Some(value))).collect();
    let path = policy.path_of(FIELD);
    for (i, pair) in values.windows(2).enumerate() {
        if pair[0] > pair[1] {
            let detail = "values must be sorted in ascending order";
            errors.push(FieldError::invalid(&path.index(i + 1), pair[1].canonical(), detail));
        }
    }
    let key = |value: &Node| quantity(Some(value)).value().to_string();
    set(policy, FIELD, MAX_OPTIONS, key, errors, |option, errors| {
        let value = quantity(Some(option.node));
        if value > *capacity {
            let detail = format!("option is larger than capacity value: {}", capacity.canonical());
            option.invalid("", value.canonical(), detail, errors);
        }
    });
    // COMPAT: where there are too many options, the default is not found among them.
    if values.len() > MAX_OPTIONS || !values.contains(default) {
        let detail = "default value is not valid according to the requestPolicy";
        policy.invalid(FIELD, default.canonical(), detail, errors);
    }
}

// === ranges ===

fn range(at: &At, default: &Quantity, capacity: &Quantity, errors: &mut FieldErrors) {
    if !at.has("min") {
        return at.required("min", "required when validRange is defined", errors);
    }
    let refuse = |field: &str, value: &Quantity, detail: String, errors: &mut FieldErrors| {
        at.invalid(field, value.canonical(), detail, errors);
    };
    let bound = |field: &str| at.has(field).then(|| quantity(at.node.get(field)));
    let (min, max, step) = (quantity(at.node.get("min")), bound("max"), bound("step"));
    let whole = capacity.canonical();
    if min > *capacity {
        refuse(
            "min",
            &min,
            format!("min is larger than capacity value: {whole}"),
            errors,
        );
    }
    if *default < min {
        refuse(
            "min",
            default,
            format!("default is less than min: {}", min.canonical()),
            errors,
        );
    }
    if let Some(max) = &max {
        if min > *max {
            refuse(
                "max",
                &min,
                format!("min is larger than max: {}", max.canonical()),
                errors,
            );
        }
        if *max > *capacity {
            refuse(
                "max",
                max,
                format!("max is larger than capacity value: {whole}"),
                errors,
            );
        }
        if *default > *max {
            refuse(
                "max",
                default,
                format!("default is more than max: {}", max.canonical()),
                errors,
            );
        }
    }
    let Some(step) = step else { return };
    let second = min.add(&step);
    if second > *capacity {
        let detail = format!("one step {} is larger than capacity value: {whole}", second.canonical());
        refuse("step", &step, detail, errors);
    }
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        // Upstream cannot divide by nothing either.
        if step.value() != 0 && (value.value() - min.value()) % step.value() != 0 {
            let (step, min) = (step.canonical(), min.canonical());
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            refuse("step", value, detail, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn complaints(policy: Node) -> Vec<String> {
        let mut capacity = node!({"value": "10Gi"});
        capacity.set("requestPolicy", policy);
        let mut errors = Vec::new();
        validate(&At::named(&capacity, "c"), true, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_are_sorted_and_hold_the_default() {
        assert!(complaints(node!({"default": "1Gi", "validValues": ["1Gi", "2Gi"]})).is_empty());
        assert_eq!(
            complaints(node!({"default": "3Gi", "validValues": ["2Gi", "1Gi"]})),
            [
                r#"c.requestPolicy.validValues[1]: Invalid value: "1Gi": values must be sorted in ascending order"#,
                r#"c.requestPolicy.validValues: Invalid value: "3Gi": default value is not valid according to the requestPolicy"#,
            ]
        );
    }

    #[test]
    fn steps_lead_to_the_default() {
        assert!(
            complaints(node!({"default": "4Gi", "validRange": {"min": "2Gi", "step": "2Gi", "max": "8Gi"}})).is_empty()
        );
        assert_eq!(
            complaints(node!({"default": "3Gi", "validRange": {"min": "2Gi", "step": "2Gi"}})),
            [
                r#"c.requestPolicy.validRange.step: Invalid value: "3Gi": value is not a multiple of a given step (2Gi) from (2Gi)"#
            ]
        );
        assert_eq!(
            complaints(node!({"validRange": {}})),
            ["c.requestPolicy.default: Required value: required when validRange is defined"]
        );
    }
}
