//! Equality and order of values.
// PERFORMANCE: per-request path

use super::{EvalError, Extension, Json, Result, Value};
use fairlead_api::Node;
use std::cmp::Ordering;

/// Whether two values are equal. Values of different types are not, but numbers are compared as numbers.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (None, None) => true,
            _ => false,
        },
        (Value::Extension(a), Value::Extension(b)) => a.equals(b),
        (Value::Struct(a), Value::Struct(b)) => {
            a.name == b.name
                && a.fields.len() == b.fields.len()
                && a.fields
                    .iter()
                    .all(|(n, v)| b.fields.iter().any(|(m, w)| m == n && equal(v, w)))
        }
        (Value::Json(a), Value::Json(b)) if a.is_list() && b.is_list() => json_lists(a, b),
        (Value::Json(a), Value::Json(b)) if !a.is_list() && !b.is_list() => json_maps(a, b),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            numbers(a, b) == Some(Ordering::Equal)
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| equal(v, w)))
        }
        (Value::Map(map), Value::Json(json)) | (Value::Json(json), Value::Map(map)) if !json.is_list() => {
            json.len() == Some(map.len())
                && json.entries().all(|(key, node, ty)| {
                    let value = Value::from_node(node, ty);
                    map.get(&key).zip(value.ok()).is_some_and(|(w, v)| equal(&v, w))
                })
        }
        (Value::List(_) | Value::Json(_), Value::List(_) | Value::Json(_)) => {
            let set = [a, b].iter().any(|v| matches!(v, Value::Json(j) if j.is_set()));
            match (a.items(), b.items()) {
                (Some(a), Some(b)) if set => same_sets(&a, &b),
                (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| equal(a, b)),
                _ => false,
            }
        }
        _ => false,
    }
}

fn same_sets(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().all(|v| b.iter().any(|w| equal(v, w)))
}

fn json_lists(a: &Json, b: &Json) -> bool {
    let (Some(left), Some(right)) = (a.items(), b.items()) else {
        return false;
    };
    if left.len() != right.len() {
        return false;
    }
    if a.is_set() {
        return same_sets(&left, &right);
    }
    if let Some(keys) = a.map_keys() {
        // The order of a list map means nothing.
        let key_of = |v: &Value| match v {
            Value::Json(json) => keys.iter().map(|k| json.node.get(k).cloned()).collect(),
            _ => Vec::<Option<Node>>::new(),
        };
        return left.iter().all(|v| {
            let key = key_of(v);
            right.iter().find(|w| key_of(w) == key).is_some_and(|w| equal(v, w))
        });
    }
    left.iter().zip(&right).all(|(v, w)| equal(v, w))
}

fn json_maps(a: &Json, b: &Json) -> bool {
    if a.ty.is_none() || b.ty.is_none() {
        return untyped(a.node, b.node);
    }
    let (Node::Map(left), Node::Map(right)) = (a.node, b.node) else {
        return false;
    };
    left.len() == right.len()
        && left.iter().all(|(name, v)| {
            let Some(w) = right.get(name) else { return false };
            match (a.ty.and_then(|t| t.member(name)), b.ty.and_then(|t| t.member(name))) {
                (Some(t), Some(u)) => match (Value::from_node(v, Some(t)), Value::from_node(w, Some(u))) {
                    (Ok(v), Ok(w)) => equal(&v, &w),
                    _ => false,
                },
                _ => untyped(v, w),
            }
        })
}

fn untyped(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Int(i), Node::Float(f)) | (Node::Float(f), Node::Int(i)) => *f == *i as f64,
        (Node::List(a), Node::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| untyped(a, b)),
        (Node::Map(a), Node::Map(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| untyped(v, w)))
        }
        (a, b) => a == b,
    }
}

/// Compares two values.
///
/// # Errors
/// For what has no order.
pub fn compare(a: &Value, b: &Value) -> Result<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Ok((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Ok(a.cmp(b)),
        (Value::Int(_) | Value::Uint(_) | Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            numbers(a, b).ok_or_else(|| EvalError::new("NaN values cannot be ordered"))
        }
        (Value::Extension(a), Value::Extension(b)) => match (&**a, &**b) {
            (Extension::Quantity(a), Extension::Quantity(b)) => Ok(a.cmp(b)),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Numbers of any two types by their value; `None` with NaN.
fn numbers(a: &Value, b: &Value) -> Option<Ordering> {
    let integer = |v: &Value| match v {
        Value::Int(i) => Some(i128::from(*i)),
        Value::Uint(u) => Some(i128::from(*u)),
        _ => None,
    };
    let double = |v: &Value| match v {
        Value::Double(d) => *d,
        Value::Int(i) => *i as f64,
        Value::Uint(u) => *u as f64,
        _ => f64::NAN,
    };
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(i), None) => integer_to_double(i, double(b)),
        (None, Some(i)) => integer_to_double(i, double(a)).map(Ordering::reverse),
        (None, None) => double(a).partial_cmp(&double(b)),
    }
}

fn integer_to_double(i: i128, d: f64) -> Option<Ordering> {
    if d.is_nan() {
        return None;
    }
    // Every double from 2^64 on is beyond any integer here.
    if d >= 1.9e19 {
        return Some(Ordering::Less);
    }
    if d <= -1.9e19 {
        return Some(Ordering::Greater);
    }
    let whole = d.trunc();
    Some(
        i.cmp(&(whole as i128))
            .then_with(|| 0.0f64.partial_cmp(&(d - whole)).unwrap_or(Ordering::Equal)),
    )
}
