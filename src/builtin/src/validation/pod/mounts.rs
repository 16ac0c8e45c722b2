//! Where containers mount volumes and attach devices.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::paths;
use super::spec::Pod;
use fairlead_api::metadata::complain;
use fairlead_api::{FieldError, FieldErrors, Node};
use std::collections::HashSet;

pub fn mounts(container: &At, pod: &Pod, errors: &mut FieldErrors) {
    let devices = container.list("volumeDevices");
    let mut seen = HashSet::new();
    for mount in container.each("volumeMounts") {
        let (name, path) = (mount.str("name"), mount.str("mountPath"));
        mount.require("name", errors);
        if !pod.volumes.contains_key(name) {
            mount.not_found("name", name, errors);
        }
        mount.require("mountPath", errors);
        if !seen.insert(path) {
            mount.invalid("mountPath", path, "must be unique", errors);
        }
        if devices.iter().any(|device| device.str("name") == name) {
            mount.invalid("name", name, "must not already exist in volumeDevices", errors);
        }
        if last_by_name(devices).any(|device| device.str("devicePath") == path) {
            let detail = "must not already exist as a path in volumeDevices";
            mount.invalid("mountPath", path, detail, errors);
        }
        sub_paths(container, &mount, errors);
        propagation(container, &mount, errors);
        recursive_read_only(container, &mount, errors);
    }
}

/// Of several of one name, upstream's maps keep the last.
fn last_by_name(items: &[Node]) -> impl Iterator<Item = &Node> {
    items
        .iter()
        .enumerate()
        .filter(|(i, item)| {
            let name = item.str("name");
            items[i + 1..].iter().all(|later| later.str("name") != name)
        })
        .map(|(_, item)| item)
}

/// COMPAT: these are reported at the list of mounts.
fn sub_paths(container: &At, mount: &At, errors: &mut FieldErrors) {
    let (path, expression) = (mount.str("subPath"), mount.str("subPathExpr"));
    let at_list = |field: &str, value: &str, errors: &mut FieldErrors| {
        let complaints = paths::descending(value);
        if !complaints.is_empty() {
            complain(
                errors,
                &container.path_of("volumeMounts").child(field),
                value,
                complaints,
            );
        }
    };
    if !path.is_empty() {
        at_list("subPath", path, errors);
    }
    if !expression.is_empty() {
        if !path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            mount.invalid("subPathExpr", expression, detail, errors);
        }
        at_list("subPathExpr", expression, errors);
    }
}

fn propagation(container: &At, mount: &At, errors: &mut FieldErrors) {
    const MODES: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    let Some(mode) = mount.text("mountPropagation") else {
        return;
    };
    let path = || container.path_of("volumeMounts").child("mountPropagation");
    if !MODES.contains(&mode) {
        errors.push(FieldError::not_supported(&path(), mode, MODES));
    }
    let privileged = container.node.at(&["securityContext", "privileged"]) == Some(&Node::Bool(true));
    if mode == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(&path(), detail));
    }
}

fn recursive_read_only(container: &At, mount: &At, errors: &mut FieldErrors) {
    let Some(mode) = mount.text("recursiveReadOnly") else {
        return;
    };
    let path = || container.path_of("volumeMounts").child("recursiveReadOnly");
    match mode {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                let detail = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(&path(), detail));
            }
            if mount.text("mountPropagation").is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(&path(), detail));
            }
        }
        _ => errors.push(FieldError::not_supported(
            &path(),
            mode,
            &["Disabled", "Enabled", "IfPossible"],
        )),
    }
}

pub fn devices(container: &At, pod: &Pod, errors: &mut FieldErrors) {
    let mounts = container.list("volumeMounts");
    let (mut names, mut paths_seen) = (HashSet::new(), HashSet::new());
    for device in container.each("volumeDevices") {
        let (name, path) = (device.str("name"), device.str("devicePath"));
        device.require("name", errors);
        if names.contains(name) {
            device.invalid("name", name, "must be unique", errors);
        }
        match pod.volumes.get(name) {
            Some(volume) => {
                let is_claim = |key: &str| volume.get(key).is_some_and(|source| !source.is_null());
                if !is_claim("persistentVolumeClaim") && !is_claim("ephemeral") {
                    let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                    device.invalid("name", name, detail, errors);
                }
            }
            None => device.not_found("name", name, errors),
        }
        device.require("devicePath", errors);
        if paths_seen.contains(path) {
            device.invalid("devicePath", path, "must be unique", errors);
        }
        if !paths::no_backsteps(path).is_empty() {
            device.invalid("devicePath", path, "can not contain backsteps ('..')", errors);
        } else {
            paths_seen.insert(path);
        }
        if mounts.iter().any(|mount| mount.str("name") == name) {
            device.invalid("name", name, "must not already exist in volumeMounts", errors);
        }
        if last_by_name(mounts).any(|mount| mount.str("mountPath") == path) {
            let detail = "must not already exist as a path in volumeMounts";
            device.invalid("devicePath", path, detail, errors);
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}
