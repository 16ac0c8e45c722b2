//! What may be said about where a webhook is: a URL, or a Service.
//!
//! Source: kubernetes/apiserver pkg/util/webhook/validation.go.

use crate::name::{is_dns1123_subdomain, is_valid_port_num};
use crate::url::GoUrl;
use crate::{FieldError, FieldErrors, FieldPath, Node};

/// Checks the URL of a webhook that is called over HTTPS.
pub fn validate_url(url: &str, path: &FieldPath) -> FieldErrors {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match GoUrl::parse(url) {
        Ok(url) => url,
        Err(error) => {
            return vec![FieldError::required(
                path,
                format!("url must be a valid URL: {error}{FORM}"),
            )];
        }
    };
    let mut errors = FieldErrors::new();
    let mut refuse = |value: &str, detail: String| errors.push(FieldError::invalid(path, value, detail));
    if url.scheme != "https" {
        refuse(&url.scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        refuse(&url.host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = &url.user {
        refuse(user, "user information is not permitted in the URL".into());
    }
    if !url.fragment.is_empty() {
        refuse(&url.fragment, "fragments are not permitted in the URL".into());
    }
    if !url.raw_query.is_empty() {
        refuse(&url.raw_query, "query parameters are not permitted in the URL".into());
    }
    errors
}

/// Checks a reference to the Service of a webhook: name, namespace, port and path.
pub fn validate_service(service: &Node, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    // COMPAT: upstream mistakes one for the other, so a missing namespace is reported as a missing name.
    for (given, reported) in [("namespace", "name"), ("name", "namespace")] {
        if service.str(given).is_empty() {
            errors.push(FieldError::required(&path.child(reported), ""));
        }
    }
    let port = service.get("port").and_then(Node::as_i64).unwrap_or(0);
    let complaints = is_valid_port_num(port);
    if !complaints.is_empty() {
        let detail = format!("port is not valid: {}", complaints.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), port, detail));
    }
    errors.extend(service_path(service.str("path"), &path.child("path")));
    errors
}

fn service_path(text: &str, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if text.is_empty() || text == "/" {
        return errors;
    }
    if text == "//" {
        errors.push(FieldError::invalid(path, text, "segment[0] may not be empty"));
        return errors;
    }
    if !text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must start with a '/'"));
    }
    // COMPAT: the first character is not looked at, slash or not.
    let rest = text.char_indices().nth(1).map_or("", |(i, _)| &text[i..]);
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.push(FieldError::invalid(
                path,
                text,
                format!("segment[{i}] may not be empty"),
            ));
            continue;
        }
        for complaint in is_dns1123_subdomain(step) {
            errors.push(FieldError::invalid(path, text, format!("segment[{i}]: {complaint}")));
        }
    }
    errors
}
