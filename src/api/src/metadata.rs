//! Checks of a whole `metadata`, on create and on update.
//!
//! Source of the rules: kubernetes/apimachinery pkg/api/validation/objectmeta.go.
// PERFORMANCE: per-request path

use crate::field::{FieldError, FieldErrors, FieldPath, go_quote};
use crate::gvk::GroupVersion;
use crate::name::{self, NameFn};
use crate::node::{Map, Node};
use crate::time::Timestamp;
use std::collections::BTreeSet;

const ANNOTATIONS_LIMIT: usize = 256 * 1024;
const FIELD_MANAGER_LIMIT: usize = 128;
const SUBRESOURCE_LIMIT: usize = 256;

/// Checks the metadata of a new object. `namespaced` says whether it must have a namespace or must not.
pub fn validate_object_meta(meta: &Node, namespaced: bool, name_fn: NameFn, path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    let prefix = meta.str("generateName");
    if !prefix.is_empty() {
        complain(&mut errors, &path.child("generateName"), prefix, name_fn(prefix, true));
    }
    match meta.str("name") {
        "" => errors.push(FieldError::required(
            &path.child("name"),
            "name or generateName is required",
        )),
        name => complain(&mut errors, &path.child("name"), name, name_fn(name, false)),
    }
    let namespace = meta.str("namespace");
    let at = path.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(&at, "")),
        (true, false) => complain(&mut errors, &at, namespace, name::is_dns1123_label(namespace)),
        (false, false) => errors.push(FieldError::forbidden(&at, "not allowed on this type")),
        (false, true) => {}
    }
    let generation = meta.get("generation").and_then(Node::as_i64).unwrap_or(0);
    if generation < 0 {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(validate_labels(meta.get("labels"), &path.child("labels")));
    errors.extend(validate_annotations(
        meta.get("annotations"),
        &path.child("annotations"),
    ));
    errors.extend(validate_owner_references(
        meta.list("ownerReferences"),
        &path.child("ownerReferences"),
    ));
    errors.extend(validate_finalizers(meta.list("finalizers"), &path.child("finalizers")));
    errors.extend(validate_managed_fields(
        meta.list("managedFields"),
        &path.child("managedFields"),
    ));
    errors
}

/// Checks how the metadata of a stored object may change.
pub fn validate_object_meta_update(new: &Node, old: &Node, path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    if !old.str("deletionTimestamp").is_empty() {
        errors.extend(no_new_finalizers(
            new.list("finalizers"),
            old.list("finalizers"),
            &path.child("finalizers"),
        ));
    }
    if new.str("resourceVersion").is_empty() {
        errors.push(FieldError::invalid(
            &path.child("resourceVersion"),
            "",
            "must be specified for an update",
        ));
    }
    let generation = |meta: &Node| meta.get("generation").and_then(Node::as_i64).unwrap_or(0);
    if generation(new) < generation(old) {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation(new),
            "must not be decremented",
        ));
    }
    for field in ["name", "namespace", "uid"] {
        if new.str(field) != old.str(field) {
            errors.push(FieldError::invalid(
                &path.child(field),
                new.str(field),
                "field is immutable",
            ));
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (new.get(field), old.get(field));
        if !same_instant(new, old) {
            let shown = new.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&path.child(field), shown, "field is immutable"));
        }
    }
    errors.extend(validate_labels(new.get("labels"), &path.child("labels")));
    errors.extend(validate_annotations(new.get("annotations"), &path.child("annotations")));
    errors.extend(validate_owner_references(
        new.list("ownerReferences"),
        &path.child("ownerReferences"),
    ));
    errors.extend(validate_managed_fields(
        new.list("managedFields"),
        &path.child("managedFields"),
    ));
    errors
}

