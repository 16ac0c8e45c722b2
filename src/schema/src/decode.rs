//! Decoding as a Go type would: what the type does not have is dropped, values take their canonical form,
//! and what does not fit is refused in the words of Go's JSON decoder.
//!
//! Source of the rules: sigs.k8s.io/json (case-sensitive, strict) and the `UnmarshalJSON` methods of meta/v1.
// PERFORMANCE: per-request path

mod base64;
mod scalar;

use crate::go::{go_name, struct_name};
use crate::path::{self, Path, Step};
use crate::types::{Field, Fields, Shape, TypeRef};
use fairlead_api::{Key, Map, Node, json};
use std::fmt;

/// What becomes of fields that a type does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    Keep,
    Drop,
    /// Dropped, and their paths returned.
    Collect,
}

/// Why an object is not of its type: everything that was found wrong, in the order of the tree.
///
/// Displays as the one message Go would give for a document whose keys are sorted;
/// [`DecodeError::in_document`] is for documents as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodeError {
    problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    path: String,
    message: String,
    /// Go stops at these; the others it remembers, reading on, and reports the first of them.
    stops: bool,
    /// The way to a number whose text the tree does not keep, and the text the message has for it.
    number: Option<(Vec<json::Step>, String)>,
}

/// How many problems or unknown fields are remembered.
const LIMIT: usize = 100;

/// Makes `node` what a Go round trip through the type would make of it, defaults aside: unknown fields handled, nulls
/// and zero values of `omitempty` fields gone, times and quantities canonical, and fields that Go always writes there
/// (see [`complete`]). Returns the paths of unknown fields, `spec.foo`, at most 100.
///
/// # Errors
/// Where a value does not fit its type. The node is then half done.
pub fn decode(node: &mut Node, schema: TypeRef, unknown: Unknown) -> Result<Vec<String>, DecodeError> {
    decode_at(node, schema, unknown, "")
}

/// Like [`decode`] for a part of an object: paths of unknown fields start with `prefix`. Messages name only the part,
/// as where Go decodes metadata by itself: `Go struct field ObjectMeta.labels of type string`.
pub fn decode_at(node: &mut Node, schema: TypeRef, unknown: Unknown, prefix: &str) -> Result<Vec<String>, DecodeError> {
    let mut walk = Walk {
        unknown,
        unknown_fields: Vec::new(),
        error: DecodeError::default(),
    };
    let root = Path {
        parent: None,
        step: Step::Root(prefix),
    };
    if node.is_null() {
        *node = zero(schema);
    } else {
        walk.value(node, schema, &root);
    }
    match walk.error.problems.is_empty() {
        true => Ok(walk.unknown_fields),
        false => Err(walk.error),
    }
}

/// Adds the fields that Go writes even where they are empty: values without `omitempty`, and struct values always.
/// [`decode`] does it too; call it after anything that may have removed fields.
pub fn complete(node: &mut Node, schema: TypeRef) {
    match (node, schema.shape()) {
        (Node::Map(map), Shape::Struct(fields)) => {
            add_always_written(map, fields, schema);
            for (name, value) in map.iter_mut() {
                if let Some(field) = fields.get(name) {
                    complete(value, schema.with(field.ty));
                }
            }
        }
        (Node::Map(map), Shape::Map(values)) => map.values_mut().for_each(|v| complete(v, schema.with(*values))),
        (Node::List(items), Shape::List(item)) => items.iter_mut().for_each(|i| complete(i, schema.with(*item))),
        _ => {}
    }
}

/// Makes empty lists what storage makes of them, protobuf not knowing them: null where the field is always written, and
/// absent elsewhere. Until then owners of fields, admission and messages tell them apart.
pub fn forget_empty(node: &mut Node, schema: TypeRef) {
    match (node, schema.shape()) {
        (Node::Map(map), Shape::Struct(fields)) => map.retain(|name, value| {
            let Some(field) = fields.get(name) else {
                return true;
            };
            if field.keeps_empty && matches!(value, Node::List(items) if items.is_empty()) {
                *value = Node::Null;
                return !field.omit_empty;
            }
            forget_empty(value, schema.with(field.ty));
            true
        }),
        (Node::Map(map), Shape::Map(values)) => map.values_mut().for_each(|v| forget_empty(v, schema.with(*values))),
        (Node::List(items), Shape::List(item)) => items.iter_mut().for_each(|i| forget_empty(i, schema.with(*item))),
        _ => {}
    }
}

