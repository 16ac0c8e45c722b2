//! Validation of custom resources: JSON Schema keywords, with the errors apiextensions reports.
//!
//! Source of the rules, wording and order: kube-openapi pkg/validation/validate and apiextensions-apiserver
//! pkg/apiserver/validation. On updates, errors of values that did not change are forgiven (ratcheting).
// PERFORMANCE: per-request path

mod embedded;
mod formats;
mod junctors;
mod lists;
mod number;
mod outcome;
mod rules;
mod view;

pub use formats::{is_known_format, matches_format};
pub use rules::{RuleEvaluator, RuleSite};

use crate::types::{ListSemantics, TypeRef};
use fairlead_api::field::FieldErrorKind;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Map, Node};
use number::check_number;
use outcome::Outcome;
use std::fmt::Write;
use view::View;

/// Checks a whole custom resource (or, at `path`, its status) against its schema: keywords, embedded resources, sets
/// and list maps, and then, unless what was found makes them meaningless, its rules. `old` is the stored object on
/// update. Metadata is checked by [`fairlead_api::metadata`] before.
pub fn validate(
    node: &Node,
    old: Option<&Node>,
    schema: TypeRef,
    path: &FieldPath,
    rules: Option<&mut dyn RuleEvaluator>,
) -> FieldErrors {
    let mut errors = validate_keywords(node, old, schema, path);
    embedded::check(node, schema, path, &mut errors);
    validate_lists(node, old, schema, path, &mut errors);
    if let Some(evaluator) = rules {
        validate_rules(node, old, schema, path, evaluator, &mut errors);
    }
    errors
}

/// Embedded resources, of which the value itself may be one.
pub fn validate_embedded(node: &Node, schema: TypeRef, path: &FieldPath, errors: &mut FieldErrors) {
    embedded::walk(node, schema, path, errors);
}

/// Sets and list maps hold every item once. Those that were already broken may stay so.
pub fn validate_lists(node: &Node, old: Option<&Node>, schema: TypeRef, path: &FieldPath, errors: &mut FieldErrors) {
    let mut broken = Vec::new();
    if let Some(old) = old {
        lists::check(old, schema, path, &mut broken);
    }
    if broken.is_empty() {
        lists::check(node, schema, path, errors);
    }
}

/// The CEL rules, unless the errors found so far make them meaningless.
pub fn validate_rules(
    node: &Node,
    old: Option<&Node>,
    schema: TypeRef,
    path: &FieldPath,
    evaluator: &mut dyn RuleEvaluator,
    errors: &mut FieldErrors,
) {
    if errors.iter().any(|e| blocks_rules(e.kind)) {
        errors.push(FieldError::invalid(
            &FieldPath::root(),
            Node::Null,
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ));
    } else {
        rules::walk(node, old, schema, path, evaluator, errors);
    }
}

/// The JSON Schema keywords alone.
pub fn validate_keywords(node: &Node, old: Option<&Node>, schema: TypeRef, path: &FieldPath) -> FieldErrors {
    // Schema paths begin at the value itself: the errors of a status say `status.x`, their texts `x in body`.
    let mut walk = Walk { path: String::new() };
    let mut errors = walk.value(View::Type(schema), node, old, Ratchet::Yes).errors;
    if !path.is_root() {
        for error in &mut errors {
            error.path = if error.path.is_root() {
                path.clone()
            } else {
                path.child(error.path.as_str())
            };
        }
    }
    errors
}

/// Whether rules cannot be trusted beside an error of this kind.
fn blocks_rules(kind: FieldErrorKind) -> bool {
    matches!(
        kind,
        FieldErrorKind::NotSupported
            | FieldErrorKind::Required
            | FieldErrorKind::TooLong
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid
    )
}

/// Whether an unchanged value is forgiven its errors. Those of junctors are the value's own, so they do not ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ratchet {
    Yes,
    No,
}

struct Walk {
    path: String,
}

