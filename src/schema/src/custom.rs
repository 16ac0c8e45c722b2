//! Decoding a custom resource: metadata as the Go type would, everything else pruned by the schema.
//!
//! Source of the order: kubernetes/apiextensions-apiserver pkg/apiserver/customresource_handler.go (schema coercer).
// PERFORMANCE: per-request path

use crate::decode::{DecodeError, Unknown, decode_at};
use crate::default::drop_nulls;
use crate::prune::prune;
use crate::types::{Shape, TypeRef};
use fairlead_api::{FieldError, FieldPath, Node};

/// Why an object cannot be read as the custom resource it says it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CustomDecodeError {
    #[error("{0}")]
    Metadata(DecodeError),
    /// In an embedded resource.
    #[error("{0}")]
    Embedded(FieldError),
}

/// Reads `node` by its schema: metadata (of embedded resources too) is coerced, unknown fields and nulls that mean
/// nothing are removed. Returns the paths of unknown fields in upstream's order: those of metadata, then the others.
/// With [`Unknown::Keep`] only metadata is touched.
///
/// # Errors
/// Where metadata is not metadata. The node is then half done.
pub fn decode_custom(node: &mut Node, schema: TypeRef, unknown: Unknown) -> Result<Vec<String>, CustomDecodeError> {
    let drop = if unknown == Unknown::Keep {
        Unknown::Drop
    } else {
        unknown
    };
    let mut paths = match (schema.member("metadata"), node.get_mut("metadata")) {
        (Some(meta), Some(value)) => decode_at(value, meta, drop, "metadata").map_err(CustomDecodeError::Metadata)?,
        _ => Vec::new(),
    };
    if unknown != Unknown::Keep {
        let pruned = prune(node, schema);
        if unknown == Unknown::Collect {
            paths.extend(pruned);
        }
        drop_nulls(node, schema);
    }
    if schema.types.types.iter().any(|ty| ty.embedded_resource) {
        let mut found = Vec::new();
        members(node, schema, &FieldPath::root(), drop, &mut found).map_err(CustomDecodeError::Embedded)?;
        found.sort();
        paths.extend(found);
    }
    Ok(paths)
}

/// Reads the metadata of a value that is, or holds, embedded resources; the paths of unknown fields are forgotten.
///
/// # Errors
/// Where it is not metadata.
pub fn coerce_embedded(node: &mut Node, schema: TypeRef, path: &FieldPath, unknown: Unknown) -> Result<(), FieldError> {
    coerce(node, schema, path, unknown, &mut Vec::new())
}

fn coerce(
    node: &mut Node,
    schema: TypeRef,
    path: &FieldPath,
    unknown: Unknown,
    found: &mut Vec<String>,
) -> Result<(), FieldError> {
    if schema.ty().embedded_resource && matches!(node, Node::Map(_)) {
        for name in ["apiVersion", "kind"] {
            if let Some(value) = node.get(name).filter(|v| v.as_str().is_none()) {
                return Err(FieldError::invalid(
                    &path.child(name),
                    value.clone(),
                    "must be a string",
                ));
            }
        }
        if let (Some(meta), Some(value)) = (schema.member("metadata"), node.get_mut("metadata")) {
            let at = path.child("metadata");
            let given = value.clone();
            found.extend(
                decode_at(value, meta, unknown, at.as_str())
                    .map_err(|e| FieldError::invalid(&at, given, e.to_string()))?,
            );
        }
    }
    members(node, schema, path, unknown, found)
}

fn members(
    node: &mut Node,
    schema: TypeRef,
    path: &FieldPath,
    unknown: Unknown,
    found: &mut Vec<String>,
) -> Result<(), FieldError> {
    match node {
        Node::Map(map) => {
            for (name, value) in map.iter_mut() {
                // Metadata is a Go type: nothing is embedded in it.
                let Some(member) = schema.member(name).filter(|m| m.ty().name.is_empty()) else {
                    continue;
                };
                let at = if matches!(schema.shape(), Shape::Map(_)) {
                    path.key(name)
                } else {
                    path.child(name)
                };
                coerce(value, member, &at, unknown, found)?;
            }
        }
        Node::List(items) => {
            let Some(item_type) = schema.items() else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                coerce(item, item_type, &path.index(i), unknown, found)?;
            }
        }
        _ => {}
    }
    Ok(())
}
