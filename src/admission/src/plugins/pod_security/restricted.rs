//! The restricted level: what a pod has to give up by itself.

use super::baseline::{bad_seccomp, is_confined, unmasked_proc};
use super::check::{Subject, Violation, context, named, plural, quoted, violation};
use fairlead_api::Node;
use std::collections::BTreeSet;

/// The sources that are allowed.
const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub fn privilege_escalation(subject: &Subject, minor: u32) -> Option<Violation> {
    if minor >= 25 && subject.is_windows() {
        return None;
    }
    let set = |container: &Node| context(container, &["allowPrivilegeEscalation"]).and_then(Node::as_bool);
    let bad = subject.bad(|container| set(container) != Some(false));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", "containers", &bad);
    violation(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

pub fn capabilities(subject: &Subject, minor: u32) -> Option<Violation> {
    if minor >= 25 && subject.is_windows() {
        return None;
    }
    let list = |container: &Node, field: &str| -> Vec<String> {
        let list = context(container, &["capabilities"]).map_or(&[][..], |c| c.list(field));
        list.iter().filter_map(Node::as_str).map(str::to_owned).collect()
    };
    let keeping = subject.bad(|container| !list(container, "drop").iter().any(|name| name == "ALL"));
    let mut added = BTreeSet::new();
    let adding = subject.bad(|container| {
        let bad: Vec<String> = list(container, "add").into_iter().filter(|name| name != "NET_BIND_SERVICE").collect();
        let any = !bad.is_empty();
        added.extend(bad);
        any
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = named("container", "containers", &keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let who = named("container", "containers", &adding);
        let what = quoted(&added.into_iter().collect::<Vec<_>>());
        details.push(format!("{who} must not include {what} in securityContext.capabilities.add"));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub fn proc_mount(subject: &Subject, _: u32) -> Option<Violation> {
    unmasked_proc(subject)
}

pub fn volumes(subject: &Subject, _: u32) -> Option<Violation> {
    let mut names = Vec::new();
    let mut kinds = BTreeSet::new();
    for volume in subject.spec.list("volumes") {
        if ALLOWED_VOLUMES.iter().any(|source| volume.get(source).is_some()) {
            continue;
        }
        names.push(volume.str("name"));
        let source = volume.as_map().and_then(|fields| fields.keys().find(|key| *key != "name"));
        kinds.insert(source.map_or("unknown", |source| source.as_str()));
    }
    if names.is_empty() {
        return None;
    }
    let who = named("volume", "volumes", &names);
    let uses = plural("uses", "use", names.len());
    let what = plural("restricted volume type", "restricted volume types", kinds.len());
    let kinds = quoted(&kinds.into_iter().collect::<Vec<_>>());
    violation("restricted volume types", format!("{who} {uses} {what} {kinds}"))
}

pub fn run_as_non_root(subject: &Subject, minor: u32) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if minor >= 35 && subject.has_own_users() {
        return None;
    }
    if let Some(setters) = subject.setters(&["runAsNonRoot"], |value| value.as_bool() == Some(false)) {
        return violation(REASON, format!("{setters} must not set securityContext.runAsNonRoot=false"));
    }
    if subject.pod_has(&["runAsNonRoot"], |value| value.as_bool() == Some(true)) {
        return None;
    }
    let open = subject.bad(|container| context(container, &["runAsNonRoot"]).is_none());
    if open.is_empty() {
        return None;
    }
    let who = named("container", "containers", &open);
    violation(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

pub fn run_as_user(subject: &Subject, minor: u32) -> Option<Violation> {
    if minor >= 35 && subject.has_own_users() {
        return None;
    }
    let setters = subject.setters(&["runAsUser"], |value| value.as_i64() == Some(0))?;
    violation("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}

pub fn seccomp(subject: &Subject, minor: u32) -> Option<Violation> {
    if minor >= 25 && subject.is_windows() {
        return None;
    }
    if let Some(bad) = bad_seccomp(subject) {
        return Some(bad);
    }
    if subject.pod_has(&["seccompProfile"], is_confined) {
        return None;
    }
    let open = subject.bad(|container| context(container, &["seccompProfile"]).is_none());
    if open.is_empty() {
        return None;
    }
    let who = named("container", "containers", &open);
    violation(
        "seccompProfile",
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""),
    )
}
