//! Conversions between types, and the standard functions of strings.
// PERFORMANCE: per-request path

use super::Row;
use crate::types::Type;
use crate::value::{EvalError, Extension, Result, Timestamp, Value, duration_text, parse_duration, timestamp_text};
use fairlead_api::field::go_float;
use fairlead_schema::go_regex;

pub const FUNCTIONS: &[Row] = &[
    ("type", &[("type", "(A) -> type(A)")], |args| {
        Ok(Value::Type(type_value(&args[0])))
    }),
    ("dyn", &[("to_dyn", "(A) -> dyn")], |args| Ok(args[0].clone())),
    (
        "bool",
        &[
            ("bool_to_bool", "(bool) -> bool"),
            ("string_to_bool", "(string) -> bool"),
        ],
        to_bool,
    ),
    (
        "bytes",
        &[
            ("bytes_to_bytes", "(bytes) -> bytes"),
            ("string_to_bytes", "(string) -> bytes"),
        ],
        to_bytes,
    ),
    (
        "double",
        &[
            ("double_to_double", "(double) -> double"),
            ("int64_to_double", "(int) -> double"),
            ("string_to_double", "(string) -> double"),
            ("uint64_to_double", "(uint) -> double"),
        ],
        to_double,
    ),
    (
        "duration",
        &[
            ("duration_to_duration", "(duration) -> duration"),
            ("int64_to_duration", "(int) -> duration"),
            ("string_to_duration", "(string) -> duration"),
        ],
        to_duration,
    ),
    (
        "int",
        &[
            ("int64_to_int64", "(int) -> int"),
            ("double_to_int64", "(double) -> int"),
            ("duration_to_int64", "(duration) -> int"),
            ("string_to_int64", "(string) -> int"),
            ("timestamp_to_int64", "(timestamp) -> int"),
            ("uint64_to_int64", "(uint) -> int"),
        ],
        to_int,
    ),
    (
        "string",
        &[
            ("string_to_string", "(string) -> string"),
            ("bool_to_string", "(bool) -> string"),
            ("bytes_to_string", "(bytes) -> string"),
            ("double_to_string", "(double) -> string"),
            ("duration_to_string", "(duration) -> string"),
            ("int64_to_string", "(int) -> string"),
            ("timestamp_to_string", "(timestamp) -> string"),
            ("uint64_to_string", "(uint) -> string"),
            ("ip_to_string", "(ip) -> string"),
            ("cidr_to_string", "(cidr) -> string"),
        ],
        to_string,
    ),
    (
        "timestamp",
        &[
            ("timestamp_to_timestamp", "(timestamp) -> timestamp"),
            ("int64_to_timestamp", "(int) -> timestamp"),
            ("string_to_timestamp", "(string) -> timestamp"),
        ],
        to_timestamp,
    ),
    (
        "uint",
        &[
            ("uint64_to_uint64", "(uint) -> uint"),
            ("double_to_uint64", "(double) -> uint"),
            ("int64_to_uint64", "(int) -> uint"),
            ("string_to_uint64", "(string) -> uint"),
        ],
        to_uint,
    ),
    ("contains", &[("contains_string", "string.(string) -> bool")], |args| {
        strings(args).map(|(s, t)| Value::Bool(s.contains(t)))
    }),
    ("endsWith", &[("ends_with_string", "string.(string) -> bool")], |args| {
        strings(args).map(|(s, t)| Value::Bool(s.ends_with(t)))
    }),
    (
        "startsWith",
        &[("starts_with_string", "string.(string) -> bool")],
        |args| strings(args).map(|(s, t)| Value::Bool(s.starts_with(t))),
    ),
    (
        "matches",
        &[
            ("matches", "(string, string) -> bool"),
            ("matches_string", "string.(string) -> bool"),
        ],
        |args| {
            let (text, pattern) = strings(args)?;
            let regex = go_regex(pattern).map_err(|e| EvalError::new(e.to_string()))?;
            Ok(Value::Bool(regex.is_match(text)))
        },
    ),
];

/// Names of functions that convert and, given a constant, can fail when the program is made.
pub fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}

/// Two strings, as most functions of strings take them.
pub fn strings<'v>(args: &'v [Value]) -> Result<(&'v str, &'v str)> {
    args[0]
        .as_str()
        .zip(args[1].as_str())
        .ok_or_else(EvalError::no_such_overload)
}

fn type_value(value: &Value) -> Type {
    match value {
        Value::Type(_) => Type::Type(None),
        other => other.type_of(),
    }
}

