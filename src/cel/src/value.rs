//! Values of expressions: what they are, when two are equal, how they compare.
// PERFORMANCE: per-request path

mod convert;
mod extension;
mod json;
mod native;
mod order;
mod text;

pub use convert::{Civil, duration_text, parse_duration, parse_timestamp, timestamp_text};
pub use extension::{Extension, Semver};
pub use json::Json;
pub use order::{compare, equal};
pub use text::Text;

use crate::types::Type;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value. Objects of the request are borrowed; what expressions make is shared.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    List(Arc<Vec<Value<'a>>>),
    Map(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// A list, map or object of the request.
    Json(Json<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    /// An object made by an expression.
    Struct(Arc<Struct<'a>>),
    Extension(Arc<Extension>),
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanos: u32,
}

/// What a map's entries are found by. Numbers of different types that are equal are the same key.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Text<'a>),
}

/// An object made by an expression: its type's name and its fields in order of writing.
#[derive(Clone, Debug)]
pub struct Struct<'a> {
    pub name: String,
    pub fields: Vec<(String, Value<'a>)>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// In cel-go's words.
    Failed(String),
    /// The evaluation costs more than it may.
    TooExpensive,
    /// An authorizer has not decided yet; once it has, the evaluation can be made again.
    Pending,
}

pub type Result<T> = std::result::Result<T, EvalError>;

impl EvalError {
    pub fn new(message: impl Into<String>) -> EvalError {
        EvalError::Failed(message.into())
    }

    /// Whether this ends the evaluation whatever the rest of the expression would make of it.
    pub fn is_final(&self) -> bool {
        !matches!(self, EvalError::Failed(_))
    }

    pub fn no_such_overload() -> EvalError {
        EvalError::new("no such overload")
    }

    pub fn no_such_key(key: &str) -> EvalError {
        EvalError::Failed(format!("no such key: {key}"))
    }
}

impl std::fmt::Display for EvalError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            EvalError::Failed(message) => message,
            EvalError::TooExpensive => "operation cancelled: actual cost limit exceeded",
            EvalError::Pending => "operation interrupted",
        })
    }
}

impl std::error::Error for EvalError {}

impl<'a> Value<'a> {
    pub fn string(text: impl Into<Text<'a>>) -> Value<'a> {
        Value::String(text.into())
    }

    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(Arc::new(items))
    }

