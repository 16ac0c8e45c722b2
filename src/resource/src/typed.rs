//! Walks over the schema, as the engine calls them: decode, default. One place knows that custom resources
//! are read differently from built-in kinds.
// PERFORMANCE: per-request path

use crate::definition::ResourceDefinition;
use fairlead_api::{Node, json};
use fairlead_schema::{self as schema, Schema, Shape, TypeRef, Unknown};

/// Coerces `node` to `schema` as Go's decoder would and answers the paths of unknown fields, which are removed.
/// `document` is the text it came from, where that decides which of several mistakes is told.
///
/// # Errors
/// Go's words for what cannot be decoded.
pub fn decode(node: &mut Node, schema: &Schema, custom: bool, document: Option<&[u8]>) -> Result<Vec<String>, String> {
    if custom {
        return schema::decode_custom(node, schema.root(), Unknown::Collect).map_err(|error| error.to_string());
    }
    let forgets_owners = forgets_owners(node);
    let mut unknown = schema::decode(node, schema.root(), Unknown::Collect).map_err(|error| match document {
        Some(document) => error.in_document(document),
        None => error.to_string(),
    })?;
    if let Some(document) = document {
        json::in_document_order(document, &mut unknown, |path| path);
    }
    if forgets_owners {
        node.set_at(&["metadata", "managedFields"], Vec::new());
    }
    Ok(unknown)
}

/// Whether an object asks for no record of its owners: an empty list says so, an absent one does not.
fn forgets_owners(node: &Node) -> bool {
    matches!(node.at(&["metadata", "managedFields"]), Some(Node::List(entries)) if entries.is_empty())
}

/// [`decode`] of what a strategic merge patch made, which upstream converts with other words.
///
/// # Errors
/// The converter's words.
pub fn decode_patched(node: &mut Node, schema: &Schema) -> Result<Vec<String>, String> {
    restorable(node, schema.root())?;
    decode(node, schema, false, None).map_err(|why| match why.starts_with("illegal base64") {
        true => format!("error decoding from json: {why}"),
        false => why,
    })
}

/// Fills in defaults: the schema's, then the hook's.
pub fn default(node: &mut Node, definition: &ResourceDefinition) {
    schema::set_defaults(node, definition.schema.root());
    definition.hooks.default(node);
    complete(node, definition);
}

/// Adds the fields that built-in kinds are always written with, after something may have removed them.
pub fn complete(node: &mut Node, definition: &ResourceDefinition) {
    if !definition.is_custom() {
        schema::complete(node, definition.schema.root());
    }
}

/// What a valid state is once it is stored.
pub fn settle(node: &mut Node, definition: &ResourceDefinition) {
    if !definition.is_custom() {
        schema::forget_empty(node, definition.schema.root());
        schema::complete(node, definition.schema.root());
    }
}

/// Prunes and defaults a stored object. Answers whether that changed it.
pub fn normalize(node: &mut Node, definition: &ResourceDefinition) -> bool {
    let before = node.clone();
    prune(node, definition);
    default(node, definition);
    *node != before
}

/// Removes what the schema of a custom resource does not know.
pub fn prune(node: &mut Node, definition: &ResourceDefinition) {
    prune_as(node, &definition.schema);
}

/// [`prune`] by the schema of some version.
pub fn prune_as(node: &mut Node, of: &Schema) {
    if schema::decode_custom(node, of.root(), Unknown::Drop).is_ok() {
        return;
    }
    drop_malformed_metadata(node, of);
    // What has been stored can be read: where something is damaged still, the object is served as it is.
    if schema::decode_custom(node, of.root(), Unknown::Drop).is_err() {
        tracing::warn!(
            kind = node.str("kind"),
            name = node.name(),
            "a stored object does not fit its schema"
        );
    }
}

/// Removes the fields of metadata that are not what they should be.
fn drop_malformed_metadata(node: &mut Node, of: &Schema) {
    let Some(metadata) = node.get_mut("metadata").and_then(Node::as_map_mut) else {
        return;
    };
    metadata.retain(|name, value| {
        let mut one = Node::map();
        one.set_at(&["metadata", name.as_str()], value.clone());
        schema::decode_custom(&mut one, of.root(), Unknown::Keep).is_ok()
    });
}

