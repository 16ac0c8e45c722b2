//! Query parameters and `DeleteOptions`, read and validated as upstream reads them.
// PERFORMANCE: per-request path

use crate::request::Request;
use fairlead_api::metadata::validate_field_manager;
use fairlead_api::{FieldError, FieldErrors, FieldPath, GroupKind, Node, Status, StatusResult};

mod delete;
mod list;

pub use delete::{DeleteOptions, Propagation};
pub use list::{ListOptions, Match};

/// `fieldValidation`: what happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Which options a write takes; names the kind in errors and towards admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    Create,
    Update,
    Patch,
    Apply,
}

/// `CreateOptions`, `UpdateOptions` or `PatchOptions`.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// As given; empty where the default applies.
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// As given, for the options object.
    field_validation_text: String,
    pub force: bool,
}

impl WriteOptions {
    /// # Errors
    /// Invalid, as `CreateOptions.meta.k8s.io "" is invalid: …`.
    pub fn parse(request: &Request, kind: WriteKind) -> StatusResult<WriteOptions> {
        let dry_run = all(request, "dryRun");
        let field_manager = request.query("fieldManager").unwrap_or("");
        let field_validation = request.query("fieldValidation").unwrap_or("");
        let force = request.query("force").map(boolean);
        let mut errors = FieldErrors::new();
        match kind {
            WriteKind::Apply if field_manager.is_empty() => {
                errors.push(FieldError::required(
                    &FieldPath::new("fieldManager"),
                    "is required for apply patch",
                ));
            }
            WriteKind::Patch if force.is_some() => {
                errors.push(FieldError::forbidden(
                    &FieldPath::new("force"),
                    "may not be specified for non-apply patch",
                ));
            }
            _ => {}
        }
        errors.extend(validate_field_manager(field_manager, &FieldPath::new("fieldManager")));
        validate_dry_run(&dry_run, &mut errors);
        let directive = match field_validation {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported(
                    &FieldPath::new("fieldValidation"),
                    other,
                    &supported,
                ));
                FieldValidation::Warn
            }
        };
        check(kind.options_kind(), &errors)?;
        Ok(WriteOptions {
            dry_run: !dry_run.is_empty(),
            field_manager: field_manager.into(),
            field_validation: directive,
            field_validation_text: field_validation.into(),
            force: force.unwrap_or(false),
        })
    }

    /// The options object that admission sees: `CreateOptions` or `UpdateOptions`; a patch is one of the two.
    pub fn to_node(&self, kind: &str) -> Node {
        let mut node = options_node(kind);
        if self.dry_run {
            node.set("dryRun", vec![Node::string("All")]);
        }
        for (key, value) in [
            ("fieldManager", &self.field_manager),
            ("fieldValidation", &self.field_validation_text),
        ] {
            if !value.is_empty() {
                node.set(key, value.as_str());
            }
        }
        node
    }
}

impl WriteKind {
    fn options_kind(self) -> &'static str {
        match self {
            WriteKind::Create => "CreateOptions",
            WriteKind::Update => "UpdateOptions",
            WriteKind::Patch | WriteKind::Apply => "PatchOptions",
        }
    }
}

/// The manager of a write without `fieldManager`: the start of the user agent, made printable.
pub fn default_manager(user_agent: &str) -> String {
    let mut manager = String::new();
    for c in user_agent
        .split('/')
        .next()
        .unwrap_or("")
        .chars()
        .filter(|c| printable(*c))
    {
        if manager.len() + c.len_utf8() > FIELD_MANAGER_MAX_LENGTH {
            break;
        }
        manager.push(c);
    }
    manager
}

/// `strconv.ParseUint` in upstream's wrapping; the empty string is 0.
///
/// # Errors
/// The text that upstream sends, without a status around it.
pub fn parse_resource_version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    parse_uint(text).map_err(|why| FieldError::invalid(&FieldPath::new("resourceVersion"), text, why).to_string())
}

/// # Errors
/// As Go words it.
pub fn parse_uint(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(n) if digits => Ok(n),
        _ if digits => Err(format!(
            "strconv.ParseUint: parsing {}: value out of range",
            fairlead_api::field::go_quote(text)
        )),
        _ => Err(format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            fairlead_api::field::go_quote(text)
        )),
    }
}

/// # Errors
/// BadRequest, as Go words it.
pub fn parse_int(text: &str) -> StatusResult<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    text.parse().map_err(|_| {
        let why = if numeric {
            "value out of range"
        } else {
            "invalid syntax"
        };
        Status::bad_request(format!(
            "strconv.ParseInt: parsing {}: {why}",
            fairlead_api::field::go_quote(text)
        ))
    })
}

/// COMPAT: only `0` and `false` (in any case) are false; the empty string is true.
pub fn boolean(text: &str) -> bool {
    text != "0" && !text.eq_ignore_ascii_case("false")
}

fn all<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
    request
        .query
        .iter()
        .filter(|(k, _)| k == name)
        .map(|(_, v)| v.as_str())
        .collect()
}

fn validate_dry_run(values: &[&str], errors: &mut FieldErrors) {
    if values.iter().any(|v| *v != "All") {
        let shown = Node::List(values.iter().map(|v| Node::string(*v)).collect());
        errors.push(FieldError::not_supported(&FieldPath::new("dryRun"), shown, &["All"]));
    }
}

fn options_node(kind: &str) -> Node {
    let mut node = Node::map();
    node.set("apiVersion", "meta.k8s.io/v1");
    node.set("kind", kind);
    node
}

fn check(kind: &str, errors: &FieldErrors) -> StatusResult<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", errors))
    }
}

/// Near to Go's `unicode.IsPrint`: no control, format, surrogate, private or unassigned characters, no spaces but U+0020.
fn printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || matches!(c as u32, 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff
                | 0xe000..=0xf8ff | 0xf0000..=0x10ffff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff))
}

const FIELD_MANAGER_MAX_LENGTH: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fail_in_gos_words() {
        assert_eq!(
            parse_int("abc").unwrap_err().message(),
            "strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
        assert_eq!(
            parse_int("99999999999999999999").unwrap_err().message(),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
        assert_eq!(
            parse_resource_version("-1").unwrap_err(),
            "resourceVersion: Invalid value: \"-1\": strconv.ParseUint: parsing \"-1\": invalid syntax"
        );
        assert_eq!(parse_resource_version(""), Ok(0));
    }

    #[test]
    fn managers_come_from_the_user_agent() {
        assert_eq!(default_manager("kubectl/v1.36 (linux)"), "kubectl");
        assert_eq!(default_manager(""), "");
        assert_eq!(default_manager("a\u{1}b/x"), "ab");
    }
}
