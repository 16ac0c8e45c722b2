//! Rules that claims, slices and classes of devices share: names, lists of limited size, configuration, selectors.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/resource/validation/validation.go.
// PERFORMANCE: per-request path

use crate::validation::at::At;
use fairlead_api::metadata::complain;
use fairlead_api::name::{self, is_dns1123_subdomain};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, json};
use std::collections::BTreeSet;

const DRIVER_LIMIT: usize = 63;
const POOL_LIMIT: usize = 253;
const IDENTIFIER_LIMIT: usize = 32;
const EXPRESSION_LIMIT: usize = 10 * 1024;
pub const PARAMETERS_LIMIT: usize = 10 * 1024;
pub const MAX_SELECTORS: usize = 32;
pub const MAX_CONFIGS: usize = 32;
const MAX_BINDING_CONDITIONS: usize = 4;
pub const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

// === lists ===

/// Checks the items of a list, unless there are too many to look at.
pub fn items(at: &At, field: &str, max: usize, errors: &mut FieldErrors, mut check: impl FnMut(&At, &mut FieldErrors)) {
    // The place of items is a part of the list's place.
    if at.len(field) > max {
        return at.too_many(field, at.len(field), max, errors);
    }
    let path = at.path_of(field);
    for (i, item) in at.list(field).iter().enumerate() {
        let path = path.index(i);
        check(&At::named(item, path.as_str()), errors);
    }
}

/// Like [`items`], where items differ in their key.
pub fn set<K: Ord + Clone + Into<Node>>(
    at: &At,
    field: &str,
    max: usize,
    key: impl Fn(&Node) -> K,
    errors: &mut FieldErrors,
    check: impl FnMut(&At, &mut FieldErrors),
) {
    items(at, field, max, errors, check);
    if at.len(field) > max {
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, item) in at.list(field).iter().enumerate() {
        let key = key(item);
        if !seen.insert(key.clone()) {
            errors.push(FieldError::duplicate(&at.path_of(field).index(i), key));
        }
    }
}

/// The key of strings.
pub fn itself(item: &Node) -> String {
    item.as_str().unwrap_or_default().to_owned()
}

/// The key of objects with names.
pub fn named(item: &Node) -> String {
    item.str("name").to_owned()
}

/// Checks keys and values of a map. Long keys are shortened in places.
pub fn entries(
    at: &At,
    field: &str,
    longest: usize,
    errors: &mut FieldErrors,
    key: impl Fn(&FieldPath, &str, &mut FieldErrors),
    mut check: impl FnMut(&At, &mut FieldErrors),
) {
    let path = at.path_of(field);
    for (name, value) in at.entries(field) {
        key(&path, name, errors);
        let path = path.key(&shortened(name, longest));
        check(&At::named(value.node, path.as_str()), errors);
    }
}

fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let rest = longest - 3;
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    format!(
        "{}...{}",
        &text[..floor(rest.div_ceil(2))],
        &text[floor(text.len() - rest / 2)..]
    )
}

// === names ===

/// The name of a driver, at `path`.
pub fn driver(path: &FieldPath, value: &str, errors: &mut FieldErrors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if value.len() > DRIVER_LIMIT {
        errors.push(FieldError::too_long(path, DRIVER_LIMIT as i64));
    }
    complain(errors, path, value, is_dns1123_subdomain(&value.to_lowercase()));
}

/// Subdomains separated by slashes.
pub fn pool(at: &At, field: &str, errors: &mut FieldErrors) {
    if !at.require(field, errors) {
        return;
    }
    let name = at.str(field);
    if name.len() > POOL_LIMIT {
        at.too_long(field, POOL_LIMIT as i64, errors);
    }
    for part in name.split('/') {
        at.complain(field, part, is_dns1123_subdomain(part), errors);
    }
}

/// An identifier, maybe with a domain before it.
pub fn qualified_name(path: &FieldPath, value: &str, errors: &mut FieldErrors) {
    match value.split('/').collect::<Vec<&str>>()[..] {
        [name] => identifier(path, name, errors),
        [domain, name] => {
            match domain {
                "" => errors.push(FieldError::invalid(path, "", "the domain must not be empty")),
                _ => driver(path, domain, errors),
            }
            match name {
                "" => errors.push(FieldError::invalid(path, "", "the name must not be empty")),
                _ => identifier(path, name, errors),
            }
        }
        // COMPAT: more slashes are not noticed.
        _ => {}
    }
}

pub fn fully_qualified_name(at: &At, field: &str, errors: &mut FieldErrors) {
    let value = at.str(field);
    qualified_name(&at.path_of(field), value, errors);
    if !value.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        at.invalid(field, value, detail, errors);
    }
}

fn identifier(path: &FieldPath, value: &str, errors: &mut FieldErrors) {
    if value.len() > IDENTIFIER_LIMIT {
        errors.push(FieldError::too_long(path, IDENTIFIER_LIMIT as i64));
    }
    complain(errors, path, value, name::is_c_identifier(value));
}

/// A uid in its usual form, where there is one.
pub fn share_id(at: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "shareID";
    let Some(uid) = at.text(FIELD) else { return };
    if let Some(mistake) = uid_mistake(uid) {
        at.invalid(FIELD, uid, format!("error validating uid: {mistake}"), errors);
    } else if uid.len() != 36 || uid != uid.to_lowercase() {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        at.invalid(FIELD, uid, detail, errors);
    }
}

