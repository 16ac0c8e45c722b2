//! Named formats.
//!
//! Source: kubernetes/apiserver pkg/cel/library/format.go.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Extension, Value};
use fairlead_api::name;
use fairlead_api::url::GoUrl;
use fairlead_schema::matches_format;

/// A format of text.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    /// What is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// How long the expression behind it is taken to be.
    pub regex_size: u64,
}

macro_rules! formats {
    ($($key:literal: $name:literal, $size:literal, $check:expr;)+) => {
        static FORMATS: &[(&str, Format)] = &[$(($key, Format { name: $name, check: $check, regex_size: $size })),+];
        pub const FUNCTIONS: &[Row] = &[
            $((concat!("format.", $key), &[(concat!("format.", $key), "() -> format")], |_| Ok(named($key))),)+
            ("format.named", &[("format-named", "(string) -> optional(format)")], |args| {
                let name = args[0].as_str().ok_or_else(EvalError::no_such_overload)?;
                Ok(match FORMATS.iter().any(|(key, _)| *key == name) {
                    true => Value::some(named(name)),
                    false => Value::Optional(None),
                })
            }),
            ("validate", &[("format-validate", "format.(string) -> optional(list(string))")], |args| {
                let Value::Extension(extension) = &args[0] else { return Err(EvalError::no_such_overload()) };
                let Extension::Format(format) = &**extension else { return Err(EvalError::no_such_overload()) };
                let text = args[1].as_str().ok_or_else(EvalError::no_such_overload)?;
                let complaints = (format.check)(text);
                Ok(if complaints.is_empty() {
                    Value::Optional(None)
                } else {
                    Value::some(Value::list(complaints.into_iter().map(Value::string).collect()))
                })
            }),
        ];
    };
}

formats! {
    "dns1123Label": "DNS1123Label", 30, |s| name::name_is_dns_label(s, false);
    "dns1123Subdomain": "DNS1123Subdomain", 60, |s| name::name_is_dns_subdomain(s, false);
    "dns1035Label": "DNS1035Label", 30, |s| name::name_is_dns1035_label(s, false);
    "qualifiedName": "QualifiedName", 60, name::is_qualified_name;
    "dns1123LabelPrefix": "DNS1123LabelPrefix", 30, |s| name::name_is_dns_label(s, true);
    "dns1123SubdomainPrefix": "DNS1123SubdomainPrefix", 60, |s| name::name_is_dns_subdomain(s, true);
    "dns1035LabelPrefix": "DNS1035LabelPrefix", 30, |s| name::name_is_dns1035_label(s, true);
    "labelValue": "LabelValue", 40, name::is_valid_label_value;
    "uri": "URI", 1103, |s| GoUrl::parse_request_uri(s).err().into_iter().collect();
    "uuid": "uuid", 70, |s| complain(s, "uuid", "does not match the UUID format");
    "byte": "byte", 84, |s| complain(s, "byte", "invalid base64");
    "date": "date", 71, |s| complain(s, "date", "invalid date");
    "datetime": "datetime", 71, |s| complain(s, "date-time", "invalid datetime");
}

fn complain(text: &str, format: &str, why: &str) -> Vec<String> {
    if matches_format(format, text) {
        Vec::new()
    } else {
        vec![why.to_owned()]
    }
}

/// The format of this name; an empty text where there is none.
fn named<'a>(name: &str) -> Value<'a> {
    match FORMATS.iter().find(|(key, _)| *key == name) {
        Some((_, format)) => Value::extension(Extension::Format(format)),
        None => Value::Optional(None),
    }
}
