//! Annotations of pods that mean something to the server, and the fields that replaced some of them.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::paths;
use super::{Leniency, scheduling};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Map, Node};

pub const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// `object` is a pod or a template; `spec` is its spec, beside whose place its metadata stands.
pub fn validate(object: &Node, spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let Some(annotations) = object.annotations().filter(|annotations| !annotations.is_empty()) else {
        return;
    };
    let path = beside(spec);
    let text = |key: &str| annotations.get(key).and_then(Node::as_str);
    if let Some(value) = text(MIRROR)
        && spec.str("nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(MIRROR), value, detail));
    }
    if let Some(value) = text(TOLERATIONS).filter(|value| !value.is_empty()) {
        tolerations(value, &path, leniency, errors);
    }
    if let Some(value) = text(DELETION_COST)
        && !leniency.deletion_cost
        && !is_cost(value)
    {
        let detail = "must be a 32bit integer";
        errors.push(FieldError::invalid(&path.key(DELETION_COST), value, detail));
    }
    if let Some(value) = text(SECCOMP_POD) {
        seccomp(value, &path.child(SECCOMP_POD), errors);
    }
    for (key, value) in entries(annotations) {
        if key.starts_with(SECCOMP_CONTAINER) {
            seccomp(value, &path.child(key), errors);
        }
    }
    for (key, value) in entries(annotations) {
        let Some(container) = key.strip_prefix(APPARMOR) else {
            continue;
        };
        if !super::each_container(spec).any(|c| c.str("name") == container) {
            errors.push(FieldError::invalid(&path.key(key), container, "container not found"));
        }
        if !matches!(value, "" | "runtime/default" | "unconfined") && !value.starts_with("localhost/") {
            let detail = format!(
                "invalid AppArmor profile name: {}",
                fairlead_api::field::go_quote(value)
            );
            errors.push(FieldError::invalid(&path.key(key), value, detail));
        }
    }
}

/// What an update does with annotations that cannot change.
pub fn validate_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
    let path = FieldPath::new("metadata.annotations");
    let empty = Map::new();
    let (new, old) = (new.annotations().unwrap_or(&empty), old.annotations().unwrap_or(&empty));
    for key in old.keys().filter(|key| new.get(key) != old.get(key)) {
        if key.starts_with(APPARMOR) {
            let detail = "may not remove or update AppArmor annotations";
            errors.push(FieldError::forbidden(&path.key(key), detail));
        }
        if key == MIRROR {
            let detail = "may not remove or update mirror pod annotation";
            errors.push(FieldError::forbidden(&path.key(key), detail));
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(key)) {
        if key.starts_with(APPARMOR) {
            errors.push(FieldError::forbidden(
                &path.key(key),
                "may not add AppArmor annotations",
            ));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(
                &path.key(key),
                "may not add mirror pod annotation",
            ));
        }
    }
}

pub fn deletion_cost_is_broken(object: &Node) -> bool {
    let cost = object
        .annotations()
        .and_then(|annotations| annotations.get(DELETION_COST));
    cost.and_then(Node::as_str).is_some_and(|cost| !is_cost(cost))
}

/// A 32-bit integer in its shortest form.
fn is_cost(text: &str) -> bool {
    let bytes = text.as_bytes();
    let first = bytes.first().is_some_and(|b| *b == b'-' || (b'1'..=b'9').contains(b)) || text == "0";
    first && text.parse::<i32>().is_ok()
}

/// The path of annotations of the object whose spec this is.
fn beside(spec: &At) -> FieldPath {
    match spec.path().as_str().strip_suffix(".spec") {
        // COMPAT: templates' annotations are reported without their metadata.
        Some(template) => FieldPath::new(template).child("annotations"),
        None => FieldPath::new("metadata.annotations"),
    }
}