/// An object without any values, as its kind is written: bookmarks.
pub fn empty(definition: &ResourceDefinition) -> Node {
    let mut node = if definition.is_custom() {
        Node::map()
    } else {
        schema::zero(definition.schema.root())
    };
    if !matches!(node, Node::Map(_)) {
        node = Node::map();
    }
    node.set("kind", definition.kind.as_str());
    node.set("apiVersion", definition.group_version().to_string());
    node
}

/// Sets a top-level field to what it is when nothing is given: absent for custom resources, the empty struct for
/// built-in ones that always write it.
pub fn reset(object: &mut Node, definition: &ResourceDefinition, field: &str) {
    object.remove(field);
    if definition.is_custom() {
        return;
    }
    let root = definition.schema.root();
    if let (Some(declared), Some(member)) = (root.field(field), root.member(field))
        && !declared.pointer
    {
        let value = schema::zero(member);
        if !declared.omit_empty || !value.is_zero() {
            object.set(field, value);
        }
    }
}

/// Whether a tree can be made a struct of this type, in the words of the converter that strategic merge patches use.
///
/// Source: kubernetes/apimachinery pkg/runtime/converter.go (fromUnstructured).
fn restorable(node: &Node, ty: TypeRef) -> Result<(), String> {
    if node.is_null() {
        return Ok(());
    }
    match (ty.shape(), node) {
        (Shape::Struct(fields), Node::Map(members)) => {
            for (key, value) in members.iter() {
                if let Some(field) = fields.get(key) {
                    restorable(value, ty.with(field.ty))?;
                }
            }
            Ok(())
        }
        (Shape::Struct(_), other) => Err(format!("cannot restore struct from: {}", go_kind(other))),
        (Shape::Map(values), Node::Map(members)) => members
            .values()
            .try_for_each(|value| restorable(value, ty.with(*values))),
        (Shape::Map(_), other) => Err(format!("cannot restore map from {}", go_kind(other))),
        (Shape::List(items), Node::List(values)) => {
            values.iter().try_for_each(|value| restorable(value, ty.with(*items)))
        }
        (Shape::List(_), other) => Err(format!("cannot restore slice from {}", go_kind(other))),
        (Shape::Bytes, Node::List(_) | Node::String(_)) => Ok(()),
        (Shape::Bytes, other) => Err(format!("cannot restore slice from {}", go_kind(other))),
        (Shape::Bool, Node::Bool(_)) | (Shape::String, Node::String(_)) => Ok(()),
        (Shape::Int { .. } | Shape::Float, Node::Int(_)) | (Shape::Float, Node::Float(_)) => Ok(()),
        (Shape::Int { .. }, Node::Float(f)) if f.trunc() == *f => Ok(()),
        (Shape::Int { bits }, Node::Float(_)) => Err(format!("cannot convert float64 to int{bits}")),
        (Shape::String, Node::Int(_)) => Err("cannot convert int64 to string".into()),
        (Shape::Bool, _) => Err("unrecognized type: bool".into()),
        (Shape::String, _) => Err("unrecognized type: string".into()),
        (Shape::Float, _) => Err("unrecognized type: float64".into()),
        (Shape::Int { bits }, _) => Err(format!("unrecognized type: int{bits}")),
        _ => Ok(()),
    }
}

/// The Go kind of a decoded JSON value.
fn go_kind(node: &Node) -> &'static str {
    match node {
        Node::Null => "invalid",
        Node::Bool(_) => "bool",
        Node::Int(_) => "int64",
        Node::Float(_) => "float64",
        Node::String(_) => "string",
        Node::List(_) => "slice",
        Node::Map(_) => "map",
    }
}

/// Fills in the defaults of a body that is not of the resource's own kind.
pub fn default_as(node: &mut Node, of: &Schema) {
    schema::set_defaults(node, of.root());
    schema::complete(node, of.root());
}
