//! Semantic versions; how they compare is beside quantities.
//!
//! Source: kubernetes/apiserver pkg/cel/library/semverlib.go.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Extension, Result, Semver, Value};

pub const FUNCTIONS: &[Row] = &[
    (
        "semver",
        &[
            ("string_to_semver", "(string) -> semver"),
            ("string_bool_to_semver", "(string, bool) -> semver"),
        ],
        |args| match parse(args)? {
            Some(version) => Ok(Value::extension(Extension::Semver(version))),
            None => Err(EvalError::new(why(args[0].as_str().unwrap_or_default()))),
        },
    ),
    (
        "isSemver",
        &[
            ("is_semver_string", "(string) -> bool"),
            ("is_semver_string_bool", "(string, bool) -> bool"),
        ],
        |args| Ok(Value::Bool(parse(args)?.is_some())),
    ),
    ("major", &[("semver_major", "semver.() -> int")], |args| {
        Ok(Value::Int(of(args)?.major as i64))
    }),
    ("minor", &[("semver_minor", "semver.() -> int")], |args| {
        Ok(Value::Int(of(args)?.minor as i64))
    }),
    ("patch", &[("semver_patch", "semver.() -> int")], |args| {
        Ok(Value::Int(of(args)?.patch as i64))
    }),
];

fn parse(args: &[Value]) -> Result<Option<Semver>> {
    let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
    match args.get(1) {
        None | Some(Value::Bool(false)) => Ok(Semver::parse(text)),
        Some(Value::Bool(true)) => Ok(Semver::parse_tolerant(text)),
        Some(_) => Err(EvalError::no_such_overload()),
    }
}

/// The words of blang/semver for the common mistakes.
fn why(text: &str) -> String {
    let numbers: Vec<&str> = text.splitn(3, '.').collect();
    if text.is_empty() {
        return "Version string empty".into();
    }
    let [major, minor, _] = numbers[..] else {
        return "No Major.Minor.Patch elements found".into();
    };
    for (name, number) in [("major", major), ("minor", minor)] {
        if let Some(c) = number.chars().find(|c| !c.is_ascii_digit()) {
            let _ = c;
            return format!("Invalid character(s) found in {name} number \"{number}\"");
        }
        if number.len() > 1 && number.starts_with('0') {
            let name = if name == "major" { "Major" } else { "Minor" };
            return format!("{name} number must not contain leading zeroes \"{number}\"");
        }
    }
    format!("Invalid Semantic Version \"{text}\"")
}

fn of<'v>(args: &'v [Value]) -> Result<&'v Semver> {
    match &args[0] {
        Value::Extension(extension) => match &**extension {
            Extension::Semver(version) => Ok(version),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