impl Walk {
    fn value(&mut self, view: View, node: &Node, old: Option<&Node>, ratchet: Ratchet) -> Outcome {
        let mut result = Outcome::default();
        if node.is_null() {
            result.merge(self.type_of(view, node));
            result.merge(self.enumeration(view, node));
        } else {
            if view.checks_type() {
                result.merge(self.type_of(view, node));
                result.matches += 1;
            }
            result.merge(self.junctors(view, node, old));
            result.matches += 1;
            match node {
                Node::String(text) => {
                    result.merge(self.string(view, text));
                    result.matches += 1;
                    if let Some(outcome) = self.format(view, text) {
                        result.merge(outcome);
                        result.matches += 1;
                    }
                }
                Node::Int(_) | Node::Float(_) => {
                    result.merge(check_number(&self.path, view, node));
                    result.matches += 1;
                }
                Node::List(items) => {
                    result.merge(self.list(view, items, old));
                    result.matches += 1;
                }
                _ => {}
            }
            result.merge(self.enumeration(view, node));
            result.matches += 1;
            if let Node::Map(map) = node {
                result.merge(self.object(view, map, old));
                result.matches += 1;
            }
            result.matches += 1;
        }
        if ratchet == Ratchet::Yes && !result.errors.is_empty() && old == Some(node) {
            result.errors.clear();
        }
        result
    }

    fn type_of(&self, view: View, node: &Node) -> Outcome {
        let types = view.types();
        let refused = |expected: &str, found: &str| {
            let detail = format!("{} in body must be of type {expected}: {found:?}", self.path);
            Outcome::of(FieldError::type_invalid(&outcome::path(&self.path), found, detail))
        };
        if node.is_null() {
            let passes = types.is_empty() || view.nullable();
            return if passes {
                Outcome::matched(1)
            } else {
                refused(&types.join(","), "null")
            };
        }
        let (found, found_format) = match node {
            Node::Bool(_) => ("boolean", ""),
            Node::Int(_) => ("integer", "int64"),
            Node::Float(_) => ("number", "float64"),
            Node::String(_) => ("string", ""),
            Node::List(_) => ("array", ""),
            _ => ("object", ""),
        };
        let whole_float = matches!(node, Node::Float(f) if number::is_json_integer(*f)) && types.contains(&"integer");
        let int_as_number = matches!(node, Node::Int(_)) && types.contains(&"number");
        let fits = types.contains(&found) || whole_float || int_as_number;
        let format = view.format();
        let text_like = matches!(node, Node::String(_) | Node::List(_));
        if !text_like && !format.is_empty() && !fits && format != found_format {
            return refused(format, found_format);
        }
        let numeric = types.contains(&"number") || types.contains(&"integer");
        if (!numeric && !format.is_empty() && text_like) || fits {
            return Outcome::matched(1);
        }
        refused(&types.join(","), found)
    }

