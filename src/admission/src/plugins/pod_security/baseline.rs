//! The baseline level: what lets a pod out of its sandbox.

use super::check::{Subject, Violation, context, named, plural, quoted, violation};
use fairlead_api::field::go_quote;
use fairlead_api::{Map, Node};
use std::collections::BTreeSet;

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Safe sysctls, and the version since which they count as such.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

const SE_LINUX_TYPES: [(&str, u32); 5] = [
    ("", 0),
    ("container_t", 0),
    ("container_init_t", 0),
    ("container_kvm_t", 0),
    ("container_engine_t", 31),
];

fn is_true(node: &Node) -> bool {
    node.as_bool() == Some(true)
}

fn texts(list: &[Node]) -> impl Iterator<Item = &str> {
    list.iter().filter_map(Node::as_str)
}

fn listed(set: BTreeSet<String>) -> Vec<String> {
    set.into_iter().collect()
}

pub fn app_armor(subject: &Subject, _: u32) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let bad = |profile: &Node| {
        let kind = profile.str("type");
        let bad = !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    };
    let mut setters: Vec<String> = subject.setters(&["appArmorProfile"], bad).into_iter().collect();
    let fine = |profile: &str| profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/");
    let annotations: Vec<String> = subject
        .annotations
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(key, _)| key.starts_with("container.apparmor.security.beta.kubernetes.io/"))
        .filter_map(|(key, value)| Some((key, value.as_str().filter(|profile| !fine(profile))?)))
        .map(|(key, profile)| format!("{key}={}", go_quote(profile)))
        .collect();
    let mut values = listed(values);
    if !annotations.is_empty() {
        setters.push(plural("annotation", "annotations", annotations.len()).to_owned());
        values.extend(annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = match values.len() {
        1 => "forbidden AppArmor profile",
        _ => "forbidden AppArmor profiles",
    };
    let (who, what) = (setters.join(" and "), quoted(&values));
    violation(reason, format!("{who} must not set AppArmor profile type to {what}"))
}

pub fn capabilities(subject: &Subject, _: u32) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let containers = subject.bad(|container| {
        let add = context(container, &["capabilities"]).map_or(&[][..], |c| c.list("add"));
        let bad: Vec<&str> = texts(add).filter(|name| !CAPABILITIES.contains(name)).collect();
        added.extend(bad.iter().map(|name| (*name).to_owned()));
        !bad.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let (who, what) = (named("container", "containers", &containers), quoted(&listed(added)));
    violation(
        "non-default capabilities",
        format!("{who} must not include {what} in securityContext.capabilities.add"),
    )
}

pub fn host_namespaces(subject: &Subject, _: u32) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let set: Vec<String> =
        fields.filter(|field| subject.spec.get(field).is_some_and(is_true)).map(|field| format!("{field}=true")).collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

pub fn host_path(subject: &Subject, _: u32) -> Option<Violation> {
    let volumes = subject.spec.list("volumes").iter();
    let bad: Vec<&str> = volumes.filter(|v| v.get("hostPath").is_some()).map(|v| v.str("name")).collect();
    if bad.is_empty() { None } else { violation("hostPath volumes", named("volume", "volumes", &bad)) }
}

pub fn host_ports(subject: &Subject, _: u32) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let containers = subject.bad(|container| {
        let ports_of = container.list("ports").iter().filter_map(|port| port.get("hostPort").and_then(Node::as_i64));
        let used: Vec<i64> = ports_of.filter(|port| *port != 0).collect();
        ports.extend(used.iter().map(ToString::to_string));
        !used.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let who = named("container", "containers", &containers);
    let uses = plural("uses", "use", containers.len());
    let what = plural("hostPort", "hostPorts", ports.len());
    violation("hostPort", format!("{who} {uses} {what} {}", listed(ports).join(", ")))
}

pub fn probe_hosts(subject: &Subject, minor: u32) -> Option<Violation> {
    if minor < 34 {
        return None;
    }
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = BTreeSet::new();
    let containers = subject.bad(|container| {
        let handlers = HANDLERS.iter().filter_map(|path| container.at(path));
        let named = handlers.flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| handler.str_at(&[action, "host"])));
        let bad: Vec<String> = named.filter(|host| !host.is_empty()).map(str::to_owned).collect();
        let any = !bad.is_empty();
        hosts.extend(bad);
        any
    });
    if containers.is_empty() {
        return None;
    }
    let containers: Vec<&str> = containers.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let who = named("container", "containers", &containers);
    let uses = plural("uses", "use", containers.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    violation("probe or lifecycle host", format!("{who} {uses} {what} {}", quoted(&listed(hosts))))
}

pub fn privileged(subject: &Subject, _: u32) -> Option<Violation> {
    let bad = subject.bad(|container| context(container, &["privileged"]).is_some_and(is_true));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", "containers", &bad);
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

pub fn proc_mount(subject: &Subject, minor: u32) -> Option<Violation> {
    if minor >= 35 && subject.has_own_users() { None } else { unmasked_proc(subject) }
}

pub fn unmasked_proc(subject: &Subject) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let bad = subject.bad(|container| {
        let kind = context(container, &["procMount"]).and_then(Node::as_str).filter(|kind| *kind != "Default");
        kinds.extend(kind.map(str::to_owned));
        kind.is_some()
    });
    if bad.is_empty() {
        return None;
    }
    let (who, what) = (named("container", "containers", &bad), quoted(&listed(kinds)));
    violation("procMount", format!("{who} must not set securityContext.procMount to {what}"))
}

pub fn se_linux(subject: &Subject, minor: u32) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let setters = subject.setters(&["seLinuxOptions"], |options| {
        let kind = options.str("type");
        let known = SE_LINUX_TYPES.iter().any(|(name, since)| *name == kind && *since <= minor);
        if !known {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) = (!options.str("user").is_empty(), !options.str("role").is_empty());
        user |= sets_user;
        role |= sets_role;
        !known || sets_user || sets_role
    })?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(named("type", "types", &listed(types)));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let what = what.join("; ");
    violation("seLinuxOptions", format!("{setters} set forbidden securityContext.seLinuxOptions: {what}"))
}

pub fn seccomp(subject: &Subject, minor: u32) -> Option<Violation> {
    if minor < 19 { seccomp_annotations(subject) } else { bad_seccomp(subject) }
}

pub fn is_confined(profile: &Node) -> bool {
    matches!(profile.str("type"), "Localhost" | "RuntimeDefault")
}

/// Profiles that are set and confine nothing.
pub fn bad_seccomp(subject: &Subject) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let setters = subject.setters(&["seccompProfile"], |profile| {
        let bad = !is_confined(profile);
        if bad {
            kinds.insert(profile.str("type").to_owned());
        }
        bad
    })?;
    let kinds = quoted(&listed(kinds));
    violation("seccompProfile", format!("{setters} must not set securityContext.seccompProfile.type to {kinds}"))
}

fn seccomp_annotations(subject: &Subject) -> Option<Violation> {
    let mut keys = vec!["seccomp.security.alpha.kubernetes.io/pod".to_owned()];
    keys.extend(subject.containers().map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{}", c.str("name"))));
    let fine = |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let value = |key: &str| subject.annotations.and_then(|a| a.get(key)).and_then(Node::as_str);
    let bad: BTreeSet<String> = keys
        .iter()
        .filter_map(|key| Some((key, value(key).filter(|value| !fine(value))?)))
        .map(|(key, value)| format!("{key}={}", go_quote(value)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", bad.len());
    violation("seccompProfile", format!("forbidden {what} {}", listed(bad).join(", ")))
}

pub fn sysctls(subject: &Subject, minor: u32) -> Option<Violation> {
    let set = subject.spec.get("securityContext").map_or(&[][..], |context| context.list("sysctls"));
    let safe = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= minor);
    let bad: Vec<&str> = set.iter().map(|sysctl| sysctl.str("name")).filter(|name| !safe(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub fn host_process(subject: &Subject, _: u32) -> Option<Violation> {
    let setters = subject.setters(&["windowsOptions", "hostProcess"], is_true)?;
    violation("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}