/// Of paths that a document had twice, those that Go notices: it does not look into values it does not decode.
pub fn known_duplicates(duplicates: Vec<String>, schema: TypeRef) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for path in duplicates {
        if path::is_declared(&path, schema) && !kept.contains(&path) {
            kept.push(path);
        }
    }
    kept
}

impl DecodeError {
    /// The message for this document: of several problems, the one Go meets first; numbers as they are written there.
    pub fn in_document(mut self, document: &[u8]) -> String {
        json::in_document_order(document, &mut self.problems, |p| &p.path);
        let Some(problem) = self.told() else {
            return String::new();
        };
        match &problem.number {
            Some((steps, shown)) => match json::literal_at(document, steps) {
                Some(literal) => problem.message.replacen(shown, &format!("number {literal}"), 1),
                None => problem.message.clone(),
            },
            None => problem.message.clone(),
        }
    }

    fn told(&self) -> Option<&Problem> {
        self.problems.iter().find(|p| p.stops).or(self.problems.first())
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.told().map_or("", |p| &p.message))
    }
}

impl std::error::Error for DecodeError {}

// === the walk ===

struct Walk {
    unknown: Unknown,
    unknown_fields: Vec<String>,
    error: DecodeError,
}

/// Why a single value does not fit.
enum Misfit {
    /// `cannot unmarshal <what> into … of type <type>`, the type being the schema's own.
    Type(String),
    /// The same about a Go type inside; a value's own decoder stops at it.
    Inner {
        what: String,
        ty: &'static str,
        stops: bool,
    },
    /// A message that stands by itself.
    Message { text: String, stops: bool },
}

impl Walk {
    fn value(&mut self, node: &mut Node, schema: TypeRef, path: &Path) {
        let misfit = match (schema.shape(), &mut *node) {
            (Shape::Any, _) => return,
            (Shape::Struct(fields), Node::Map(map)) => return self.fields(map, fields, schema, path),
            (Shape::Map(values), Node::Map(map)) => {
                let values = schema.with(*values);
                for (key, value) in map.iter_mut() {
                    self.element(
                        value,
                        values,
                        &Path {
                            parent: Some(path),
                            step: Step::Key(key),
                        },
                    );
                }
                return;
            }
            (Shape::List(items), Node::List(list)) => {
                let items = schema.with(*items);
                for (i, item) in list.iter_mut().enumerate() {
                    self.element(
                        item,
                        items,
                        &Path {
                            parent: Some(path),
                            step: Step::Index(i),
                        },
                    );
                }
                return;
            }
            (Shape::Bytes, Node::List(list)) => match scalar::bytes_of(list) {
                Ok(text) => {
                    *node = text;
                    return;
                }
                Err((i, what)) => {
                    let at = Path {
                        parent: Some(path),
                        step: Step::Index(i),
                    };
                    return self.problem(
                        Misfit::Inner {
                            what,
                            ty: "uint8",
                            stops: false,
                        },
                        schema,
                        &at,
                    );
                }
            },
            (Shape::Struct(_) | Shape::Map(_) | Shape::List(_), other) => Misfit::Type(scalar::go_kind(other)),
            (shape, value) => match scalar::coerce(value, shape) {
                Ok(()) => return,
                Err(misfit) => misfit,
            },
        };
        self.problem(misfit, schema, path);
    }

    /// An item of a list or a value of a map: null is the zero value there.
    fn element(&mut self, node: &mut Node, schema: TypeRef, path: &Path) {
        if node.is_null() {
            *node = zero(schema);
        } else {
            self.value(node, schema, path);
        }
    }

