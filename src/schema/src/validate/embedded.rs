//! `x-kubernetes-embedded-resource`: objects inside the object, with metadata of their own.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/objectmeta/validation.go.

use crate::types::{Shape, TypeRef};
use fairlead_api::metadata::validate_object_meta;
use fairlead_api::name::{is_dns1035_label, name_is_path_segment};
use fairlead_api::{FieldError, FieldErrors, FieldPath, GroupVersion, Node};

pub(super) fn check(node: &Node, schema: TypeRef, path: &FieldPath, errors: &mut FieldErrors) {
    if schema.types.types.iter().any(|ty| ty.embedded_resource) {
        members(node, schema, path, errors);
    }
}

pub(super) fn walk(node: &Node, schema: TypeRef, path: &FieldPath, errors: &mut FieldErrors) {
    if schema.ty().embedded_resource && matches!(node, Node::Map(_)) {
        resource(node, path, errors);
    }
    members(node, schema, path, errors);
}

fn members(node: &Node, schema: TypeRef, path: &FieldPath, errors: &mut FieldErrors) {
    match node {
        Node::Map(map) => {
            for (name, value) in map.iter() {
                if let Some(member) = schema.member(name).filter(|m| m.ty().name.is_empty()) {
                    let at = if matches!(schema.shape(), Shape::Map(_)) {
                        path.key(name)
                    } else {
                        path.child(name)
                    };
                    walk(value, member, &at, errors);
                }
            }
        }
        Node::List(items) => {
            if let Some(item_type) = schema.items() {
                for (i, item) in items.iter().enumerate() {
                    walk(item, item_type, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn resource(node: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    for name in ["apiVersion", "kind"] {
        if node.get(name).is_none() {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
    if let Some(value) = node.get("apiVersion") {
        let at = path.child("apiVersion");
        match value.as_str() {
            None => errors.push(FieldError::invalid(&at, value.clone(), "must be a string")),
            Some("") => errors.push(FieldError::invalid(&at, "", "must not be empty")),
            Some(text) if GroupVersion::parse(text).is_none() => {
                errors.push(FieldError::invalid(
                    &at,
                    text,
                    format!("unexpected GroupVersion string: {text}"),
                ));
            }
            Some(_) => {}
        }
    }
    if let Some(value) = node.get("kind") {
        let at = path.child("kind");
        match value.as_str() {
            None => errors.push(FieldError::invalid(&at, value.clone(), "must be a string")),
            Some("") => errors.push(FieldError::invalid(&at, "", "must not be empty")),
            Some(text) => {
                let complaints = is_dns1035_label(&text.to_lowercase());
                if !complaints.is_empty() {
                    let detail = format!(
                        "may have mixed case, but should otherwise match: {}",
                        complaints.join(",")
                    );
                    errors.push(FieldError::invalid(&at, text, detail));
                }
            }
        }
    }
    if let Some(meta) = node.get("metadata") {
        let mut meta = meta.clone();
        if meta.str("name").is_empty() {
            // Any name will do: an embedded object need not have one.
            meta.set("name", "fakename");
        }
        let namespaced = !meta.str("namespace").is_empty();
        errors.extend(validate_object_meta(
            &meta,
            namespaced,
            name_is_path_segment,
            &path.child("metadata"),
        ));
    }
}
