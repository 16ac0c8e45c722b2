//! Finding what a regular expression matches.
//!
//! Source: kubernetes/apiserver pkg/cel/library/regex.go.
// PERFORMANCE: per-request path

use super::Row;
use super::standard::strings;
use crate::value::{EvalError, Result, Value};
use fairlead_schema::go_regex;
use regex::Regex;

pub const FUNCTIONS: &[Row] = &[
    ("find", &[("string_find_string", "string.(string) -> string")], |args| {
        let (text, pattern) = strings(args)?;
        Ok(find(text, &compile(pattern)?))
    }),
    (
        "findAll",
        &[
            ("string_find_all_string", "string.(string) -> list(string)"),
            ("string_find_all_string_int", "string.(string, int) -> list(string)"),
        ],
        |args| {
            let (text, pattern) = strings(args)?;
            find_all(text, &compile(pattern)?, args.get(2))
        },
    ),
];

fn compile(pattern: &str) -> Result<Regex> {
    go_regex(pattern).map_err(|e| EvalError::new(format!("Illegal regex: {e}")))
}

pub fn find<'a>(text: &str, regex: &Regex) -> Value<'a> {
    Value::string(regex.find(text).map_or(String::new(), |m| m.as_str().to_owned()))
}

/// All matches, or the first `limit` of them where it is not negative.
pub fn find_all<'a>(text: &str, regex: &Regex, limit: Option<&Value>) -> Result<Value<'a>> {
    let limit = match limit {
        None => usize::MAX,
        Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
        Some(_) => return Err(EvalError::no_such_overload()),
    };
    let found = regex
        .find_iter(text)
        .take(limit)
        .map(|m| Value::string(m.as_str().to_owned()));
    Ok(Value::list(found.collect()))
}