    fn fields(&mut self, map: &mut Map, fields: &Fields, schema: TypeRef, path: &Path) {
        map.retain(|name, value| {
            let Some(field) = fields.get(name) else {
                if schema.ty().preserve_unknown {
                    return true;
                }
                if self.unknown == Unknown::Collect && self.unknown_fields.len() < LIMIT {
                    self.unknown_fields.push(
                        Path {
                            parent: Some(path),
                            step: Step::Key(name),
                        }
                        .json(),
                    );
                }
                return self.unknown == Unknown::Keep;
            };
            if value.is_null() {
                return false;
            }
            let ty = schema.with(field.ty);
            self.value(
                value,
                ty,
                &Path {
                    parent: Some(path),
                    step: Step::Field(field, schema),
                },
            );
            !is_left_out(value, field, ty)
        });
        add_always_written(map, fields, schema);
    }

    fn problem(&mut self, misfit: Misfit, schema: TypeRef, path: &Path) {
        if self.error.problems.len() >= LIMIT {
            return;
        }
        let (message, stops, what) = match misfit {
            Misfit::Type(what) => (mismatch(&what, &go_name(schema), path), false, what),
            Misfit::Inner { what, ty, stops } => (mismatch(&what, ty, path), stops, what),
            Misfit::Message { text, stops } => (text, stops, String::new()),
        };
        let number = what.starts_with("number ").then(|| (path.steps(), what));
        self.error.problems.push(Problem {
            path: path.json(),
            message,
            stops,
            number,
        });
    }
}

fn mismatch(what: &str, ty: &str, path: &Path) -> String {
    match path.go_fields() {
        Some((owner, fields)) => {
            format!(
                "json: cannot unmarshal {what} into Go struct field {}.{fields} of type {ty}",
                struct_name(owner)
            )
        }
        None => format!("json: cannot unmarshal {what} into Go value of type {ty}"),
    }
}

// === zero values ===

/// Whether a decoded value of a field is not written. Empty lists and maps do not survive storage in protobuf,
/// so for most of them empty means absent; [`add_always_written`] puts a null there where Go would.
pub(crate) fn is_left_out(value: &Node, field: &Field, ty: TypeRef) -> bool {
    if value.is_null() {
        return !matches!(ty.shape(), Shape::Any);
    }
    if field.pointer {
        return false;
    }
    match ty.shape() {
        Shape::List(_) => value.is_zero() && !field.keeps_empty,
        Shape::Map(_) | Shape::Bytes => value.is_zero(),
        Shape::Bool | Shape::Int { .. } | Shape::Float | Shape::String => field.omit_empty && value.is_zero(),
        _ => false,
    }
}

fn add_always_written(map: &mut Map, fields: &Fields, schema: TypeRef) {
    for field in &fields.fields {
        if map.contains_key(&field.name) {
            continue;
        }
        if let Some(value) = always_written(field, schema.with(field.ty)) {
            map.insert(field.name.clone(), value);
        }
    }
}

/// What Go writes for a field that was not set; `None` where it writes nothing.
pub(crate) fn always_written(field: &Field, ty: TypeRef) -> Option<Node> {
    if field.omit_zero {
        return None;
    }
    if field.pointer {
        return (!field.omit_empty).then_some(Node::Null);
    }
    match ty.shape() {
        // To omitempty no struct is empty, and these are structs to Go.
        Shape::Struct(_)
        | Shape::Any
        | Shape::Time
        | Shape::MicroTime
        | Shape::Duration
        | Shape::Quantity
        | Shape::IntOrString => Some(zero(ty)),
        _ => (!field.omit_empty).then(|| zero(ty)),
    }
}

/// Go's zero value of a type, as JSON.
pub fn zero(schema: TypeRef) -> Node {
    match schema.shape() {
        Shape::Struct(fields) => {
            let entries: Vec<(Key, Node)> = fields
                .fields
                .iter()
                .filter_map(|f| Some((f.name.clone(), always_written(f, schema.with(f.ty))?)))
                .collect();
            Node::Map(Map::from_entries(entries))
        }
        Shape::Bool => Node::Bool(false),
        Shape::Int { .. } | Shape::Float | Shape::IntOrString => Node::Int(0),
        Shape::String => Node::string(""),
        Shape::Quantity => Node::string("0"),
        Shape::Duration => Node::string("0s"),
        Shape::Any | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::List(_) | Shape::Map(_) => Node::Null,
    }
}

#[cfg(test)]
mod tests;
