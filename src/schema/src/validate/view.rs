//! [`View`]: a type and a constraint seen alike, as upstream's validator sees both as schemas.

use super::formats;
use crate::types::{Constraint, Shape, TypeRef, Validation};
use compact_str::CompactString;

#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    Type(TypeRef<'a>),
    Constraint(&'a Constraint),
}

impl<'a> View<'a> {
    /// The JSON types that values may have; empty for any.
    pub fn types(self) -> &'static [&'static str] {
        match self {
            View::Type(schema) => match schema.shape() {
                Shape::Struct(_) | Shape::Map(_) => &["object"],
                Shape::List(_) => &["array"],
                Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration => &["string"],
                Shape::Int { .. } => &["integer"],
                Shape::Float => &["number"],
                Shape::Bool => &["boolean"],
                Shape::IntOrString => &["integer", "string"],
                Shape::Any | Shape::Quantity => &[],
            },
            View::Constraint(constraint) => match constraint.type_name.as_str() {
                "object" => &["object"],
                "array" => &["array"],
                "string" => &["string"],
                "integer" => &["integer"],
                "number" => &["number"],
                "boolean" => &["boolean"],
                _ => &[],
            },
        }
    }

    pub fn nullable(self) -> bool {
        match self {
            View::Type(schema) => schema.ty().nullable,
            View::Constraint(constraint) => constraint.nullable,
        }
    }

    pub fn validation(self) -> Option<&'a Validation> {
        match self {
            View::Type(schema) => schema.ty().validation.as_deref(),
            View::Constraint(constraint) => Some(&constraint.validation),
        }
    }

    /// The format, where it means something for the type.
    pub fn format(self) -> &'a str {
        let format = self.validation().map_or("", |v| v.format.as_str());
        if format.is_empty() || formats::is_supported(format, self.types()) {
            format
        } else {
            ""
        }
    }

    pub fn checks_type(self) -> bool {
        !self.types().is_empty() || !self.format().is_empty()
    }

    pub fn property(self, name: &str) -> Option<View<'a>> {
        match self {
            View::Type(schema) => schema.field(name).map(|f| View::Type(schema.with(f.ty))),
            View::Constraint(constraint) => constraint
                .properties
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, c)| View::Constraint(c)),
        }
    }

    pub fn additional(self) -> Option<View<'a>> {
        match self {
            View::Type(schema) => match schema.shape() {
                Shape::Map(values) => Some(View::Type(schema.with(*values))),
                Shape::Struct(fields) => fields.additional.map(|id| View::Type(schema.with(id))),
                _ => None,
            },
            View::Constraint(constraint) => constraint.additional.as_deref().map(View::Constraint),
        }
    }

    pub fn items(self) -> Option<View<'a>> {
        match self {
            View::Type(schema) => schema.items().map(View::Type),
            View::Constraint(constraint) => constraint.items.as_deref().map(View::Constraint),
        }
    }

    pub fn required(self) -> &'a [CompactString] {
        self.validation().map_or(&[], |v| &v.required)
    }

    /// Whether nothing can be wrong here: metadata was decoded by its Go type, which leaves only what was added to it.
    pub fn is_trivial(self) -> bool {
        match self {
            View::Type(schema) => {
                let ty = schema.ty();
                !ty.name.is_empty()
                    && ty.validation.is_none()
                    && !matches!(&ty.shape, Shape::Struct(f) if f.fields.iter().any(|f| schema.with(f.ty).ty().validation.is_some()))
            }
            View::Constraint(_) => false,
        }
    }
}
