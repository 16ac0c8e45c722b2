//! Objects as structured-merge-diff sees them: what may stand at a place, and the walks that follow from it.
//!
//! [`Cursor`] is a place in a schema. Each walk has its file: [`validate`], [`to_set`] (which paths an object names),
//! [`compare`], [`merge`], [`remove`], and [`schema_changes`].
// PERFORMANCE: per-request path

pub mod compare;
pub mod element;
pub mod merge;
pub mod remove;
pub mod schema_changes;
pub mod to_set;
pub mod validate;

use crate::fields::Element;
use compact_str::CompactString;
use fairlead_api::Node;
use fairlead_schema::{Field, Fields, ListSemantics, Shape, Type, TypeRef};

/// A place in a schema, as a walk carries it.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    place: Place<'a>,
    /// Something above preserves unknown fields, and with it everything below.
    preserve: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// A declared type, and the field that has it: its patch strategy makes up for a list type that is not declared.
    Declared(TypeRef<'a>, Option<&'a Field>),
    /// Anything, by what it looks like: objects are granular, lists are atomic.
    Deduced,
    /// Anything, as a whole.
    Opaque,
}

/// What values a place admits.
#[derive(Clone, Copy, Debug)]
pub struct Atom<'a> {
    pub scalar: Option<Scalar>,
    pub list: Option<List<'a>>,
    /// `Some(atomic)`.
    pub map: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    Numeric,
    String,
    Boolean,
    Any,
}

#[derive(Clone, Copy, Debug)]
pub enum List<'a> {
    Atomic,
    Set,
    Map(&'a [CompactString]),
}

/// How a value is treated where several kinds are admitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Map,
    Scalar,
    List,
    /// The value (null, absent, or of a wrong kind) does not tell.
    Open,
}

impl<'a> Cursor<'a> {
    pub fn root(ty: TypeRef<'a>) -> Cursor<'a> {
        Cursor {
            place: Place::Declared(ty, None),
            preserve: false,
        }
        .entered()
    }

    fn entered(mut self) -> Cursor<'a> {
        if let Place::Declared(ty, _) = self.place {
            self.preserve |= ty.ty().preserve_unknown;
        }
        self
    }

    fn at(self, place: Place<'a>) -> Cursor<'a> {
        Cursor { place, ..self }.entered()
    }

    pub fn atom(self) -> Atom<'a> {
        let scalar = |scalar| Atom {
            scalar: Some(scalar),
            list: None,
            map: None,
        };
        let anything = |atomic| Atom {
            scalar: Some(Scalar::Any),
            list: Some(List::Atomic),
            map: Some(atomic),
        };
        let (ty, field) = match self.place {
            Place::Deduced => return anything(false),
            Place::Opaque => return anything(true),
            Place::Declared(ty, field) => (ty.ty(), field),
        };
        match &ty.shape {
            Shape::Any => anything(ty.atomic || ty.name.ends_with(".RawExtension")),
            Shape::IntOrString => anything(false),
            Shape::Bool => scalar(Scalar::Boolean),
            Shape::Int { .. } | Shape::Float => scalar(Scalar::Numeric),
            Shape::String => {
                let format = ty.validation.as_ref().map_or("", |v| v.format.as_str());
                scalar(if matches!(format, "" | "byte") {
                    Scalar::String
                } else {
                    Scalar::Any
                })
            }
            Shape::Bytes | Shape::Duration => scalar(Scalar::String),
            Shape::Quantity | Shape::Time | Shape::MicroTime => scalar(Scalar::Any),
            Shape::List(_) => Atom {
                scalar: None,
                list: Some(list(ty, field)),
                map: None,
            },
            Shape::Map(_) | Shape::Struct(_) => Atom {
                scalar: None,
                list: None,
                map: Some(ty.atomic),
            },
        }
    }

    /// The place of the member `name`, and whether it is a declared field. `None` where it may not be.
    pub fn member(self, name: &str) -> Option<(Cursor<'a>, bool)> {
        let Place::Declared(ty, _) = self.place else {
            return Some((self, false));
        };
        match ty.shape() {
            Shape::Struct(fields) => match fields.get(name) {
                Some(field) => Some((self.at(Place::Declared(ty.with(field.ty), Some(field))), true)),
                None => self.undeclared(ty, fields).map(|cursor| (cursor, false)),
            },
            Shape::Map(values) => Some((self.at(Place::Declared(ty.with(*values), None)), false)),
            _ => Some((self.at(Place::Deduced), false)),
        }
    }

