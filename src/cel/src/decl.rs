//! [`Decl`]: what a schema declares to expressions: types, and how large values may be.
//!
//! Source: kubernetes/apiserver pkg/cel/common/schemas.go, pkg/cel/types.go.

use crate::escape;
use crate::types::Type;
use fairlead_schema::{Shape, TypeRef};
use std::collections::BTreeMap;

/// The largest request there is.
pub const MAX_REQUEST_BYTES: i64 = 3 * 1024 * 1024;

/// A declared type with its bounds.
#[derive(Debug)]
pub struct Decl {
    pub ty: Type,
    /// How many elements, entries or bytes at most; 0 for what has none.
    pub max_elements: u64,
    /// How small a value can be in JSON, in bytes.
    pub min_size: i64,
    /// Of a list's items, or a map's values.
    pub element: Option<Box<Decl>>,
    /// By escaped name.
    pub fields: BTreeMap<String, Decl>,
}

const MIN_STRING: i64 = 2;
const MIN_BOOL: i64 = 4;
const MIN_NUMBER: i64 = 1;

impl Decl {
    /// The declaration of a schema; `None` where expressions cannot see its values. Objects are named after `name`.
    /// `is_root` is for whole resources, whose metadata expressions see.
    pub fn of(schema: TypeRef, is_root: bool, name: &str) -> Option<Decl> {
        let ty = schema.ty();
        let validation = ty.validation.as_deref();
        let max = |given: Option<i64>, otherwise: i64| given.map_or(otherwise, |n| n.max(0)).unsigned_abs();
        Some(match schema.shape() {
            Shape::IntOrString => {
                let length = validation.and_then(|v| v.max_length);
                Decl::scalar(
                    Type::Dyn,
                    max(length.map(|n| n.saturating_mul(4)), MAX_REQUEST_BYTES - 2),
                    1,
                )
            }
            Shape::List(_) => {
                let items = schema.items()?;
                let items = Decl::of(items, items.ty().embedded_resource, &format!("{name}.@idx"))?;
                let most = (MAX_REQUEST_BYTES - 2) / (items.min_size + 1);
                Decl {
                    ty: Type::list(items.ty.clone()),
                    max_elements: max(validation.and_then(|v| v.max_items), most),
                    min_size: 2,
                    element: Some(Box::new(items)),
                    fields: BTreeMap::new(),
                }
            }
            Shape::Map(values) => {
                let values = schema.with(*values);
                if is_anything(values) {
                    return Some(Decl::object(name, BTreeMap::new(), 2));
                }
                let values = Decl::of(values, values.ty().embedded_resource, &format!("{name}.@elem"))?;
                let most = (MAX_REQUEST_BYTES - 2) / (values.min_size + 6);
                Decl {
                    ty: Type::map(Type::String, values.ty.clone()),
                    max_elements: max(validation.and_then(|v| v.max_properties), most),
                    min_size: 2,
                    element: Some(Box::new(values)),
                    fields: BTreeMap::new(),
                }
            }
            Shape::Struct(_) => structure(schema, is_root, name),
            Shape::Bool => Decl::scalar(Type::Bool, 0, MIN_BOOL),
            Shape::Int { .. } => Decl::scalar(Type::Int, 0, MIN_NUMBER),
            Shape::Float => Decl::scalar(Type::Double, 0, MIN_NUMBER),
            Shape::String => string(schema),
            _ => return None,
        })
    }

    fn scalar(ty: Type, max_elements: u64, min_size: i64) -> Decl {
        Decl {
            ty,
            max_elements,
            min_size,
            element: None,
            fields: BTreeMap::new(),
        }
    }

    fn object(name: &str, fields: BTreeMap<String, Decl>, min_size: i64) -> Decl {
        let types = fields
            .iter()
            .map(|(name, decl)| (name.clone(), decl.ty.clone()))
            .collect();
        Decl {
            ty: Type::object(name, types),
            max_elements: 0,
            min_size,
            element: None,
            fields,
        }
    }

    /// How often a value of at least this size fits into a request.
    pub fn max_cardinality(&self) -> u64 {
        (MAX_REQUEST_BYTES / (self.min_size + 1)).unsigned_abs()
    }
}

/// `additionalProperties: true`, which declares nothing.
fn is_anything(schema: TypeRef) -> bool {
    let ty = schema.ty();
    matches!(ty.shape, Shape::Any) && !ty.preserve_unknown && ty.validation.is_none()
}

fn structure(schema: TypeRef, is_root: bool, name: &str) -> Decl {
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    let Shape::Struct(declared) = schema.shape() else {
        return Decl::object(name, fields, min_size);
    };
    for field in &declared.fields {
        let resource_field = is_root && matches!(field.name.as_str(), "apiVersion" | "kind" | "metadata");
        let escaped = escape::escape(&field.name);
        let field_name = format!("{name}.{}", escaped.as_deref().unwrap_or(&field.name));
        let decl = if resource_field {
            resource(&field.name, &field_name)
        } else {
            let ty = schema.with(field.ty);
            match Decl::of(ty, ty.ty().embedded_resource, &field_name) {
                Some(decl) => decl,
                None => continue,
            }
        };
        if field.required && field.default.is_none() {
            min_size += field.name.len() as i64 + decl.min_size + 4;
        }
        if let Some(escaped) = escaped {
            fields.insert(escaped, decl);
        }
    }
    Decl::object(name, fields, min_size)
}

/// What expressions see of a whole object beside what its schema declares.
fn resource(field: &str, name: &str) -> Decl {
    let text = || Decl::scalar(Type::String, (MAX_REQUEST_BYTES - 2).unsigned_abs(), MIN_STRING);
    if field == "metadata" {
        let fields = ["name", "generateName"].map(|f| (f.to_owned(), text()));
        return Decl::object(name, fields.into(), 2);
    }
    text()
}

fn string(schema: TypeRef) -> Decl {
    let Some(validation) = schema.ty().validation.as_deref() else {
        return Decl::scalar(Type::String, (MAX_REQUEST_BYTES - 2).unsigned_abs(), MIN_STRING);
    };
    let length = validation.max_length.map(|n| n.max(0).unsigned_abs());
    let whole_request = (MAX_REQUEST_BYTES - 2).unsigned_abs();
    match validation.format.as_str() {
        "byte" => Decl::scalar(Type::Bytes, length.unwrap_or(whole_request), MIN_STRING),
        "duration" => Decl::scalar(Type::Duration, 32, 3),
        "date" => Decl::scalar(Type::Timestamp, 12, 12),
        "date-time" => Decl::scalar(Type::Timestamp, 32, 21),
        _ => {
            let longest = || {
                validation
                    .enumeration
                    .iter()
                    .filter_map(|v| v.as_str())
                    .map(|s| s.len() as u64)
                    .max()
            };
            let most = match length {
                // Lengths count characters, and those take up to four bytes.
                Some(length) => length.saturating_mul(4),
                None if !validation.enumeration.is_empty() => longest().unwrap_or(0),
                None => whole_request,
            };
            Decl::scalar(Type::String, most, MIN_STRING)
        }
    }
}
