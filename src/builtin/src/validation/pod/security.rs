//! Security contexts of pods and containers.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::{paths, shown};
use super::{Leniency, windows};
use fairlead_api::{FieldErrors, Node, name};
use std::collections::HashSet;

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const SYSCTL_LIMIT: usize = 253;

/// Whether privileged containers are let in (`--allow-privileged`), which is the default here as in every cluster.
const ALLOW_PRIVILEGED: bool = true;

pub fn container_context(container: &At, host_users: bool, errors: &mut FieldErrors) {
    let Some(context) = container.get("securityContext") else {
        return;
    };
    if context.flag("privileged") && !ALLOW_PRIVILEGED {
        context.forbidden("privileged", "disallowed by cluster policy", errors);
    }
    for field in ["runAsUser", "runAsGroup"] {
        id(&context, field, errors);
    }
    if let Some(mount) = context.text("procMount") {
        context.one_of("procMount", &["Default", "Unmasked"], errors);
        if host_users && mount == "Unmasked" {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            context.invalid("procMount", mount, detail, errors);
        }
    }
    seccomp_profile(&context, errors);
    if context.node.get("allowPrivilegeEscalation") == Some(&Node::Bool(false)) {
        let mut contradiction = |detail: &str| {
            let text = shown::json("core.SecurityContext", Some(context.node));
            context.invalid_shown("", text, detail, errors);
        };
        if context.flag("privileged") {
            contradiction("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        let added = context.node.at(&["capabilities", "add"]).and_then(Node::as_list);
        for _ in added
            .into_iter()
            .flatten()
            .filter(|c| c.as_str() == Some("CAP_SYS_ADMIN"))
        {
            contradiction("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    windows::options(&context, errors);
    apparmor_profile(&context, errors);
}

pub fn pod_context(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let Some(context) = spec.get("securityContext") else {
        return;
    };
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context, field, errors);
    }
    for group in context.each("supplementalGroups") {
        let value = group.node.as_i64().unwrap_or_default();
        for complaint in name::is_valid_group_id(value) {
            group.invalid("", value, complaint, errors);
        }
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        context.invalid("shareProcessNamespace", true, detail, errors);
    }
    sysctls(spec, &context, leniency, errors);
    context.one_of_if_set("fsGroupChangePolicy", &["Always", "OnRootMismatch"], errors);
    seccomp_profile(&context, errors);
    windows::options(&context, errors);
    apparmor_profile(&context, errors);
    context.one_of_if_set("supplementalGroupsPolicy", &["Merge", "Strict"], errors);
    let policies: &[&str] = match leniency.selinux_policy {
        true => &["MountOption", "Recursive"],
        false => &["Recursive"],
    };
    context.one_of_if_set("seLinuxChangePolicy", policies, errors);
}

fn id(context: &At, field: &str, errors: &mut FieldErrors) {
    let Some(value) = context.number(field) else { return };
    for complaint in name::is_valid_user_id(value) {
        context.invalid(field, value, complaint, errors);
    }
}

fn seccomp_profile(context: &At, errors: &mut FieldErrors) {
    let Some(profile) = context.get("seccompProfile") else {
        return;
    };
    match profile.str("type") {
        "" => profile.required("type", "type is required when seccompProfile is set", errors),
        _ => profile.one_of("type", PROFILES, errors),
    }
    let path = profile.text("localhostProfile");
    match (profile.str("type") == "Localhost", path) {
        (true, None) => {
            let detail = "must be set when seccomp type is Localhost";
            profile.required("localhostProfile", detail, errors);
        }
        (true, Some(path)) => profile.complain("localhostProfile", path, paths::descending(path), errors),
        (false, Some(_)) => {
            let text = shown::json("core.SeccompProfile", Some(profile.node));
            let detail = "can only be set when seccomp type is Localhost";
            profile.invalid_shown("localhostProfile", text, detail, errors);
        }
        (false, None) => {}
    }
}

fn apparmor_profile(context: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "localhostProfile";
    const MISSING: &str = "must be set when AppArmor type is Localhost";
    let Some(profile) = context.get("appArmorProfile") else {
        return;
    };
    match (profile.str("type"), profile.text(FIELD)) {
        ("Localhost", None) => profile.required(FIELD, MISSING, errors),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                profile.invalid(FIELD, name, "must not be padded with whitespace", errors);
            } else if name.is_empty() {
                profile.required(FIELD, MISSING, errors);
            }
            if name.len() > 4095 {
                profile.too_long(FIELD, 4095, errors);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            profile.invalid(FIELD, name, "can only be set when AppArmor type is Localhost", errors);
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => profile.required("type", "type is required when appArmorProfile is set", errors),
        _ => profile.one_of("type", PROFILES, errors),
    }
}

// === sysctls ===

fn sysctls(spec: &At, context: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for sysctl in context.each("sysctls") {
        let name = sysctl.str("name");
        if name.is_empty() {
            sysctl.required("name", "", errors);
        } else if !is_sysctl(name) {
            let detail = format!(
                "must have at most {SYSCTL_LIMIT} characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            sysctl.invalid("name", name, detail, errors);
        } else if seen.contains(name) {
            sysctl.duplicate("name", name, errors);
        }
        if !leniency.host_sysctls {
            not_of_host(spec, &sysctl, errors);
        }
        seen.insert(name);
    }
}

/// Only the rule about namespaces of the host: whether a stored spec broke it.
pub fn host_sysctls(spec: &At, errors: &mut FieldErrors) {
    let Some(context) = spec.get("securityContext") else {
        return;
    };
    for sysctl in context.each("sysctls") {
        not_of_host(spec, &sysctl, errors);
    }
}

fn not_of_host(spec: &At, sysctl: &At, errors: &mut FieldErrors) {
    let name = sysctl.str("name");
    let dotted = normalized(name);
    let plain = dotted.split('*').next().unwrap_or_default();
    let ipc = matches!(
        plain,
        "kernel.sem"
            | "kernel.shmall"
            | "kernel.shmmax"
            | "kernel.shmmni"
            | "kernel.shm_rmid_forced"
            | "kernel.shm"
            | "kernel.msgmax"
            | "kernel.msgmnb"
            | "kernel.msgmni"
            | "kernel.msg"
    ) || plain.starts_with("fs.mqueue.");
    if spec.flag("hostNetwork") && plain.starts_with("net.") {
        sysctl.invalid("name", name, "may not be specified when 'hostNetwork' is true", errors);
    } else if spec.flag("hostIPC") && ipc {
        sysctl.invalid("name", name, "may not be specified when 'hostIPC' is true", errors);
    }
}

/// Slashes separate where the first separator is one; dots are then part of names.
fn normalized(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn is_sysctl(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= SYSCTL_LIMIT
        && name.split(['.', '/']).all(|segment| {
            let bytes = segment.as_bytes();
            bytes.first().is_some_and(|b| inner(*b))
                && bytes.last().is_some_and(|b| inner(*b))
                && bytes.iter().all(|b| inner(*b) || *b == b'-' || *b == b'_')
        })
}

// === users of the pod that are not the host's ===

pub fn user_namespace(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    const WHEN: &str = "when `hostUsers` is false";
    if spec.node.get("hostUsers") != Some(&Node::Bool(false)) {
        return;
    }
    // COMPAT: two of the three are reported by their Go names.
    for (field, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.flag(field) {
            spec.forbidden(shown, WHEN, errors);
        }
    }
    devices_in_user_namespaces(spec, leniency, errors);
}

pub fn devices_in_user_namespaces(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    if leniency.devices_in_user_namespaces || spec.node.get("hostUsers") != Some(&Node::Bool(false)) {
        return;
    }
    for container in super::each_container(spec) {
        if container.len("volumeDevices") > 0 {
            container.forbidden("volumeDevices", "when `hostUsers` is false", errors);
        }
    }
}