    fn enumeration(&self, view: View, node: &Node) -> Outcome {
        let Some(allowed) = view.validation().map(|v| &v.enumeration).filter(|e| !e.is_empty()) else {
            return Outcome::default();
        };
        if !node.is_null() && allowed.iter().any(|value| number::equals_as(node, value)) {
            return Outcome::default();
        }
        let texts: Vec<String> = allowed
            .iter()
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| fairlead_api::json::to_string(value), str::to_owned)
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Outcome::of(FieldError::not_supported(
            &outcome::path(&self.path),
            node.clone(),
            &texts,
        ))
    }

    /// Stops at the first mistake, as upstream does.
    fn string(&self, view: View, text: &str) -> Outcome {
        let Some(v) = view.validation() else {
            return Outcome::default();
        };
        if v.max_length.is_none() && v.min_length.is_none() && v.pattern.is_none() {
            return Outcome::default();
        }
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        let path = || outcome::path(&self.path);
        if let Some(max) = v.max_length.filter(|max| length > *max) {
            return Outcome::of(FieldError::too_long(&path(), max));
        }
        if let Some(min) = v.min_length.filter(|min| length < *min) {
            let detail = format!("{} in body should be at least {min} chars long", self.path);
            return Outcome::of(FieldError::invalid(&path(), text, detail));
        }
        if let Some(pattern) = v.pattern.as_ref().filter(|p| !p.matches(text)) {
            let detail = format!("{} in body should match '{}'", self.path, pattern.source());
            return Outcome::of(FieldError::invalid(&path(), text, detail));
        }
        Outcome::default()
    }

    fn format(&self, view: View, text: &str) -> Option<Outcome> {
        let format = view.format();
        let check = formats::check(format)?;
        Some(if check(text) {
            Outcome::default()
        } else {
            let detail = format!(
                "{} in body must be of type {format}: {}",
                self.path,
                fairlead_api::field::go_quote(text)
            );
            Outcome::of(FieldError::type_invalid(&outcome::path(&self.path), text, detail))
        })
    }

    fn list(&mut self, view: View, items: &[Node], old: Option<&Node>) -> Outcome {
        let mut result = Outcome::matched(1);
        if let Some(item_view) = view.items() {
            for (i, item) in items.iter().enumerate() {
                let length = self.path.len();
                write!(self.path, "[{i}]").expect("writing to a String cannot fail");
                let old = old_item(view, item, old);
                result.merge(self.value(item_view, item, old, Ratchet::Yes));
                self.path.truncate(length);
            }
        }
        let Some(v) = view.validation() else { return result };
        let size = items.len() as i64;
        if let Some(min) = v.min_items.filter(|min| size < *min) {
            let detail = format!("{} in body should have at least {min} items", self.path);
            result.add(FieldError::invalid(&outcome::path(&self.path), size, detail));
        }
        if let Some(max) = v.max_items.filter(|max| size > *max) {
            result.add(FieldError::too_many(
                &outcome::path(&self.path),
                items.len(),
                usize::try_from(max).unwrap_or(0),
            ));
        }
        if v.unique_items && lists::first_repeat(items).is_some() {
            let detail = format!("{} in body shouldn't contain duplicates", self.path);
            result.add(FieldError::invalid(&outcome::path(&self.path), "", detail));
        }
        result
    }

    fn object(&mut self, view: View, map: &Map, old: Option<&Node>) -> Outcome {
        let mut result = Outcome::default();
        if let Some(v) = view.validation() {
            let size = map.len() as i64;
            if let Some(min) = v.min_properties.filter(|min| size < *min) {
                let detail = format!("{} in body should have at least {min} properties", self.path);
                result.add(FieldError::invalid(&outcome::path(&self.path), size, detail));
            }
            if let Some(max) = v.max_properties.filter(|max| size > *max) {
                let max = usize::try_from(max).unwrap_or(0);
                result.add(FieldError::too_many(&outcome::path(&self.path), map.len(), max));
            }
        }
        // What has a schema of its own comes after what has the general one.
        if let Some(additional) = view.additional() {
            for (name, value) in map.iter().filter(|(name, _)| view.property(name).is_none()) {
                result.merge(self.member(additional, name, value, old, true));
            }
        }
        for (name, value) in map.iter() {
            if let Some(property) = view.property(name) {
                result.merge(self.member(property, name, value, old, false));
            }
        }
        for name in view.required().iter().filter(|name| !map.contains_key(name)) {
            result.add(FieldError::required(
                &outcome::path(&format!("{}.{name}", self.path)),
                "",
            ));
        }
        result
    }

    fn member(&mut self, view: View, name: &str, value: &Node, old: Option<&Node>, dotted: bool) -> Outcome {
        if view.is_trivial() {
            return Outcome::matched(1);
        }
        let length = self.path.len();
        // COMPAT: upstream puts a dot before additional properties even at the root.
        if length > 0 || dotted {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = self.value(view, value, old.and_then(|o| o.get(name)), Ratchet::Yes);
        self.path.truncate(length);
        result
    }
}

/// The stored item that an item of a list map continues; other lists do not correlate.
fn old_item<'a>(view: View, item: &Node, old: Option<&'a Node>) -> Option<&'a Node> {
    let View::Type(schema) = view else { return None };
    let ListSemantics::Map { keys } = &schema.ty().list else {
        return None;
    };
    old?.as_list()?
        .iter()
        .find(|o| keys.iter().all(|k| o.get(k) == item.get(k)))
}

#[cfg(test)]
mod tests;
