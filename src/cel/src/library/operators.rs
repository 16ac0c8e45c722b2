//! Operators. `&&`, `||`, `?:` and indexing have types here; the evaluator runs them itself.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Json, Result, Timestamp, Value, compare, equal};
use std::cmp::Ordering;

pub const FUNCTIONS: &[Row] = &[
    ("_?_:_", &[("conditional", "(bool, A, A) -> A")], lazy),
    ("_&&_", &[("logical_and", "(bool, bool) -> bool")], lazy),
    ("_||_", &[("logical_or", "(bool, bool) -> bool")], lazy),
    ("!_", &[("logical_not", "(bool) -> bool")], not),
    ("@not_strictly_false", &[("not_strictly_false", "(bool) -> bool")], lazy),
    ("_==_", &[("equals", "(A, A) -> bool")], |args| {
        Ok(Value::Bool(equal(&args[0], &args[1])))
    }),
    ("_!=_", &[("not_equals", "(A, A) -> bool")], |args| {
        Ok(Value::Bool(!equal(&args[0], &args[1])))
    }),
    (
        "_+_",
        &[
            ("add_bytes", "(bytes, bytes) -> bytes"),
            ("add_double", "(double, double) -> double"),
            ("add_duration_duration", "(duration, duration) -> duration"),
            ("add_duration_timestamp", "(duration, timestamp) -> timestamp"),
            ("add_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("add_int64", "(int, int) -> int"),
            ("add_list", "(list(A), list(A)) -> list(A)"),
            ("add_string", "(string, string) -> string"),
            ("add_uint64", "(uint, uint) -> uint"),
        ],
        add,
    ),
    (
        "_-_",
        &[
            ("subtract_double", "(double, double) -> double"),
            ("subtract_duration_duration", "(duration, duration) -> duration"),
            ("subtract_int64", "(int, int) -> int"),
            ("subtract_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("subtract_timestamp_timestamp", "(timestamp, timestamp) -> duration"),
            ("subtract_uint64", "(uint, uint) -> uint"),
        ],
        subtract,
    ),
    (
        "_*_",
        &[
            ("multiply_double", "(double, double) -> double"),
            ("multiply_int64", "(int, int) -> int"),
            ("multiply_uint64", "(uint, uint) -> uint"),
        ],
        multiply,
    ),
    (
        "_/_",
        &[
            ("divide_double", "(double, double) -> double"),
            ("divide_int64", "(int, int) -> int"),
            ("divide_uint64", "(uint, uint) -> uint"),
        ],
        divide,
    ),
    (
        "_%_",
        &[
            ("modulo_int64", "(int, int) -> int"),
            ("modulo_uint64", "(uint, uint) -> uint"),
        ],
        modulo,
    ),
    (
        "-_",
        &[
            ("negate_double", "(double) -> double"),
            ("negate_int64", "(int) -> int"),
        ],
        negate,
    ),
    ("_<_", LESS, |args| {
        Ok(Value::Bool(compare(&args[0], &args[1])?.is_lt()))
    }),
    ("_<=_", LESS_EQUALS, |args| {
        Ok(Value::Bool(compare(&args[0], &args[1])?.is_le()))
    }),
    ("_>_", GREATER, |args| {
        Ok(Value::Bool(compare(&args[0], &args[1])?.is_gt()))
    }),
    ("_>=_", GREATER_EQUALS, |args| {
        Ok(Value::Bool(compare(&args[0], &args[1])?.is_ge()))
    }),
    (
        "_[_]",
        &[
            ("index_list", "(list(A), int) -> A"),
            ("index_map", "(map(A, B), A) -> B"),
            ("optional_list_index_int", "(optional(list(V)), int) -> optional(V)"),
            ("optional_map_index_value", "(optional(map(K, V)), K) -> optional(V)"),
        ],
        lazy,
    ),
    (
        "@in",
        &[
            ("in_list", "(A, list(A)) -> bool"),
            ("in_map", "(A, map(A, B)) -> bool"),
        ],
        is_in,
    ),
];

macro_rules! comparisons {
    ($name:ident, $prefix:literal) => {
        const $name: &[(&str, &str)] = &[
            (concat!($prefix, "_bool"), "(bool, bool) -> bool"),
            (concat!($prefix, "_int64"), "(int, int) -> bool"),
            (concat!($prefix, "_int64_double"), "(int, double) -> bool"),
            (concat!($prefix, "_int64_uint64"), "(int, uint) -> bool"),
            (concat!($prefix, "_uint64"), "(uint, uint) -> bool"),
            (concat!($prefix, "_uint64_double"), "(uint, double) -> bool"),
            (concat!($prefix, "_uint64_int64"), "(uint, int) -> bool"),
            (concat!($prefix, "_double"), "(double, double) -> bool"),
            (concat!($prefix, "_double_int64"), "(double, int) -> bool"),
            (concat!($prefix, "_double_uint64"), "(double, uint) -> bool"),
            (concat!($prefix, "_string"), "(string, string) -> bool"),
            (concat!($prefix, "_bytes"), "(bytes, bytes) -> bool"),
            (concat!($prefix, "_timestamp"), "(timestamp, timestamp) -> bool"),
            (concat!($prefix, "_duration"), "(duration, duration) -> bool"),
        ];
    };
}
comparisons!(LESS, "less");
comparisons!(LESS_EQUALS, "less_equals");
comparisons!(GREATER, "greater");
comparisons!(GREATER_EQUALS, "greater_equals");

/// The evaluator runs these without evaluating all arguments first.
fn lazy<'a>(_: &[Value<'a>]) -> Result<Value<'a>> {
    Err(EvalError::no_such_overload())
}

