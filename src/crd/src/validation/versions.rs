//! What a version says beside its schema: columns, subresources, selectable fields, deprecation.

use super::field_path::{self, Brackets};
use super::internal::Version;
use super::options::Options;
use super::props::present;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use std::collections::BTreeSet;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

pub fn deprecation(version: &Version, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(warning) = present(version.node, "deprecationWarning").and_then(Node::as_str) else {
        return;
    };
    let mut refuse =
        |detail: String| errors.push(FieldError::invalid(&path.child("deprecationWarning"), warning, detail));
    if !version.flag("deprecated") {
        refuse("can only be set for deprecated versions".into());
        return;
    }
    if warning.len() > 256 {
        refuse("must be <= 256 characters long".into());
    }
    if warning.is_empty() {
        refuse("must not be an empty string".into());
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| !is_printable(*c)) {
        refuse(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        ));
    }
}

/// Go's `unicode.IsPrint`, near enough: no control, format or private characters and no space but the ASCII one.
fn is_printable(c: char) -> bool {
    let invisible = matches!(
        c as u32,
        0xad | 0x600..=0x605 | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb
    );
    c == ' ' || !(c.is_control() || c.is_whitespace() || invisible)
}

pub fn columns(columns: &[Node], path: &FieldPath, errors: &mut FieldErrors) {
    for (i, column) in columns.iter().enumerate() {
        let path = path.index(i);
        if column.str("name").is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        let ty = column.str("type");
        let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
        if ty.is_empty() {
            errors.push(FieldError::required(&path.child("type"), detail));
        } else if !COLUMN_TYPES.contains(&ty) {
            errors.push(FieldError::invalid(&path.child("type"), ty, detail));
        }
        let format = column.str("format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&path.child("format"), format, detail));
        }
        // COMPAT: the path is named as the internal Go field is.
        let (at, json_path) = (path.child("JSONPath"), column.str("jsonPath"));
        if json_path.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            errors.extend(simple_json_path(json_path, &at));
        }
    }
}

fn simple_json_path(text: &str, path: &FieldPath) -> Option<FieldError> {
    (!text.starts_with('.')).then(|| FieldError::invalid(path, text, "must be a simple json path starting with ."))
}

pub fn subresources(subresources: Option<&Node>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(scale) = subresources.and_then(|s| present(s, "scale")) else {
        return;
    };
    for (field, prefix, under) in [
        ("specReplicasPath", ".spec.", "should be a json path under .spec"),
        ("statusReplicasPath", ".status.", "should be a json path under .status"),
    ] {
        let (at, text) = (path.child("scale").child(field), scale.str(field));
        if text.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if let Some(error) = simple_json_path(text, &at) {
            errors.push(error);
        } else if !text.starts_with(prefix) {
            errors.push(FieldError::invalid(&at, text, under));
        }
    }
    let (at, text) = (
        path.child("scale").child("labelSelectorPath"),
        scale.str("labelSelectorPath"),
    );
    if text.is_empty() {
        return;
    }
    if let Some(error) = simple_json_path(text, &at) {
        errors.push(error);
    } else if !text.starts_with(".spec.") && !text.starts_with(".status.") {
        errors.push(FieldError::invalid(
            &at,
            text,
            "should be a json path under either .spec or .status",
        ));
    }
}

/// `version` is the name under which more fields than the limit may be kept; "" at the top.
pub fn selectable(
    fields: &[Node],
    schema: &Node,
    options: &Options,
    version: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mut seen = BTreeSet::new();
    for (i, field) in fields.iter().enumerate() {
        let (at, json_path) = (path.index(i).child("jsonPath"), field.str("jsonPath"));
        if json_path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let found = match field_path::find(json_path, schema, Brackets::Refused) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(
                    &at,
                    json_path,
                    format!("is an invalid path: {why}"),
                ));
                continue;
            }
        };
        if found.root == "metadata" {
            errors.push(FieldError::invalid(
                &at,
                json_path,
                "must not point to fields in metadata",
            ));
        }
        if !found
            .schema
            .is_some_and(|s| matches!(s.str("type"), "string" | "boolean" | "integer"))
        {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, json_path, detail));
        }
        if !seen.insert(found.path) {
            errors.push(FieldError::duplicate(&at, json_path));
        }
    }
    if options.limits_selectable(seen.len(), version) {
        errors.push(FieldError::too_many(path, seen.len(), Options::max_selectable()));
    }
}
