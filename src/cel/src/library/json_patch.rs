//! Pointers of JSON patches.
//!
//! Source: kubernetes/apiserver pkg/cel/library/jsonpatch.go.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Value};

/// What only expressions that make patches can call.
pub const ESCAPE_KEY: &str = "jsonpatch.escapeKey";

pub const FUNCTIONS: &[Row] = &[(
    ESCAPE_KEY,
    &[("string_jsonpatch_escapeKey_string", "(string) -> string")],
    |args| {
        let key = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
        Ok(Value::string(key.replace('~', "~0").replace('/', "~1")))
    },
)];