    fn undeclared(self, ty: TypeRef<'a>, fields: &'a Fields) -> Option<Cursor<'a>> {
        match fields.additional {
            Some(additional) => Some(self.at(Place::Declared(ty.with(additional), None))),
            None if self.preserve || fields.fields.is_empty() => Some(self.at(Place::Deduced)),
            None => None,
        }
    }

    /// Like [`Cursor::member`] for values that were validated.
    pub fn member_or_deduced(self, name: &str) -> (Cursor<'a>, bool) {
        self.member(name).unwrap_or((self.at(Place::Deduced), false))
    }

    /// The place of a list's items.
    pub fn item(self) -> Cursor<'a> {
        match self.place {
            Place::Declared(ty, _) => match ty.items() {
                Some(items) => self.at(Place::Declared(items, None)),
                None => self.at(Place::Opaque),
            },
            _ => self.at(Place::Opaque),
        }
    }

    /// Objects here have no declared members: everything in them is deduced.
    pub fn is_free_form(self) -> bool {
        match self.place {
            Place::Deduced => true,
            Place::Opaque => false,
            Place::Declared(ty, _) => match ty.shape() {
                Shape::Any | Shape::IntOrString => !self.atom().map.unwrap_or(false),
                Shape::Struct(fields) => fields.fields.is_empty() && fields.additional.is_none(),
                _ => false,
            },
        }
    }

    /// The value that an absent key of a list map's item stands for.
    fn key_default(self, name: &str) -> Option<Node> {
        let Place::Declared(ty, _) = self.place else {
            return None;
        };
        let field = ty.field(name)?;
        if field.default.is_some() {
            return field.default.clone();
        }
        if field.pointer || field.omit_empty {
            return None;
        }
        match ty.with(field.ty).shape() {
            Shape::String => Some(Node::string("")),
            Shape::Int { .. } | Shape::Float => Some(Node::Int(0)),
            Shape::Bool => Some(Node::Bool(false)),
            _ => None,
        }
    }
}

fn list<'a>(ty: &'a Type, field: Option<&'a Field>) -> List<'a> {
    match (&ty.list, field) {
        (ListSemantics::Set, _) => List::Set,
        (ListSemantics::Map { keys }, _) => List::Map(keys),
        (ListSemantics::Atomic, Some(field)) if field.patch.merge && !ty.list_declared => {
            match field.patch_merge_key.as_str() {
                "" => List::Set,
                _ => List::Map(std::slice::from_ref(&field.patch_merge_key)),
            }
        }
        (ListSemantics::Atomic, _) => List::Atomic,
    }
}

impl Atom<'_> {
    /// What `value` is treated as.
    pub fn form(&self, value: Option<&Node>) -> Form {
        match value {
            Some(Node::Map(_)) if self.map.is_some() => Form::Map,
            Some(Node::List(_)) if self.list.is_some() => Form::List,
            Some(Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::String(_)) if self.scalar.is_some() => {
                Form::Scalar
            }
            // Where one kind is admitted there is nothing to tell.
            _ => match (self.map.is_some(), self.scalar.is_some(), self.list.is_some()) {
                (true, false, false) => Form::Map,
                (false, true, false) => Form::Scalar,
                (false, false, true) => Form::List,
                _ => Form::Open,
            },
        }
    }

    /// The walk that [`Form::Open`] takes.
    pub fn resolved(&self, form: Form) -> Form {
        match form {
            Form::Open if self.map.is_some() => Form::Map,
            Form::Open if self.scalar.is_some() => Form::Scalar,
            Form::Open => Form::List,
            form => form,
        }
    }

    pub fn map_is_atomic(&self) -> bool {
        self.map.unwrap_or(true)
    }

    pub fn list_semantics(&self) -> List<'_> {
        self.list.unwrap_or(List::Atomic)
    }
}

/// The elements of a list's items, as far as they can be told.
pub(crate) fn elements(list: List, items: &[Node], item: Cursor) -> Vec<Option<Element>> {
    items.iter().map(|node| element::of(list, node, item).ok()).collect()
}
