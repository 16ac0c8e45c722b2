//! Rules that several kinds share: metadata, names, selectors, ports, quantities, immutable fields.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation and apimachinery pkg/api/validation.
// PERFORMANCE: per-request path

use super::at::At;
use super::shown;
use fairlead_api::metadata::{SelectorLeniency, validate_label_selector, validate_labels, validate_object_meta};
use fairlead_api::name::{self, NameFn, ip};
use fairlead_api::quantity::{Format, Quantity};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};

pub const NEGATIVE: &str = "must be greater than or equal to 0";
pub const NOT_POSITIVE: &str = "must be greater than zero";
pub const IMMUTABLE: &str = "field is immutable";
pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

// === metadata ===

/// The whole metadata of a new object, with the name rule of its kind.
pub fn object_meta(object: &Node, namespaced: bool, name: NameFn, errors: &mut FieldErrors) {
    let path = FieldPath::new("metadata");
    let meta = object.meta().unwrap_or(&Node::Null);
    errors.extend(validate_object_meta(meta, namespaced, name, &path));
    finalizers(object, errors);
}

/// Finalizers need a domain, unless Kubernetes itself has them. The part of metadata checks on update that the engine
/// does not do.
pub fn finalizers(object: &Node, errors: &mut FieldErrors) {
    for (i, finalizer) in object.finalizers().enumerate() {
        finalizer_name(finalizer, &FieldPath::new("metadata.finalizers").index(i), errors);
    }
}

pub fn finalizer_name(finalizer: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, finalizer, detail));
    }
}

// === names and keys ===

pub fn dns_label(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = at.str(field);
    at.complain(field, value, name::is_dns1123_label(value), errors);
}

pub fn dns_subdomain(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = at.str(field);
    at.complain(field, value, name::is_dns1123_subdomain(value), errors);
}

pub fn qualified_name(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = at.str(field);
    at.complain(field, value, name::is_qualified_name(value), errors);
}

/// Keys and values of a map of labels.
pub fn labels(at: &At, field: &str, errors: &mut FieldErrors) {
    if at.len(field) > 0 {
        errors.extend(validate_labels(at.node.get(field), &at.path_of(field)));
    }
}

/// A `metav1.LabelSelector`, where there is one.
pub fn label_selector(at: &At, field: &str, errors: &mut FieldErrors) {
    label_selector_with(at, field, SelectorLeniency::default(), errors);
}

pub fn label_selector_with(at: &At, field: &str, leniency: SelectorLeniency, errors: &mut FieldErrors) {
    if at.has(field) {
        errors.extend(validate_label_selector(
            at.node.get(field),
            leniency,
            &at.path_of(field),
        ));
    }
}

// === ports ===

pub fn port_number(at: &At, field: &str, errors: &mut FieldErrors) {
    let port = at.int(field);
    for complaint in name::is_valid_port_num(port) {
        at.invalid(field, port, complaint, errors);
    }
}

/// An `IntOrString` that is a port's number or name.
pub fn port_number_or_name(at: &At, field: &str, errors: &mut FieldErrors) {
    match at.text(field) {
        Some(port) => at.complain(field, port, name::is_valid_port_name(port), errors),
        None => port_number(at, field, errors),
    }
}

// === quantities ===

/// The quantity a node is; zero where it is none.
pub fn quantity(node: Option<&Node>) -> Quantity {
    match node {
        Some(Node::String(text)) => Quantity::parse(text).unwrap_or(Quantity::ZERO),
        Some(Node::Int(value)) => Quantity::new(*value, Format::DecimalSi),
        Some(Node::Float(value)) => Quantity::parse(&value.to_string()).unwrap_or(Quantity::ZERO),
        _ => Quantity::ZERO,
    }
}

pub fn non_negative_quantity(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = quantity(if field.is_empty() {
        Some(at.node)
    } else {
        at.node.get(field)
    });
    if value.sign() < 0 {
        at.invalid(field, value.canonical(), NEGATIVE, errors);
    }
}