fn cannot(from: &Value, to: &str) -> EvalError {
    EvalError::new(format!(
        "type conversion error from '{}' to '{to}'",
        from.type_of().name()
    ))
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::String(s) => match &**s {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => Err(cannot(&args[0], "bool")),
        },
        other => Err(cannot(other, "bool")),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Bytes(b) => Ok(Value::Bytes(b.clone())),
        Value::String(s) => Ok(Value::Bytes(s.as_bytes().into())),
        other => Err(cannot(other, "bytes")),
    }
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let found = match &args[0] {
        Value::Double(d) => Some(*d),
        Value::Int(i) => Some(*i as f64),
        Value::Uint(u) => Some(*u as f64),
        Value::String(s) => parse_float(s),
        _ => None,
    };
    found.map(Value::Double).ok_or_else(|| cannot(&args[0], "double"))
}

/// A float as Go reads it, decimal forms only.
fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    let named = matches!(unsigned.to_ascii_lowercase().as_str(), "inf" | "infinity" | "nan");
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !(named || decimal) || text.len() - unsigned.len() > 1 {
        return None;
    }
    text.parse().ok().filter(|f: &f64| named || f.is_finite())
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    match &args[0] {
        Value::Duration(d) => Ok(Value::Duration(*d)),
        // COMPAT: a number is seconds.
        Value::Int(i) => i
            .checked_mul(1_000_000_000)
            .map(Value::Duration)
            .ok_or_else(|| EvalError::new("range error")),
        Value::String(s) => parse_duration(s)
            .map(Value::Duration)
            .ok_or_else(|| cannot(&args[0], "google.protobuf.Duration")),
        other => Err(cannot(other, "google.protobuf.Duration")),
    }
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let overflow = || EvalError::new("integer overflow");
    match &args[0] {
        Value::Int(i) => Ok(Value::Int(*i)),
        Value::Uint(u) => i64::try_from(*u).map(Value::Int).map_err(|_| overflow()),
        // The bounds are exclusive, as in cel-go: they are no integers any more once rounded.
        Value::Double(d) if *d > i64::MIN as f64 && *d < i64::MAX as f64 => Ok(Value::Int(*d as i64)),
        Value::Double(_) => Err(overflow()),
        Value::Duration(d) => Ok(Value::Int(*d)),
        Value::Timestamp(t) => Ok(Value::Int(t.seconds)),
        Value::String(s) => s.parse().map(Value::Int).map_err(|_| cannot(&args[0], "int")),
        other => Err(cannot(other, "int")),
    }
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let overflow = || EvalError::new("unsigned integer overflow");
    match &args[0] {
        Value::Uint(u) => Ok(Value::Uint(*u)),
        Value::Int(i) => u64::try_from(*i).map(Value::Uint).map_err(|_| overflow()),
        Value::Double(d) if *d >= 0.0 && *d < u64::MAX as f64 => Ok(Value::Uint(*d as u64)),
        Value::Double(_) => Err(overflow()),
        Value::String(s) if !s.starts_with('+') => s.parse().map(Value::Uint).map_err(|_| cannot(&args[0], "uint")),
        other => Err(cannot(other, "uint")),
    }
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    Ok(match &args[0] {
        Value::String(s) => Value::String(s.clone()),
        Value::Bool(b) => Value::string(b.to_string()),
        Value::Bytes(b) => match std::str::from_utf8(b) {
            Ok(text) => Value::string(text.to_owned()),
            Err(_) => return Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Double(d) => Value::string(go_float(*d)),
        Value::Duration(d) => Value::string(duration_text(*d)),
        Value::Int(i) => Value::string(i.to_string()),
        Value::Uint(u) => Value::string(u.to_string()),
        Value::Timestamp(t) => Value::string(timestamp_text(*t)),
        Value::Extension(extension) => match &**extension {
            Extension::Ip(ip) => Value::string(ip.to_string()),
            Extension::Cidr(ip, bits) => Value::string(format!("{ip}/{bits}")),
            _ => return Err(cannot(&args[0], "string")),
        },
        other => return Err(cannot(other, "string")),
    })
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let range = |seconds: i64| (-62_135_596_800..=253_402_300_799).contains(&seconds);
    let overflow = || EvalError::new("timestamp overflow");
    match &args[0] {
        Value::Timestamp(t) => Ok(Value::Timestamp(*t)),
        Value::Int(seconds) if range(*seconds) => Ok(Value::Timestamp(Timestamp {
            seconds: *seconds,
            nanos: 0,
        })),
        Value::Int(_) => Err(overflow()),
        Value::String(s) => match crate::value::parse_timestamp(s) {
            Some(t) if range(t.seconds) => Ok(Value::Timestamp(t)),
            Some(_) => Err(overflow()),
            None => Err(cannot(&args[0], "google.protobuf.Timestamp")),
        },
        other => Err(cannot(other, "google.protobuf.Timestamp")),
    }
}