    pub fn map(entries: impl IntoIterator<Item = (Key<'a>, Value<'a>)>) -> Value<'a> {
        Value::Map(Arc::new(entries.into_iter().collect()))
    }

    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    pub fn extension(extension: Extension) -> Value<'static> {
        Value::Extension(Arc::new(extension))
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list, converted where they are JSON.
    pub fn items(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Value::List(items) => Some(items.as_ref().clone()),
            Value::Json(json) => json.items(),
            _ => None,
        }
    }

    /// How many elements, entries, characters or bytes; `None` for what has no size.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) => items.len(),
            Value::Map(entries) => entries.len(),
            Value::Json(json) => json.len()?,
            _ => return None,
        })
    }

    /// What a cost is measured by.
    pub fn cost_size(&self) -> u64 {
        match self {
            Value::Optional(Some(inner)) => inner.cost_size(),
            Value::Extension(extension) => extension.cost_size(),
            other => other.size().map_or(1, |size| size as u64),
        }
    }

    /// The type, without what lists and maps hold.
    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Duration(_) => Type::Duration,
            Value::Timestamp(_) => Type::Timestamp,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Json(json) => json.type_of(),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(_) => Type::Type(None),
            Value::Struct(of) => Type::object(of.name.clone(), BTreeMap::new()),
            Value::Extension(extension) => extension.type_of(),
        }
    }

    /// Whether the value is its type's zero, as `optional.ofNonZeroValue` asks.
    pub fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(b) => !b,
            Value::Int(i) => *i == 0,
            Value::Uint(u) => *u == 0,
            Value::Double(d) => *d == 0.0,
            Value::String(s) => s.is_empty(),
            Value::Bytes(b) => b.is_empty(),
            Value::Duration(d) => *d == 0,
            Value::Timestamp(t) => t.seconds == -62_135_596_800 && t.nanos == 0,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            Value::Json(json) => json.len() == Some(0),
            Value::Optional(inner) => inner.as_ref().is_none_or(|v| v.is_zero()),
            Value::Type(_) | Value::Extension(_) => false,
            Value::Struct(of) => of.fields.is_empty(),
        }
    }

    /// The entry of a map, list or object; `None` where there is none.
    ///
    /// # Errors
    /// For what has no entries, or none of that kind.
    pub fn get(&self, key: &Value<'a>) -> Result<Option<Value<'a>>> {
        match self {
            Value::List(items) => Ok(index_of(key)?.and_then(|i| items.get(i).cloned())),
            Value::Map(entries) => Ok(Key::lookup(key)?.and_then(|k| entries.get(&k).cloned())),
            Value::Json(json) => json.get(key),
            Value::Struct(of) => {
                let Some(name) = key.as_str() else {
                    return Err(EvalError::no_such_overload());
                };
                Ok(of.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
            }
            other if other.is_plain() => Ok(None),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The field of an object, or the entry of a map.
    ///
    /// # Errors
    /// For what has no fields.
    pub fn field(&self, name: &str) -> Result<Option<Value<'a>>> {
        match self {
            Value::Json(json) => json.field(name),
            Value::Map(entries) => Ok(entries
                .iter()
                .find(|(k, _)| matches!(k, Key::String(s) if **s == *name))
                .map(|(_, v)| v.clone())),
            Value::Struct(of) => Ok(of.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())),
            other if other.is_plain() => Ok(None),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// Whether this is something that nothing can be selected from: it has no fields, as an empty map has none.
    fn is_plain(&self) -> bool {
        matches!(
            self,
            Value::Null
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Uint(_)
                | Value::Double(_)
                | Value::String(_)
                | Value::Bytes(_)
        )
    }

    /// Whether two values are equal.
    pub fn equals(&self, other: &Value) -> bool {
        equal(self, other)
    }
}

/// A key as an index. Whole doubles are indices, too.
fn index_of(key: &Value) -> Result<Option<usize>> {
    match key {
        Value::Int(i) => Ok(usize::try_from(*i).ok()),
        Value::Uint(u) => Ok(usize::try_from(*u).ok()),
        Value::Double(d) if d.trunc() == *d && *d >= 0.0 && *d < 1e15 => Ok(Some(*d as usize)),
        Value::Double(d) => Err(EvalError::new(format!("unsupported index value: {d}"))),
        other => Err(EvalError::new(format!(
            "unsupported index type '{}' in list",
            other.type_of().name()
        ))),
    }
}

impl<'a> Key<'a> {
    /// The key that a value is.
    ///
    /// # Errors
    /// Where it can be none.
    pub fn of(value: Value<'a>) -> Result<Key<'a>> {
        match value {
            Value::Bool(b) => Ok(Key::Bool(b)),
            Value::Int(i) => Ok(Key::Int(i)),
            Value::Uint(u) => Ok(Key::Uint(u)),
            Value::String(s) => Ok(Key::String(s)),
            other => Err(EvalError::new(format!(
                "unsupported key type: {}",
                other.type_of().name()
            ))),
        }
    }

    /// The key that a value finds; `None` where it can find nothing.
    fn lookup(value: &Value<'a>) -> Result<Option<Key<'a>>> {
        match value {
            Value::Double(d) if d.trunc() == *d && d.abs() < 9.2e18 => Ok(Some(Key::Int(*d as i64))),
            Value::Double(_) => Ok(None),
            other => Key::of(other.clone()).map(Some),
        }
    }

    pub fn to_value(&self) -> Value<'a> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(i) => Value::Int(*i),
            Key::Uint(u) => Value::Uint(*u),
            Key::String(s) => Value::String(s.clone()),
        }
    }

    fn rank(&self) -> (u8, i128) {
        match self {
            Key::Bool(b) => (0, i128::from(*b)),
            Key::Int(i) => (1, i128::from(*i)),
            Key::Uint(u) => (1, i128::from(*u)),
            Key::String(_) => (2, 0),
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Key::String(a), Key::String(b)) => (**a).cmp(&**b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key<'_> {}