pub fn positive_quantity(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = quantity(if field.is_empty() {
        Some(at.node)
    } else {
        at.node.get(field)
    });
    if value.sign() <= 0 {
        at.invalid(field, value.canonical(), NOT_POSITIVE, errors);
    }
}

// === updates ===

/// The member `field` must be what it was. `kind` is its type in the table of [`shown`]; strings and numbers are
/// `string` and `int`, pointers to them `*string`.
pub fn immutable(new: &At, old: &Node, field: &str, kind: &str, errors: &mut FieldErrors) {
    immutable_with(new, old, field, kind, IMMUTABLE, errors);
}

pub fn immutable_with(new: &At, old: &Node, field: &str, kind: &str, detail: &str, errors: &mut FieldErrors) {
    let (new_value, old_value) = (new.node.get(field), old.get(field));
    if !shown::equal(kind, new_value, old_value) {
        errors.push(changed(&new.path_of(field), new_value, kind, detail));
    }
}

/// The error of a value that must not change, shown in the form of its type.
pub fn changed(path: &FieldPath, value: Option<&Node>, kind: &str, detail: &str) -> FieldError {
    let error = FieldError::invalid(path, value.cloned().unwrap_or_default(), detail);
    match kind.trim_start_matches('*') {
        // Simple values are shown as they are.
        "string" | "int" | "bool" if kind.starts_with('*') && value.is_none_or(Node::is_null) => error.showing("null"),
        "string" => FieldError::invalid(path, value.and_then(Node::as_str).unwrap_or_default(), detail),
        "int" => FieldError::invalid(path, value.and_then(Node::as_i64).unwrap_or_default(), detail),
        "bool" => FieldError::invalid(path, value.and_then(Node::as_bool).unwrap_or_default(), detail),
        _ => error.showing(shown::json(kind, value)),
    }
}

// === warnings ===

/// Warns about an address in another form than the usual one. An empty `field` is this place.
pub fn warn_ip(at: &At, field: &str, warnings: &mut Vec<String>) {
    let text = if field.is_empty() {
        at.node.as_str().unwrap_or_default()
    } else {
        at.str(field)
    };
    warnings.extend(ip::ip_warning(text).map(|warning| format!("{}: {warning}", at.path_of(field))));
}

/// Warns about an address range in another form than the usual one.
pub fn warn_cidr(at: &At, warnings: &mut Vec<String>) {
    let found = ip::cidr_warnings(at.node.as_str().unwrap_or_default());
    warnings.extend(found.into_iter().map(|warning| format!("{}: {warning}", at.path())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn texts(errors: FieldErrors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finalizers_are_known_or_have_a_domain() {
        let object = node!({"metadata": {"finalizers": ["orphan", "a.b/c", "plain"]}});
        let mut errors = Vec::new();
        finalizers(&object, &mut errors);
        assert_eq!(
            texts(errors),
            [
                r#"metadata.finalizers[2]: Invalid value: "plain": name is neither a standard finalizer name nor is it fully qualified"#
            ]
        );
    }

    #[test]
    fn what_must_not_change_is_shown_in_its_form() {
        let (old, new) = (
            node!({"a": "x", "selector": {"matchLabels": {"a": "b"}}}),
            node!({"selector": {}}),
        );
        let mut errors = Vec::new();
        let at = At::named(&new, "spec");
        immutable(&at, &old, "a", "*string", &mut errors);
        immutable(&at, &old, "selector", "*labelSelector", &mut errors);
        assert_eq!(
            texts(errors),
            [
                "spec.a: Invalid value: null: field is immutable",
                "spec.selector: Invalid value: {}: field is immutable",
            ]
        );
    }

    #[test]
    fn ports_have_numbers_or_names() {
        let object = node!({"a": 0, "b": "web", "c": "-"});
        let mut errors = Vec::new();
        for field in ["a", "b", "c"] {
            port_number_or_name(&At::root(&object), field, &mut errors);
        }
        assert!(errors.iter().all(|e| e.path.as_str() != "b"));
        assert_eq!(errors.iter().filter(|e| e.path.as_str() == "a").count(), 1);
    }
}