fn not<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match args[0] {
        Value::Bool(b) => Ok(Value::Bool(!b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn overflow(what: &str) -> EvalError {
    EvalError::new(format!("{what} overflow"))
}

fn integer<'a>(result: Option<i64>) -> Result<Value<'a>> {
    result.map(Value::Int).ok_or_else(|| overflow("integer"))
}

fn unsigned<'a>(result: Option<u64>) -> Result<Value<'a>> {
    result.map(Value::Uint).ok_or_else(|| overflow("unsigned integer"))
}

fn duration<'a>(result: Option<i64>) -> Result<Value<'a>> {
    result.map(Value::Duration).ok_or_else(|| overflow("duration"))
}

fn add<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => integer(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::string([&**a, &**b].concat())),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        (Value::Timestamp(t), Value::Duration(d)) | (Value::Duration(d), Value::Timestamp(t)) => shift(*t, *d),
        (a, b) => add_lists(a, b),
    }
}

/// `_+_`, for those that add many.
pub fn function_add<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    add(args)
}

fn add_lists<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<Value<'a>> {
    let (Some(mut left), Some(right)) = (a.items(), b.items()) else {
        return Err(EvalError::no_such_overload());
    };
    if let Value::Json(json) = a {
        if json.is_set() {
            for item in right {
                if !left.iter().any(|v| equal(v, &item)) {
                    left.push(item);
                }
            }
            return Ok(Value::list(left));
        }
        if let Some(keys) = json.map_keys() {
            return Ok(merge_list_maps(left, right, keys));
        }
    }
    left.extend(right);
    Ok(Value::list(left))
}

/// Items of the right replace those of the left with the same key; others follow.
fn merge_list_maps<'a>(left: Vec<Value<'a>>, right: Vec<Value<'a>>, keys: &[compact_str::CompactString]) -> Value<'a> {
    let same_key = |a: &Value, b: &Value| {
        let node = |v: &Value<'_>, key: &str| match v {
            Value::Json(Json { node, .. }) => node.get(key).cloned(),
            _ => None,
        };
        keys.iter().all(|key| node(a, key) == node(b, key))
    };
    let mut merged = left;
    for item in right {
        match merged.iter().position(|v| same_key(v, &item)) {
            Some(i) => merged[i] = item,
            None => merged.push(item),
        }
    }
    Value::list(merged)
}

/// CEL's timestamps are those of years 1 to 9999.
fn shift<'a>(t: Timestamp, nanos: i64) -> Result<Value<'a>> {
    let total = i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos) + i128::from(nanos);
    let (seconds, nanos) = (total.div_euclid(1_000_000_000), total.rem_euclid(1_000_000_000));
    if !(-62_135_596_800..=253_402_300_799).contains(&seconds) {
        return Err(overflow("timestamp"));
    }
    Ok(Value::Timestamp(Timestamp {
        seconds: seconds as i64,
        nanos: nanos as u32,
    }))
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => integer(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        (Value::Timestamp(t), Value::Duration(d)) => shift(*t, d.checked_neg().ok_or_else(|| overflow("timestamp"))?),
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = |t: &Timestamp| i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
            duration(i64::try_from(nanos(a) - nanos(b)).ok())
        }
        _ => Err(EvalError::no_such_overload()),
    }
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match (&args[0], &args[1]) {
        (Value::Int(a), Value::Int(b)) => integer(a.checked_mul(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_mul(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(EvalError::new("division by zero")),
        (Value::Int(a), Value::Int(b)) => integer(a.checked_div(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_div(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match (&args[0], &args[1]) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(EvalError::new("modulus by zero")),
        (Value::Int(a), Value::Int(b)) => integer(a.checked_rem(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_rem(*b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match args[0] {
        Value::Int(i) => integer(i.checked_neg()),
        Value::Double(d) => Ok(Value::Double(-d)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn is_in<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let (wanted, container) = (&args[0], &args[1]);
    if let Some(items) = container.items() {
        return Ok(Value::Bool(items.iter().any(|item| equal(item, wanted))));
    }
    match container {
        Value::Map(_) | Value::Json(_) => Ok(Value::Bool(container.get(wanted)?.is_some())),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// The item at an index or of a key, as `_[_]` finds it.
pub fn index<'a>(container: &Value<'a>, key: &Value<'a>) -> Result<Value<'a>> {
    if let Value::Optional(inner) = container {
        return match inner {
            Some(inner) => Ok(inner.get(key)?.map_or(Value::Optional(None), Value::some)),
            None => Ok(Value::Optional(None)),
        };
    }
    match container.get(key)? {
        Some(value) => Ok(value),
        None if container.items().is_some() => Err(EvalError::new(format!("index out of bounds: {}", shown(key)))),
        None => Err(EvalError::no_such_key(&shown(key))),
    }
}

fn shown(key: &Value) -> String {
    match key {
        Value::String(s) => s.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Double(d) => fairlead_api::field::go_float(*d),
        other => other.type_of().name().to_owned(),
    }
}

/// The smallest or largest of a list; `None` when it is empty.
pub fn extreme<'a>(items: &[Value<'a>], wanted: Ordering) -> Result<Option<Value<'a>>> {
    let mut best: Option<&Value> = None;
    for item in items {
        if match best {
            Some(best) => compare(item, best)? == wanted,
            None => true,
        } {
            best = Some(item);
        }
    }
    Ok(best.cloned())
}