/// Checks keys and values; also for `matchLabels` and selectors that are plain maps.
pub fn validate_labels(labels: Option<&Node>, path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    for (key, value) in entries(labels) {
        complain(&mut errors, path, key, name::is_qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        complain(&mut errors, path, value, name::is_valid_label_value(value));
    }
    errors
}

pub fn validate_annotations(annotations: Option<&Node>, path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in entries(annotations) {
        complain(&mut errors, path, key, name::is_qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(path, ANNOTATIONS_LIMIT as i64));
    }
    errors
}

pub fn validate_finalizers(finalizers: &[Node], path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    for finalizer in finalizers.iter().filter_map(Node::as_str) {
        complain(&mut errors, path, finalizer, name::is_qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|f| f.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(path, finalizers.to_vec(), detail));
    }
    errors
}

pub fn validate_owner_references(references: &[Node], path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for reference in references {
        let api_version = reference.str("apiVersion");
        // An apiVersion that cannot be split stands for nothing, as upstream reads it.
        let gv = GroupVersion::parse(api_version).unwrap_or_default();
        if gv.version.is_empty() {
            errors.push(FieldError::invalid(
                &path.child("apiVersion"),
                api_version,
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if reference.str(field).is_empty() {
                errors.push(FieldError::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        let gvk = gv.kind(reference.str("kind"));
        if gvk.group.is_empty() && gvk.version == "v1" && gvk.kind == "Event" {
            let detail = format!("{gvk} is disallowed from being an owner");
            errors.push(FieldError::invalid(path, reference.clone(), detail).showing(reference_text(reference)));
        }
        if reference.get("controller").and_then(Node::as_bool) == Some(true) {
            let this = format!("{}/{}", reference.str("kind"), reference.str("name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let texts: Vec<String> = references.iter().map(reference_text).collect();
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.push(
                        FieldError::invalid(path, references.to_vec(), detail)
                            .showing(format!("[{}]", texts.join(","))),
                    );
                }
            }
        }
    }
    errors
}

pub fn validate_managed_fields(entries: &[Node], path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let path = path.index(i);
        let operation = entry.str("operation");
        if !matches!(operation, "Apply" | "Update") {
            errors.push(FieldError::invalid(
                &path.child("operation"),
                operation,
                "must be `Apply` or `Update`",
            ));
        }
        let fields_type = entry.str("fieldsType");
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.push(FieldError::invalid(
                &path.child("fieldsType"),
                fields_type,
                "must be `FieldsV1`",
            ));
        }
        errors.extend(validate_field_manager(entry.str("manager"), &path.child("manager")));
        if entry.str("subresource").len() > SUBRESOURCE_LIMIT {
            errors.push(FieldError::too_long(
                &path.child("subresource"),
                SUBRESOURCE_LIMIT as i64,
            ));
        }
    }
    errors
}

/// Also for the `fieldManager` parameter.
pub fn validate_field_manager(manager: &str, path: &FieldPath) -> FieldErrors {
    let mut errors = Vec::new();
    if manager.len() > FIELD_MANAGER_LIMIT {
        errors.push(FieldError::too_long(path, FIELD_MANAGER_LIMIT as i64));
    }
    complain(&mut errors, path, manager, name::unprintable(manager));
    errors
}

/// What `spec.selector` objects are checked for besides what they select.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectorLeniency {
    /// Values of expressions may be anything (selectors that were stored before they were checked).
    pub any_values: bool,
    /// Operators may be unknown (access reviews).
    pub any_operator: bool,
}

/// Checks a `metav1.LabelSelector`.
pub fn validate_label_selector(selector: Option<&Node>, leniency: SelectorLeniency, path: &FieldPath) -> FieldErrors {
    let Some(selector) = selector else { return Vec::new() };
    let mut errors = validate_labels(selector.get("matchLabels"), &path.child("matchLabels"));
    for (i, expression) in selector.list("matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let (operator, values) = (expression.str("operator"), expression.list("values"));
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ if leniency.any_operator => {}
            _ => errors.push(FieldError::invalid(
                &path.child("operator"),
                operator,
                "not a valid selector operator",
            )),
        }
        let key = expression.str("key");
        complain(&mut errors, &path.child("key"), key, name::is_qualified_name(key));
        if !leniency.any_values {
            for (j, value) in values.iter().filter_map(Node::as_str).enumerate() {
                complain(
                    &mut errors,
                    &path.child("values").index(j),
                    value,
                    name::is_valid_label_value(value),
                );
            }
        }
    }
    errors
}

/// One error for each complaint about a value.
pub fn complain(errors: &mut FieldErrors, path: &FieldPath, value: &str, complaints: Vec<String>) {
    errors.extend(
        complaints
            .into_iter()
            .map(|complaint| FieldError::invalid(path, value, complaint)),
    );
}

fn no_new_finalizers(new: &[Node], old: &[Node], path: &FieldPath) -> Option<FieldError> {
    let extra: BTreeSet<&str> = new
        .iter()
        .filter(|f| !old.contains(f))
        .filter_map(Node::as_str)
        .collect();
    if extra.is_empty() {
        return None;
    }
    let names: Vec<String> = extra.into_iter().map(go_quote).collect();
    Some(FieldError::forbidden(
        path,
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            names.join(", ")
        ),
    ))
}

/// Equal values, or one instant written in two ways.
fn same_instant(a: Option<&Node>, b: Option<&Node>) -> bool {
    let given = |n: Option<&Node>| n.filter(|n| !n.is_null()).cloned();
    match (given(a), given(b)) {
        (Some(Node::String(a)), Some(Node::String(b))) if a != b => {
            matches!((Timestamp::parse(&a), Timestamp::parse(&b)), (Some(a), Some(b)) if a.unix_seconds() == b.unix_seconds())
        }
        (a, b) => a == b,
    }
}

/// JSON in the order of the Go struct's fields.
fn reference_text(reference: &Node) -> String {
    let mut parts = Vec::new();
    for (field, always) in [
        ("apiVersion", true),
        ("kind", true),
        ("name", true),
        ("uid", true),
        ("controller", false),
        ("blockOwnerDeletion", false),
    ] {
        let value = match reference.get(field) {
            Some(value) => crate::json::to_string(value),
            None if always => "\"\"".into(),
            None => continue,
        };
        parts.push(format!("\"{field}\":{value}"));
    }
    format!("{{{}}}", parts.join(","))
}

fn entries(map: Option<&Node>) -> impl Iterator<Item = (&str, &Node)> {
    map.and_then(Node::as_map)
        .into_iter()
        .flat_map(Map::iter)
        .map(|(k, v)| (k.as_str(), v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node;

    fn texts(errors: FieldErrors) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn new_metadata_is_checked() {
        let path = FieldPath::new("metadata");
        let check = |meta: Node, namespaced| {
            texts(validate_object_meta(
                &meta,
                namespaced,
                name::name_is_dns_subdomain,
                &path,
            ))
        };
        assert_eq!(
            check(node!({"name": "a", "namespace": "b"}), true),
            Vec::<String>::new()
        );
        assert_eq!(
            check(node!({}), true),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        assert_eq!(
            check(node!({"name": "a", "namespace": "b"}), false),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        assert_eq!(
            check(
                node!({"name": "a", "annotations": {"k": "x".repeat(256 * 1024)}}),
                false
            ),
            ["metadata.annotations: Too long: may not be more than 262144 bytes"]
        );
        let owners = check(
            node!({"name": "a", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "Pod", "name": "y", "uid": "2", "controller": true}]}),
            false,
        );
        assert_eq!(
            owners,
            [concat!(
                r#"metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Pod","name":"x","uid":"1","controller":true},"#,
                r#"{"apiVersion":"v1","kind":"Pod","name":"y","uid":"2","controller":true}]: Only one reference can have Controller set to true. "#,
                r#"Found "true" in references for Pod/x and Pod/y"#
            )]
        );
    }

    #[test]
    fn immutable_metadata_is_guarded() {
        let path = FieldPath::new("metadata");
        let old = node!({"name": "a", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1",
            "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.b/c"]});
        let mut new = old.clone();
        new.set("creationTimestamp", "2026-01-01T01:00:00+01:00");
        assert_eq!(
            texts(validate_object_meta_update(&new, &old, &path)),
            Vec::<String>::new()
        );
        new.set("uid", "2");
        new.set("finalizers", node!(["a.b/c", "example.com/more"]));
        new.set("resourceVersion", "");
        assert_eq!(
            texts(validate_object_meta_update(&new, &old, &path)),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.com/more\"}",
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }
}
