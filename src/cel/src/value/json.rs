//! [`Json`]: a list, map or object of the request, read by its schema where it has one.
//!
//! Source of the conversions: kubernetes/apiserver pkg/cel/common/values.go.
// PERFORMANCE: per-request path

use super::{EvalError, Key, Result, Text, Timestamp, Value, convert, index_of};
use crate::escape;
use crate::types::Type;
use base64::Engine;
use fairlead_api::{Node, Timestamp as Instant};
use fairlead_schema::{ListSemantics, Shape, TypeRef};

/// A list, map or object, and its declared type. Without one, everything is as JSON has it.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a> {
    pub node: &'a Node,
    pub ty: Option<TypeRef<'a>>,
}

impl<'a> Value<'a> {
    /// A value of the request. `ty` says how strings and numbers are meant.
    ///
    /// # Errors
    /// Where the value is not what its schema says.
    pub fn from_node(node: &'a Node, ty: Option<TypeRef<'a>>) -> Result<Value<'a>> {
        Ok(match node {
            Node::Null => Value::Null,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(i) if ty.is_some_and(|t| matches!(t.shape(), Shape::Float)) => Value::Double(*i as f64),
            Node::Int(i) => Value::Int(*i),
            Node::Float(f) if ty.is_some_and(|t| matches!(t.shape(), Shape::Int { .. })) && f.trunc() == *f => {
                Value::Int(*f as i64)
            }
            Node::Float(f) => Value::Double(*f),
            Node::String(s) => string(s, ty)?,
            Node::List(_) | Node::Map(_) => Value::Json(Json { node, ty }),
        })
    }

    /// A value of the request, as JSON has it.
    pub fn untyped(node: &'a Node) -> Value<'a> {
        Value::from_node(node, None).expect("without a schema everything is what it is")
    }
}

fn string<'a>(text: &'a str, ty: Option<TypeRef<'a>>) -> Result<Value<'a>> {
    let format = match ty {
        Some(ty) if matches!(ty.shape(), Shape::String) => ty.ty().validation.as_ref().map_or("", |v| &v.format),
        _ => "",
    };
    Ok(match format {
        "byte" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            Value::Bytes(
                bytes
                    .map_err(|_| EvalError::new(format!("Invalid byte formatted string {text}")))?
                    .into(),
            )
        }
        "duration" => Value::Duration(
            convert::parse_duration(text).ok_or_else(|| EvalError::new(format!("Invalid duration {text}")))?,
        ),
        "date" => Value::Timestamp(
            midnight(text).ok_or_else(|| EvalError::new(format!("Invalid date formatted string {text}")))?,
        ),
        "date-time" => Value::Timestamp(
            convert::parse_timestamp(text)
                .ok_or_else(|| EvalError::new(format!("Invalid date-time formatted string {text}")))?,
        ),
        _ => Value::String(Text::Borrowed(text)),
    })
}

fn midnight(date: &str) -> Option<Timestamp> {
    let instant = Instant::parse(&format!("{date}T00:00:00Z"))?;
    Some(Timestamp {
        seconds: instant.unix_seconds(),
        nanos: 0,
    })
}

impl<'a> Json<'a> {
    /// Whether this has declared fields, whose names expressions write escaped.
    fn has_fields(&self) -> bool {
        self.ty.is_some_and(|t| matches!(t.shape(), Shape::Struct(_)))
    }

    #[allow(clippy::len_without_is_empty, reason = "most values have no length")]
    pub fn len(&self) -> Option<usize> {
        match self.node {
            Node::List(items) => Some(items.len()),
            Node::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node, Node::List(_))
    }

    pub fn items(&self) -> Option<Vec<Value<'a>>> {
        let Node::List(items) = self.node else { return None };
        let ty = self.ty.and_then(TypeRef::items);
        Some(
            items
                .iter()
                .map(|item| Value::from_node(item, ty).unwrap_or(Value::Null))
                .collect(),
        )
    }

    /// The entries of a map, or the fields of an object by their escaped names.
    pub fn entries(&self) -> impl Iterator<Item = (Key<'a>, &'a Node, Option<TypeRef<'a>>)> {
        let map = self.node.as_map();
        let (ty, escaped) = (self.ty, self.has_fields());
        map.into_iter().flat_map(|m| m.iter()).filter_map(move |(name, value)| {
            if ty.is_some_and(|t| t.member(name).is_none()) {
                return None;
            }
            let key = if escaped {
                Text::from(escape::escape(name).unwrap_or_else(|| name.to_string()))
            } else {
                Text::Borrowed(name.as_str())
            };
            Some((Key::String(key), value, ty.and_then(|t| t.member(name))))
        })
    }

    pub fn get(&self, key: &Value<'a>) -> Result<Option<Value<'a>>> {
        match self.node {
            Node::List(items) => match index_of(key)?.and_then(|i| items.get(i)) {
                Some(item) => Value::from_node(item, self.ty.and_then(TypeRef::items)).map(Some),
                None => Ok(None),
            },
            _ => match key {
                Value::String(name) => self.field(name),
                _ if self.has_fields() => Err(EvalError::no_such_overload()),
                _ => Ok(None),
            },
        }
    }

    pub fn field(&self, name: &str) -> Result<Option<Value<'a>>> {
        let Node::Map(map) = self.node else {
            return Err(EvalError::new("unsupported index type 'string' in list"));
        };
        let unescaped;
        let name = if self.has_fields() {
            unescaped = escape::unescape(name);
            unescaped.as_deref().unwrap_or(name)
        } else {
            name
        };
        let Some(value) = map.get(name) else { return Ok(None) };
        let Some(declared) = self.ty else {
            return Value::from_node(value, None).map(Some);
        };
        // Expressions see what is declared, and a null field as an absent one.
        match declared.member(name) {
            Some(ty) if !(value.is_null() && self.has_fields()) => Value::from_node(value, Some(ty)).map(Some),
            _ => Ok(None),
        }
    }

    pub fn type_of(&self) -> Type {
        if self.is_list() {
            Type::list(Type::Dyn)
        } else {
            Type::map(Type::String, Type::Dyn)
        }
    }

    /// Whether the order of items means nothing.
    pub fn is_set(&self) -> bool {
        matches!(self.ty.map(|t| &t.ty().list), Some(ListSemantics::Set))
    }

    /// The keys of a list map.
    pub fn map_keys(&self) -> Option<&'a [compact_str::CompactString]> {
        match self.ty.map(|t| &t.ty().list) {
            Some(ListSemantics::Map { keys }) => Some(keys),
            _ => None,
        }
    }
}
