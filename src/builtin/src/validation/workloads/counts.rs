//! Numbers of replicas, and numbers that may be percentages.

use super::super::at::At;
use super::super::common::NEGATIVE;
use super::super::shown;
use fairlead_api::{FieldErrors, Node, name};

pub fn non_negative_fields(at: &At, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        at.non_negative(field, errors);
    }
}

/// None of `fields` may be more than all replicas.
pub fn greater_than(status: &At, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        let count = status.int(field);
        if count > status.int("replicas") {
            status.invalid(field, count, "cannot be greater than status.replicas", errors);
        }
    }
}

pub fn available_within_ready(status: &At, detail: &str, errors: &mut FieldErrors) {
    let available = status.int("availableReplicas");
    if available > status.int("readyReplicas") {
        status.invalid("availableReplicas", available, detail, errors);
    }
}

pub fn not_decremented(status: &At, old: &Node, field: &str, errors: &mut FieldErrors) {
    let before = old.at(&["status", field]).and_then(Node::as_i64);
    if before.is_some_and(|before| status.number(field).is_none_or(|now| now < before)) {
        status.invalid(field, status.int(field), "cannot be decremented", errors);
    }
}

// === numbers or percentages ===

/// Not negative, or a percentage.
pub fn int_or_percent(at: &At, field: &str, errors: &mut FieldErrors) {
    match at.text(field) {
        Some(text) => {
            for complaint in name::is_percent(text) {
                at.invalid_shown(field, shown::quote(text), &complaint, errors);
            }
        }
        None if at.int(field) < 0 => at.invalid(field, at.int(field), NEGATIVE, errors),
        None => {}
    }
}

/// A percentage may not be more than all.
pub fn percent_limit(at: &At, field: &str, errors: &mut FieldErrors) {
    if let Some(text) = at.text(field)
        && percent(text).is_some_and(|value| value > 100)
    {
        at.invalid_shown(field, shown::quote(text), "must not be greater than 100%", errors);
    }
}

/// The number, of whatever it is a number.
pub fn value_of(at: &At, field: &str) -> i64 {
    match at.text(field) {
        Some(text) => percent(text).unwrap_or_else(|| text.parse().unwrap_or(0)),
        None => at.int(field),
    }
}

fn percent(text: &str) -> Option<i64> {
    match name::is_percent(text).is_empty() {
        true => text.trim_end_matches('%').parse().ok(),
        false => None,
    }
}