fn uid_mistake(uid: &str) -> Option<String> {
    const INVALID: &str = "invalid UUID format";
    let bytes = uid.as_bytes();
    let core = match bytes.len() {
        36 => bytes,
        45 if bytes[..9].eq_ignore_ascii_case(b"urn:uuid:") => &bytes[9..],
        45 => {
            return Some(format!(
                "invalid urn prefix: {}",
                fairlead_api::field::go_quote(uid.get(..9).unwrap_or(uid))
            ));
        }
        38 if bytes[0] == b'{' && bytes[37] == b'}' => &bytes[1..37],
        38 => return Some("invalid bracketed UUID format".into()),
        32 => return (!bytes.iter().all(u8::is_ascii_hexdigit)).then(|| INVALID.into()),
        length => return Some(format!("invalid UUID length: {length}")),
    };
    let dashes = [8, 13, 18, 23];
    let valid = core.iter().enumerate().all(|(i, byte)| match dashes.contains(&i) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    });
    (!valid).then(|| INVALID.into())
}

// === selectors and configuration ===

/// The place where the CEL expressions that select devices are compiled; `_stored` ones are compatible with older
/// environments.
fn expression(_at: &At, _text: &str, _stored: bool, _errors: &mut FieldErrors) {}

/// Expressions that select devices.
pub fn selectors(at: &At, stored: bool, errors: &mut FieldErrors) {
    items(at, "selectors", MAX_SELECTORS, errors, |selector, errors| {
        let Some(cel) = selector.get("cel") else {
            return selector.required("cel", "", errors);
        };
        let text = cel.str("expression");
        match text.len() > EXPRESSION_LIMIT {
            true => cel.too_long("expression", EXPRESSION_LIMIT as i64, errors),
            false => expression(&cel, text, stored, errors),
        }
    });
}

/// What is handed to a driver. Parameters that were `stored` may be longer.
pub fn configuration(at: &At, stored: bool, errors: &mut FieldErrors) {
    let Some(opaque) = at.get("opaque") else {
        return at.required("opaque", "", errors);
    };
    driver(&opaque.path_of("driver"), opaque.str("driver"), errors);
    raw_object(&opaque, "parameters", stored, errors);
}

/// Any object, of limited size.
pub fn raw_object(at: &At, field: &str, stored: bool, errors: &mut FieldErrors) {
    match at.node.get(field) {
        None | Some(Node::Null) => at.required(field, "", errors),
        Some(value) if !stored && json::to_vec(value).len() > PARAMETERS_LIMIT => {
            at.too_long(field, PARAMETERS_LIMIT as i64, errors);
        }
        Some(Node::Map(_)) => {}
        Some(_) => at.invalid(field, "<value omitted>", "must be a valid JSON object", errors),
    }
}

// === conditions of binding ===

pub fn binding_conditions(at: &At, errors: &mut FieldErrors) {
    const SUCCESS: &str = "bindingConditions";
    const FAILURE: &str = "bindingFailureConditions";
    for field in [SUCCESS, FAILURE] {
        items(at, field, MAX_BINDING_CONDITIONS, errors, |condition, errors| {
            let text = condition.node.as_str().unwrap_or_default();
            condition.complain("", text, name::is_qualified_name(text), errors);
        });
    }
    let success: BTreeSet<&str> = at.strings(SUCCESS).map(|(_, condition)| condition).collect();
    for field in [SUCCESS, FAILURE] {
        let mut seen = BTreeSet::new();
        for (i, condition) in at.strings(field) {
            let path = at.path_of(field).index(i);
            if !seen.insert(condition) {
                errors.push(FieldError::duplicate(&path, condition));
            }
            if field == FAILURE && success.contains(condition) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(FieldError::invalid(&path, condition, detail));
            }
        }
    }
    for (field, other) in [(SUCCESS, FAILURE), (FAILURE, SUCCESS)] {
        if at.len(field) == 0 && at.len(other) > 0 {
            let value = at.node.get(field).cloned().unwrap_or_default();
            at.invalid(field, value, format!("{field} are required to use {other}"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn uids_have_several_forms() {
        let plain = "0e1b2c3d-0000-4000-8000-00000000000a";
        for good in [
            plain,
            &format!("urn:uuid:{plain}"),
            &format!("{{{plain}}}"),
            &plain.replace('-', ""),
        ] {
            assert_eq!(uid_mistake(good), None, "{good}");
        }
        for bad in ["", "x", &plain.replace('-', "+"), &format!("[{plain}]")] {
            assert!(uid_mistake(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn long_keys_are_shortened_in_the_middle() {
        assert_eq!(shortened("abc", 16), "abc");
        assert_eq!(shortened("0123456789abcdefgh", 16), "0123456...cdefgh");
    }

    #[test]
    fn conditions_come_in_pairs() {
        let device = node!({"bindingConditions": ["a", "a"]});
        let mut errors = Vec::new();
        binding_conditions(&At::named(&device, "d"), &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"d.bindingConditions[1]: Duplicate value: "a""#,
                "d.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions",
            ]
        );
    }
}
