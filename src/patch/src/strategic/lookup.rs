//! What the schema says about one member of an object: its type, its patch strategy and its merge key.

use crate::PatchError;
use fairlead_schema::{Field, PatchStrategy, Shape, TypeRef};

pub struct Lookup<'a> {
    /// Of the member, or of its items.
    pub ty: TypeRef<'a>,
    pub strategy: PatchStrategy,
    /// Empty where there is none.
    pub merge_key: &'a str,
}

/// The member `key` of `schema`, which must be a struct.
pub fn of_map<'a>(schema: TypeRef<'a>, key: &str) -> Result<Lookup<'a>, PatchError> {
    let Shape::Struct(fields) = schema.shape() else {
        return Err(match schema.shape() {
            // A Go struct that holds any JSON.
            Shape::Any => missing(schema, key),
            _ => PatchError::Unclassified(format!(
                "merging an object in json but data type is not struct, instead is: {}",
                go_kind(schema)
            )),
        });
    };
    let field: &Field = fields
        .get(key)
        .or_else(|| fields.fields.iter().find(|f| f.name.eq_ignore_ascii_case(key)))
        .ok_or_else(|| missing(schema, key))?;
    Ok(Lookup {
        ty: schema.with(field.ty),
        strategy: field.patch,
        merge_key: &field.patch_merge_key,
    })
}

/// The items of the list `key` of `schema`.
pub fn of_list<'a>(schema: TypeRef<'a>, key: &str) -> Result<Lookup<'a>, PatchError> {
    let member = of_map(schema, key)?;
    match member.ty.items() {
        Some(items) => Ok(Lookup { ty: items, ..member }),
        None => Err(PatchError::Unclassified(format!(
            "expected slice or array type, but got: {}",
            go_kind(schema)
        ))),
    }
}

/// `reflect.Kind` of the Go type behind a schema.
pub fn go_kind(ty: TypeRef) -> &'static str {
    match ty.shape() {
        Shape::Bool => "bool",
        Shape::Int { bits: 32 } => "int32",
        Shape::Int { .. } => "int64",
        Shape::Float => "float64",
        Shape::String => "string",
        Shape::Bytes | Shape::List(_) => "slice",
        Shape::Map(_) => "map",
        Shape::Any
        | Shape::Quantity
        | Shape::Time
        | Shape::MicroTime
        | Shape::Duration
        | Shape::IntOrString
        | Shape::Struct(_) => "struct",
    }
}

fn missing(schema: TypeRef, key: &str) -> PatchError {
    let name = schema.ty().name.rsplit('.').next().unwrap_or_default();
    PatchError::Unclassified(format!(
        "unable to find api field in struct {name} for the json field {}",
        fairlead_api::field::go_quote(key)
    ))
}
