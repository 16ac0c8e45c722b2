//! ConfigMaps and Secrets.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.

use super::at::At;
use super::common;
use base64::Engine as _;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};

const SIZE_LIMIT: usize = 1024 * 1024;
const FIXED: &str = "field is immutable when `immutable` is set";

pub fn config_map(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    if let Some(old) = old {
        common::finalizers(new, errors);
        stays(new, old, &["data", "binaryData"], errors);
    }
    common::object_meta(new, true, name::name_is_dns_subdomain, errors);
    let root = At::root(new);
    let mut size = 0;
    for (key, value) in root.entries("data") {
        value.complain("", key, name::is_config_map_key(key), errors);
        if new.at(&["binaryData", key]).is_some() {
            value.invalid("", key, "duplicate of key present in binaryData", errors);
        }
        size += value.node.as_str().map_or(0, str::len);
    }
    for (key, value) in root.entries("binaryData") {
        value.complain("", key, name::is_config_map_key(key), errors);
        size += decoded_length(value.node.as_str().unwrap_or_default());
    }
    if size > SIZE_LIMIT {
        // COMPAT: the error is of the whole object, which has an empty name.
        errors.push(FieldError::too_long(&FieldPath::new("[]"), SIZE_LIMIT as i64));
    }
}

pub fn secret(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    if let Some(old) = old {
        common::finalizers(new, errors);
        common::immutable(&At::root(new), old, "type", "string", errors);
        stays(new, old, &["data"], errors);
    }
    common::object_meta(new, true, name::name_is_dns_subdomain, errors);
    let root = At::root(new);
    let mut size = 0;
    for (key, value) in root.entries("data") {
        value.complain("", key, name::is_config_map_key(key), errors);
        size += decoded_length(value.node.as_str().unwrap_or_default());
    }
    if size > SIZE_LIMIT {
        root.too_long("data", SIZE_LIMIT as i64, errors);
    }
    by_type(new, errors);
}

/// What an object that says it is immutable may not change.
fn stays(new: &Node, old: &Node, fields: &[&str], errors: &mut FieldErrors) {
    let set = |object: &Node| object.get("immutable") == Some(&Node::Bool(true));
    if !set(old) {
        return;
    }
    let root = At::root(new);
    if !set(new) {
        root.forbidden("immutable", FIXED, errors);
    }
    for field in fields {
        let given = |object: &'_ Node| object.get(field).filter(|value| !value.is_null()).cloned();
        if given(new) != given(old) {
            root.forbidden(field, FIXED, errors);
        }
    }
}

fn by_type(secret: &Node, errors: &mut FieldErrors) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let path = FieldPath::new("data");
    let has = |key: &str| secret.at(&["data", key]).is_some();
    let mut require = |key: &str| errors.push(FieldError::required(&path.key(key), ""));
    match secret.str("type") {
        "kubernetes.io/service-account-token" => {
            let account = secret
                .annotations()
                .and_then(|all| all.get(ACCOUNT))
                .and_then(Node::as_str);
            if account.is_none_or(str::is_empty) {
                let path = FieldPath::new("metadata.annotations").key(ACCOUNT);
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/dockercfg" => json_object(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_object(secret, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" if secret.str_at(&["data", "ssh-privatekey"]).is_empty() => {
            require("ssh-privatekey");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                require(key);
            }
        }
        _ => {}
    }
}

fn json_object(secret: &Node, key: &str, errors: &mut FieldErrors) {
    let path = FieldPath::new("data").key(key);
    let Some(text) = secret.at(&["data", key]).and_then(Node::as_str) else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default();
    let why = match fairlead_api::json::parse(&bytes) {
        Ok(Node::Map(_) | Node::Null) => return,
        Ok(other) => format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go_kind(&other)
        ),
        Err(error) => error.to_string(),
    };
    errors.push(FieldError::invalid(&path, "<secret contents redacted>", why));
}

fn go_kind(node: &Node) -> &'static str {
    match node {
        Node::Bool(_) => "bool",
        Node::Int(_) | Node::Float(_) => "number",
        Node::String(_) => "string",
        Node::List(_) => "array",
        Node::Null | Node::Map(_) => "object",
    }
}

/// The length of what base64 text stands for.
fn decoded_length(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn secrets_have_what_their_type_says() {
        let check = |secret: Node| {
            let mut errors = Vec::new();
            by_type(&secret, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            check(node!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}})),
            ["data[tls.key]: Required value"]
        );
        assert!(check(node!({"type": "kubernetes.io/dockercfg", "data": {".dockercfg": "e30="}})).is_empty());
        assert_eq!(
            check(node!({"type": "kubernetes.io/dockercfg", "data": {".dockercfg": ""}})),
            [r#"data[.dockercfg]: Invalid value: "<secret contents redacted>": unexpected end of JSON input"#]
        );
    }

    #[test]
    fn lengths_are_those_of_bytes() {
        for (text, length) in [("", 0), ("YQ==", 1), ("YWI=", 2), ("YWJj", 3)] {
            assert_eq!(decoded_length(text), length);
        }
    }
}
