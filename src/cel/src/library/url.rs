//! URLs.
//!
//! Source: kubernetes/apiserver pkg/cel/library/urls.go.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Extension, Key, Result, Text, Value};
use fairlead_api::url::GoUrl;
use std::collections::BTreeMap;

pub const FUNCTIONS: &[Row] = &[
    ("url", &[("string_to_url", "(string) -> url")], |args| {
        let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
        // Only absolute URLs and paths are taken, but they may have fragments.
        let parsed = GoUrl::parse_request_uri(text).and_then(|_| GoUrl::parse(text));
        match parsed {
            Ok(url) => Ok(Value::extension(Extension::Url(Box::new(url)))),
            Err(error) => Err(EvalError::new(format!(
                "URL parse error during conversion from string: {error}"
            ))),
        }
    }),
    ("isURL", &[("is_url_string", "(string) -> bool")], |args| {
        let text = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
        Ok(Value::Bool(GoUrl::parse_request_uri(text).is_ok()))
    }),
    ("getScheme", &[("url_get_scheme", "url.() -> string")], |args| {
        Ok(Value::string(url(args)?.scheme.clone()))
    }),
    ("getHost", &[("url_get_host", "url.() -> string")], |args| {
        Ok(Value::string(url(args)?.host.clone()))
    }),
    ("getHostname", &[("url_get_hostname", "url.() -> string")], |args| {
        Ok(Value::string(url(args)?.hostname().to_owned()))
    }),
    ("getPort", &[("url_get_port", "url.() -> string")], |args| {
        Ok(Value::string(url(args)?.port().to_owned()))
    }),
    (
        "getEscapedPath",
        &[("url_get_escaped_path", "url.() -> string")],
        |args| Ok(Value::string(url(args)?.escaped_path())),
    ),
    (
        "getQuery",
        &[("url_get_query", "url.() -> map(string, list(string))")],
        |args| {
            let mut query: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for (name, value) in url(args)?.query() {
                query.entry(name).or_default().push(Value::string(value));
            }
            Ok(Value::map(query.into_iter().map(|(name, values)| {
                (Key::String(Text::from(name)), Value::list(values))
            })))
        },
    ),
];

fn url<'v>(args: &'v [Value]) -> Result<&'v GoUrl> {
    match &args[0] {
        Value::Extension(extension) => match &**extension {
            Extension::Url(url) => Ok(url),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
