//! Environment variables of containers, and the fields and resources they take values from.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::{common, paths};
use fairlead_api::{FieldErrors, Node, name};

const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What the downward API knows at all; each use allows some of it.
const KNOWN_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];
const MORE_THAN_ONE: &str = "may not have more than one field specified at a time";

pub fn variables(container: &At, errors: &mut FieldErrors) {
    for variable in container.each("env") {
        if variable.require("name", errors) {
            let name = variable.str("name");
            variable.complain("name", name, name::is_relaxed_env_var_name(name), errors);
        }
        if let Some(from) = variable.get("valueFrom") {
            value_from(&from, variable.str("value"), errors);
        }
    }
}

fn value_from(from: &At, value: &str, errors: &mut FieldErrors) {
    let mut count = 0;
    if let Some(field) = from.get("fieldRef") {
        count += 1;
        field_reference(&field, FIELDS, errors);
    }
    if let Some(resource) = from.get("resourceFieldRef") {
        count += 1;
        resource_field(&resource, errors);
        resource_divisor(&resource, errors);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(selector) = from.get(key) {
            count += 1;
            key_selector(&selector, errors);
        }
    }
    if let Some(file) = from.get("fileKeyRef") {
        count += 1;
        file_key(&file, errors);
    }
    if count == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        from.invalid("", "", detail, errors);
    } else if !value.is_empty() {
        from.invalid("", "", "may not be specified when `value` is not empty", errors);
    } else if count > 1 {
        from.invalid("", "", MORE_THAN_ONE, errors);
    }
}

fn key_selector(at: &At, errors: &mut FieldErrors) {
    common::dns_subdomain(at, "name", errors);
    if at.require("key", errors) {
        let key = at.str("key");
        at.complain("key", key, name::is_config_map_key(key), errors);
    }
}

fn file_key(at: &At, errors: &mut FieldErrors) {
    if at.require("key", errors) {
        let key = at.str("key");
        at.complain("key", key, name::is_relaxed_env_var_name(key), errors);
    }
    if at.require("volumeName", errors) {
        common::dns_label(at, "volumeName", errors);
    }
    if at.require("path", errors) {
        let path = at.str("path");
        at.complain("path", path, paths::no_backsteps(path), errors);
    }
}

pub fn variables_from(container: &At, errors: &mut FieldErrors) {
    for source in container.each("envFrom") {
        let prefix = source.str("prefix");
        if !prefix.is_empty() {
            source.complain("prefix", prefix, name::is_relaxed_env_var_name(prefix), errors);
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(reference) = source.get(key) else { continue };
            count += 1;
            if reference.require("name", errors) {
                let name = reference.str("name");
                reference.complain("name", name, name::name_is_dns_subdomain(name, true), errors);
            }
        }
        // COMPAT: both are reported at the list.
        match count {
            0 => container.invalid(
                "envFrom",
                "",
                "must specify one of: `configMapRef` or `secretRef`",
                errors,
            ),
            1 => {}
            _ => container.invalid("envFrom", "", MORE_THAN_ONE, errors),
        }
    }
}

/// An `ObjectFieldSelector`; `allowed` is sorted.
pub fn field_reference(at: &At, allowed: &[&str], errors: &mut FieldErrors) {
    if !at.require("apiVersion", errors) || !at.require("fieldPath", errors) {
        return;
    }
    let path = at.str("fieldPath");
    let subscripted = split_subscript(path);
    let known = match subscripted {
        _ if at.str("apiVersion") != "v1" => Err(format!("unsupported pod version: {}", at.str("apiVersion"))),
        Some(("metadata.annotations" | "metadata.labels", _)) => Ok(path),
        Some(_) => Err(format!("field label does not support subscript: {path}")),
        None if path == "spec.host" => Ok("spec.nodeName"),
        None if KNOWN_FIELDS.contains(&path) => Ok(path),
        None => Err(format!("field label not supported: {path}")),
    };
    let known = match known {
        Ok(known) => known,
        Err(why) => return at.invalid("fieldPath", path, format!("error converting fieldPath: {why}"), errors),
    };
    match subscripted {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            at.complain("", &key, name::is_qualified_name(&key), errors);
        }
        Some((_, key)) => at.complain("", key, name::is_qualified_name(key), errors),
        None if allowed.contains(&known) => {}
        None => at.not_supported("fieldPath", known, allowed, errors),
    }
}

/// `metadata.labels['key']`.
fn split_subscript(path: &str) -> Option<(&str, &str)> {
    let (field, key) = path.strip_suffix("']")?.split_once("['")?;
    (!field.is_empty()).then_some((field, key))
}

/// The resource of a `ResourceFieldSelector`.
pub fn resource_field(at: &At, errors: &mut FieldErrors) {
    if !at.require("resource", errors) {
        return;
    }
    let resource = at.str("resource");
    if !RESOURCES.contains(&resource) && !is_huge_pages(resource) {
        at.not_supported("resource", resource, RESOURCES, errors);
    }
}

pub fn resource_divisor(at: &At, errors: &mut FieldErrors) {
    let divisor = common::quantity(at.node.get("divisor"));
    if divisor.is_zero() {
        return;
    }
    let resource = at.str("resource");
    let (allowed, detail): (&[&str], _) = match resource {
        "limits.cpu" | "requests.cpu" => (
            &["1m", "1"],
            "only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
        ),
        "limits.memory" | "requests.memory" => (BYTE_DIVISORS, bytes_only("memory")),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (BYTE_DIVISORS, bytes_only("local ephemeral storage"))
        }
        _ if is_huge_pages(resource) => (BYTE_DIVISORS, bytes_only("hugepages")),
        _ => return,
    };
    if !allowed.contains(&divisor.canonical().as_str()) {
        at.invalid("divisor", resource, detail, errors);
    }
}

fn bytes_only(resource: &str) -> String {
    format!(
        "only divisor's values {} are supported with the {resource} resource",
        BYTE_DIVISORS.join(", ")
    )
}

fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-")
}

/// Variables can come from files in volumes of type `emptyDir` only.
pub fn file_volumes(spec: &At, errors: &mut FieldErrors) {
    for container in super::each_container(spec) {
        for variable in container.each("env") {
            let Some(from) = variable.get("valueFrom") else {
                continue;
            };
            let Some(file) = from.get("fileKeyRef") else { continue };
            let name = file.str("volumeName");
            // The last of several volumes of one name counts.
            let volume = spec
                .list("volumes")
                .iter()
                .rev()
                .find(|volume| volume.str("name") == name);
            match volume {
                None => file.not_found("volumeName", name, errors),
                Some(volume) if volume.get("emptyDir").is_none_or(Node::is_null) => {
                    let detail = "referenced volume must be of type emptyDir";
                    file.invalid("volumeName", name, detail, errors);
                }
                Some(_) => {}
            }
        }
    }
}
