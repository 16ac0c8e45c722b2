//! Quantities.
//!
//! Source: kubernetes/apiserver pkg/cel/library/quantity.go.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Extension, Result, Value};
use fairlead_api::quantity::{Format, Quantity};
use std::cmp::Ordering;

pub const FUNCTIONS: &[Row] = &[
    ("quantity", &[("string_to_quantity", "(string) -> quantity")], |args| {
        let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
        Quantity::parse(text)
            .map(made)
            .map_err(|e| EvalError::new(e.to_string()))
    }),
    ("isQuantity", &[("is_quantity_string", "(string) -> bool")], |args| {
        let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
        Ok(Value::Bool(Quantity::parse(text).is_ok()))
    }),
    // COMPAT: upstream declares this one as no member.
    ("sign", &[("quantity_sign", "(quantity) -> int")], |args| {
        Ok(Value::Int(i64::from(of(&args[0])?.sign())))
    }),
    (
        "isGreaterThan",
        &[
            ("quantity_is_greater_than", "quantity.(quantity) -> bool"),
            ("semver_is_greater_than", "semver.(semver) -> bool"),
        ],
        |args| Ok(Value::Bool(order(args)?.is_gt())),
    ),
    (
        "isLessThan",
        &[
            ("quantity_is_less_than", "quantity.(quantity) -> bool"),
            ("semver_is_less_than", "semver.(semver) -> bool"),
        ],
        |args| Ok(Value::Bool(order(args)?.is_lt())),
    ),
    (
        "compareTo",
        &[
            ("quantity_compare_to", "quantity.(quantity) -> int"),
            ("semver_compare_to", "semver.(semver) -> int"),
        ],
        |args| Ok(Value::Int(order(args)? as i64)),
    ),
    (
        "asApproximateFloat",
        &[("quantity_get_float", "quantity.() -> double")],
        |args| Ok(Value::Double(of(&args[0])?.to_f64())),
    ),
    ("asInteger", &[("quantity_get_int", "quantity.() -> int")], |args| {
        of(&args[0])?
            .as_i64()
            .map(Value::Int)
            .ok_or_else(|| EvalError::new("cannot convert value to integer"))
    }),
    ("isInteger", &[("quantity_is_integer", "quantity.() -> bool")], |args| {
        Ok(Value::Bool(of(&args[0])?.as_i64().is_some()))
    }),
    (
        "add",
        &[
            ("quantity_add", "quantity.(quantity) -> quantity"),
            ("quantity_add_int", "quantity.(int) -> quantity"),
        ],
        |args| Ok(made(of(&args[0])?.add(&operand(&args[1])?))),
    ),
    (
        "sub",
        &[
            ("quantity_sub", "quantity.(quantity) -> quantity"),
            ("quantity_sub_int", "quantity.(int) -> quantity"),
        ],
        |args| Ok(made(of(&args[0])?.sub(&operand(&args[1])?))),
    ),
];

fn made<'a>(quantity: Quantity) -> Value<'a> {
    Value::extension(Extension::Quantity(quantity))
}

fn of<'v>(value: &'v Value) -> Result<&'v Quantity> {
    match value {
        Value::Extension(extension) => match &**extension {
            Extension::Quantity(quantity) => Ok(quantity),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn operand(value: &Value) -> Result<Quantity> {
    match value {
        Value::Int(i) => Ok(Quantity::new(*i, Format::DecimalExponent)),
        other => of(other).cloned(),
    }
}

/// The order of two quantities, or of two versions.
fn order(args: &[Value]) -> Result<Ordering> {
    match (&args[0], &args[1]) {
        (Value::Extension(a), Value::Extension(b)) => match (&**a, &**b) {
            (Extension::Quantity(a), Extension::Quantity(b)) => Ok(a.cmp(b)),
            (Extension::Semver(a), Extension::Semver(b)) => Ok(a.compare(b)),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