fn entries(annotations: &Map) -> impl Iterator<Item = (&str, &str)> {
    annotations
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn tolerations(text: &str, path: &FieldPath, leniency: &Leniency, errors: &mut FieldErrors) {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(list @ serde_json::Value::Array(_)) => {
            let mut holder = Node::map();
            holder.set(TOLERATIONS, Node::from(list));
            let at = At::named(&holder, path.as_str());
            scheduling::tolerations(&at, TOLERATIONS, leniency.comparison_tolerations, errors);
        }
        Ok(_) => {
            let detail = "json: cannot unmarshal object into Go value of type []core.Toleration";
            errors.push(FieldError::invalid(path, TOLERATIONS, detail));
        }
        Err(error) => errors.push(FieldError::invalid(path, TOLERATIONS, error.to_string())),
    }
}

fn seccomp(profile: &str, path: &FieldPath, errors: &mut FieldErrors) {
    match profile.strip_prefix("localhost/") {
        _ if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        Some(file) => fairlead_api::metadata::complain(errors, path, file, paths::descending(file)),
        None => errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile")),
    }
}

// === annotations and the fields that replace them say the same ===

/// What a profile's field and annotation are called, and which words they have.
struct Profile {
    field: &'static str,
    what: &'static str,
    defaults: &'static [&'static str],
}

pub fn seccomp_agrees(object: &Node, spec: &At, errors: &mut FieldErrors) {
    const PROFILE: Profile = Profile {
        field: "seccompProfile",
        what: "seccomp",
        defaults: &["runtime/default", "docker/default"],
    };
    let Some(annotations) = object.annotations() else {
        return;
    };
    if let Some(text) = annotations.get(SECCOMP_POD).and_then(Node::as_str) {
        agrees(spec, spec.node, &PROFILE, text, errors);
    }
    for container in super::each_container(spec) {
        let key = format!("{SECCOMP_CONTAINER}{}", container.str("name"));
        if let Some(text) = annotations.get(&key).and_then(Node::as_str) {
            agrees(&container, container.node, &PROFILE, text, errors);
        }
    }
}

pub fn apparmor_agrees(object: &Node, spec: &At, errors: &mut FieldErrors) {
    const PROFILE: Profile = Profile {
        field: "appArmorProfile",
        what: "apparmor",
        defaults: &["runtime/default"],
    };
    let Some(annotations) = object.annotations() else {
        return;
    };
    if spec.node.str_at(&["os", "name"]) == "windows" {
        return;
    }
    for container in super::each_container(spec) {
        let key = format!("{APPARMOR}{}", container.str("name"));
        let Some(text) = annotations.get(&key).and_then(Node::as_str) else {
            continue;
        };
        let own = container.node.at(&["securityContext", PROFILE.field]).is_some();
        let holder = if own { container.node } else { spec.node };
        agrees(&container, holder, &PROFILE, text, errors);
    }
}

/// `holder` has the profile; errors are reported at `at`.
fn agrees(at: &At, holder: &Node, profile: &Profile, annotation: &str, errors: &mut FieldErrors) {
    let Some(value) = holder.at(&["securityContext", profile.field]).filter(|p| !p.is_null()) else {
        return;
    };
    let path = || at.path_of("securityContext").child(profile.field);
    let what = profile.what;
    let agrees = match value.str("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => profile.defaults.contains(&annotation),
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => false,
            Some(name) if value.get("localhostProfile").and_then(Node::as_str) == Some(name) => true,
            Some(_) => {
                let detail = format!("{what} profile in annotation and field must match");
                errors.push(FieldError::forbidden(&path().child("localhostProfile"), detail));
                return;
            }
        },
        _ => true,
    };
    if !agrees {
        let detail = format!("{what} type in annotation and field must match");
        errors.push(FieldError::forbidden(&path().child("type"), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_32_bit_integers_in_shortest_form() {
        for good in ["0", "-5", "2147483647"] {
            assert!(is_cost(good), "{good}");
        }
        for bad in ["", "+1", "01", "2147483648", "x", "-"] {
            assert!(!is_cost(bad), "{bad}");
        }
    }
}
