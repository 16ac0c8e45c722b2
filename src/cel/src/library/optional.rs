//! Optional values.
//!
//! Source: cel-go cel/library.go. `or`, `orValue` and optional selection are evaluated by the evaluator.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Result, Value};

pub const FUNCTIONS: &[Row] = &[
    ("optional.of", &[("optional_of", "(V) -> optional(V)")], |args| {
        Ok(Value::some(args[0].clone()))
    }),
    (
        "optional.ofNonZeroValue",
        &[("optional_ofNonZeroValue", "(V) -> optional(V)")],
        |args| {
            Ok(if args[0].is_zero() {
                Value::Optional(None)
            } else {
                Value::some(args[0].clone())
            })
        },
    ),
    ("optional.none", &[("optional_none", "() -> optional(V)")], |_| {
        Ok(Value::Optional(None))
    }),
    (
        "value",
        &[("optional_value", "optional(V).() -> V")],
        |args| match &args[0] {
            Value::Optional(Some(inner)) => Ok(inner.as_ref().clone()),
            Value::Optional(None) => Err(EvalError::new("optional.none() dereference")),
            _ => Err(EvalError::no_such_overload()),
        },
    ),
    (
        "hasValue",
        &[("optional_hasValue", "optional(V).() -> bool")],
        |args| match &args[0] {
            Value::Optional(inner) => Ok(Value::Bool(inner.is_some())),
            _ => Err(EvalError::no_such_overload()),
        },
    ),
    (
        "or",
        &[("optional_or_optional", "optional(V).(optional(V)) -> optional(V)")],
        |args| match &args[0] {
            Value::Optional(Some(_)) => Ok(args[0].clone()),
            Value::Optional(None) => Ok(args[1].clone()),
            _ => Err(EvalError::no_such_overload()),
        },
    ),
    (
        "orValue",
        &[("optional_orValue_value", "optional(V).(V) -> V")],
        |args| match &args[0] {
            Value::Optional(Some(inner)) => Ok(inner.as_ref().clone()),
            Value::Optional(None) => Ok(args[1].clone()),
            _ => Err(EvalError::no_such_overload()),
        },
    ),
    (
        "_?._",
        &[("select_optional_field", "(dyn, string) -> optional(V)")],
        select,
    ),
    (
        "_[?_]",
        &[
            ("list_optindex_optional_int", "(list(V), int) -> optional(V)"),
            (
                "optional_list_optindex_optional_int",
                "(optional(list(V)), int) -> optional(V)",
            ),
            ("map_optindex_optional_value", "(map(K, V), K) -> optional(V)"),
            (
                "optional_map_optindex_optional_value",
                "(optional(map(K, V)), K) -> optional(V)",
            ),
        ],
        select,
    ),
    ("last", &[("list_last", "list(V).() -> optional(V)")], |args| {
        Ok(items(&args[0])?.pop().map_or(Value::Optional(None), Value::some))
    }),
    ("first", &[("list_first", "list(V).() -> optional(V)")], |args| {
        Ok(items(&args[0])?
            .into_iter()
            .next()
            .map_or(Value::Optional(None), Value::some))
    }),
    (
        "optional.unwrap",
        &[("optional_unwrap", "(list(optional(V))) -> list(V)")],
        unwrap,
    ),
    (
        "unwrapOpt",
        &[("optional_unwrapOpt", "list(optional(V)).() -> list(V)")],
        unwrap,
    ),
];

fn items<'a>(list: &Value<'a>) -> Result<Vec<Value<'a>>> {
    list.items().ok_or_else(EvalError::no_such_overload)
}

/// The field or item, or nothing.
pub fn select<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let of = match &args[0] {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => inner.as_ref(),
        other => other,
    };
    Ok(of.get(&args[1])?.map_or(Value::Optional(None), Value::some))
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut found = Vec::new();
    for item in items(&args[0])? {
        match item {
            Value::Optional(Some(inner)) => found.push(inner.as_ref().clone()),
            Value::Optional(None) => {}
            other => {
                return Err(EvalError::new(format!(
                    "value {} is not optional",
                    super::string_format::shown(&other)
                )));
            }
        }
    }
    Ok(Value::list(found))
}
