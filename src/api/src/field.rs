//! Validation errors: what is wrong, at which field, in kube-apiserver's words.
//!
//! Source of the wording: kubernetes/apimachinery pkg/util/validation/field/errors.go.

use crate::node::Node;
use std::fmt::{self, Write};

/// Where in an object a value stands: `spec.containers[0].ports[name]`. The root displays as `<nil>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

/// One mistake in an object.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub path: FieldPath,
    /// The value as the message shows it; unused by kinds that show none.
    pub value: Node,
    pub detail: String,
    /// The value's text, where the order of its fields matters and [`Node`] does not keep it; empty where no value is
    /// shown.
    pub shown: Option<String>,
}

/// All mistakes found in one object, in the order they were found.
pub type FieldErrors = Vec<FieldError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

// === impl FieldPath ===

impl FieldPath {
    pub fn root() -> FieldPath {
        FieldPath::default()
    }

    /// A path of one or more names, given as `spec.template`.
    pub fn new(path: impl Into<String>) -> FieldPath {
        FieldPath(path.into())
    }

    #[must_use]
    pub fn child(&self, name: &str) -> FieldPath {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        FieldPath(path)
    }

    #[must_use]
    pub fn index(&self, index: usize) -> FieldPath {
        FieldPath(format!("{}[{index}]", self.0))
    }

    #[must_use]
    pub fn key(&self, key: &str) -> FieldPath {
        FieldPath(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

// === impl FieldError ===

impl FieldError {
    fn new(kind: FieldErrorKind, path: &FieldPath, value: Node, detail: impl Into<String>) -> FieldError {
        FieldError {
            kind,
            path: path.clone(),
            value,
            detail: detail.into(),
            shown: None,
        }
    }

    /// Shows `text` in place of the value: JSON whose keys are in declared order, for example.
    #[must_use]
    pub fn showing(mut self, text: impl Into<String>) -> FieldError {
        self.shown = Some(text.into());
        self
    }

    /// Shows no value at all: what objects and lists are is too much to say.
    #[must_use]
    pub fn omitting_value(self) -> FieldError {
        self.showing("")
    }

    pub fn required(path: &FieldPath, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Required, path, Node::Null, detail)
    }

    pub fn invalid(path: &FieldPath, value: impl Into<Node>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Invalid, path, value.into(), detail)
    }

    pub fn type_invalid(path: &FieldPath, value: impl Into<Node>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::TypeInvalid, path, value.into(), detail)
    }

    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Forbidden, path, Node::Null, detail)
    }

    pub fn duplicate(path: &FieldPath, value: impl Into<Node>) -> FieldError {
        FieldError::new(FieldErrorKind::Duplicate, path, value.into(), "")
    }

    pub fn not_found(path: &FieldPath, value: impl Into<Node>) -> FieldError {
        FieldError::new(FieldErrorKind::NotFound, path, value.into(), "")
    }

    /// `supported` is shown in the order given; upstream sorts it, so pass it sorted.
    pub fn not_supported(path: &FieldPath, value: impl Into<Node>, supported: &[&str]) -> FieldError {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let quoted: Vec<String> = supported.iter().map(|s| go_quote(s)).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        FieldError::new(FieldErrorKind::NotSupported, path, value.into(), detail)
    }

    pub fn too_long(path: &FieldPath, max: i64) -> FieldError {
        let unit = if max == 1 { "byte" } else { "bytes" };
        let detail = if max >= 0 {
            format!("may not be more than {max} {unit}")
        } else {
            "value is too long".into()
        };
        FieldError::new(FieldErrorKind::TooLong, path, Node::string("<value omitted>"), detail)
    }

    pub fn too_many(path: &FieldPath, actual: usize, max: usize) -> FieldError {
        let unit = if max == 1 { "item" } else { "items" };
        FieldError::new(
            FieldErrorKind::TooMany,
            path,
            Node::Int(actual as i64),
            format!("must have at most {max} {unit}"),
        )
    }

    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Internal, path, Node::Null, detail)
    }

    /// The message without the path, as in a cause of a `Status`.
    pub fn body(&self) -> String {
        let label = self.kind.label();
        let mut text = match self.kind {
            FieldErrorKind::Required
            | FieldErrorKind::Forbidden
            | FieldErrorKind::TooLong
            | FieldErrorKind::Internal => label.to_owned(),
            _ => match &self.shown {
                Some(text) if text.is_empty() => label.to_owned(),
                Some(text) => format!("{label}: {text}"),
                None => format!("{label}: {}", shown(&self.value)),
            },
        };
        if !self.detail.is_empty() {
            write!(text, ": {}", self.detail).expect("writing to a String cannot fail");
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl FieldErrorKind {
    /// `reason` of a `StatusCause`.
    pub fn reason(self) -> &'static str {
        match self {
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::Internal => "InternalError",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn label(self) -> &'static str {
        match self {
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::Internal => "Internal error",
        }
    }
}

/// A string in double quotes, escaped as Go's `%q` does.
pub fn go_quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                write!(out, "\\x{:02x}", c as u32).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A float as Go's `%v` prints it: `1.5`, `1e+06`, `1e-05`.
pub fn go_float(f: f64) -> String {
    if !f.is_finite() {
        return if f.is_nan() {
            "NaN".into()
        } else if f > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let text = format!("{f:e}");
    let (mantissa, exponent) = text.split_once('e').expect("LowerExp writes an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if f == 0.0 || (-4..6).contains(&exponent) {
        return format!("{f}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// Strings quoted, everything else as JSON.
fn shown(value: &Node) -> String {
    match value {
        Node::String(s) => go_quote(s),
        Node::Float(f) => go_float(*f),
        Node::Null => "null".into(),
        other => String::from_utf8(plain_json(other)).expect("the writer writes UTF-8"),
    }
}

fn plain_json(value: &Node) -> Vec<u8> {
    crate::json::to_vec(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_with_percent_v() {
        for (f, text) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (1e6, "1e+06"),
            (123456.5, "123456.5"),
            (1e-5, "1e-05"),
            (-2.5e300, "-2.5e+300"),
        ] {
            assert_eq!(go_float(f), text);
        }
    }

    #[test]
    fn errors_read_as_upstream() {
        let path = FieldPath::new("spec").child("ports").index(0).child("name");
        assert_eq!(
            FieldError::invalid(&path, "A", "must be lower case").to_string(),
            r#"spec.ports[0].name: Invalid value: "A": must be lower case"#
        );
        assert_eq!(
            FieldError::required(&path, "").to_string(),
            "spec.ports[0].name: Required value"
        );
        assert_eq!(
            FieldError::not_supported(&path, "x", &["A", "B"]).to_string(),
            r#"spec.ports[0].name: Unsupported value: "x": supported values: "A", "B""#
        );
        assert_eq!(
            FieldError::too_many(&path, 5, 3).to_string(),
            "spec.ports[0].name: Too many: 5: must have at most 3 items"
        );
        assert_eq!(
            FieldError::duplicate(&path, 3i64).to_string(),
            "spec.ports[0].name: Duplicate value: 3"
        );
    }
}
