//! The rules of the Pod Security Standards as a table, and how one pod is held against it.

use super::policy::{Level, LevelVersion};
use super::{baseline, restricted};
use crate::pod;
use fairlead_api::{Map, Node};

/// A pod, or the template of one.
pub struct Subject<'a> {
    pub annotations: Option<&'a Map>,
    pub spec: &'a Node,
}

/// What is wrong, in few words and in many.
#[derive(Debug, PartialEq)]
pub struct Violation {
    pub reason: &'static str,
    pub detail: String,
}

/// One rule. It is given the minor version whose rules count.
pub struct Check {
    level: Level,
    since: u32,
    /// The version since which a stricter rule stands for this one at the restricted level.
    replaced: u32,
    run: fn(&Subject, u32) -> Option<Violation>,
}

const NEVER: u32 = u32::MAX;
/// Newer than every change of the rules.
const LATEST: u32 = 1000;

const fn baseline(replaced: u32, run: fn(&Subject, u32) -> Option<Violation>) -> Check {
    Check {
        level: Level::Baseline,
        since: 0,
        replaced,
        run,
    }
}

const fn restricted(since: u32, run: fn(&Subject, u32) -> Option<Violation>) -> Check {
    Check {
        level: Level::Restricted,
        since,
        replaced: NEVER,
        run,
    }
}

/// In the order in which violations are listed.
const CHECKS: [Check; 19] = [
    baseline(NEVER, baseline::app_armor),
    baseline(22, baseline::capabilities),
    baseline(NEVER, baseline::host_namespaces),
    baseline(0, baseline::host_path),
    baseline(NEVER, baseline::host_ports),
    baseline(NEVER, baseline::probe_hosts),
    baseline(NEVER, baseline::privileged),
    baseline(35, baseline::proc_mount),
    baseline(NEVER, baseline::se_linux),
    baseline(19, baseline::seccomp),
    baseline(NEVER, baseline::sysctls),
    baseline(NEVER, baseline::host_process),
    restricted(8, restricted::privilege_escalation),
    restricted(22, restricted::capabilities),
    restricted(35, restricted::proc_mount),
    restricted(0, restricted::volumes),
    restricted(0, restricted::run_as_non_root),
    restricted(23, restricted::run_as_user),
    restricted(19, restricted::seccomp),
];

pub fn evaluate(wanted: LevelVersion, subject: &Subject) -> Vec<Violation> {
    let minor = wanted.version.unwrap_or(LATEST);
    let applies = |check: &&Check| {
        check.level <= wanted.level
            && check.since <= minor
            && (wanted.level == Level::Baseline || check.replaced > minor)
    };
    if wanted.level == Level::Privileged {
        return Vec::new();
    }
    CHECKS.iter().filter(applies).filter_map(|check| (check.run)(subject, minor)).collect()
}

impl<'a> Subject<'a> {
    pub fn new(pod: &'a Node) -> Subject<'a> {
        Subject {
            annotations: pod.annotations(),
            spec: pod.get("spec").unwrap_or(&Node::Null),
        }
    }

    pub fn containers(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        pod::containers(self.spec).map(|(_, container)| container)
    }

    /// The names of the containers that are `bad`.
    pub fn bad(&self, mut bad: impl FnMut(&Node) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| bad(container)).map(|container| container.str("name")).collect()
    }

    /// Who sets something bad at `path` of a security context: the pod, containers, or nobody (`None`).
    pub fn setters(&self, path: &[&str], mut bad: impl FnMut(&Node) -> bool) -> Option<String> {
        let mut bad_at = |node: &Node| {
            let value = node.get("securityContext").and_then(|context| context.at(path));
            value.is_some_and(|value| !value.is_null() && bad(value))
        };
        let mut setters = Vec::new();
        if bad_at(self.spec) {
            setters.push("pod".to_owned());
        }
        let containers = self.bad(bad_at);
        if !containers.is_empty() {
            setters.push(named("container", "containers", &containers));
        }
        (!setters.is_empty()).then(|| setters.join(" and "))
    }

    /// Whether the pod's own security context has something good at `path`.
    pub fn pod_has(&self, path: &[&str], good: impl Fn(&Node) -> bool) -> bool {
        self.spec.get("securityContext").and_then(|context| context.at(path)).is_some_and(good)
    }

    pub fn is_windows(&self) -> bool {
        self.spec.str_at(&["os", "name"]) == "windows"
    }

    /// Whether the pod has users of its own: what is root in it is nobody outside.
    pub fn has_own_users(&self) -> bool {
        self.spec.get("hostUsers").and_then(Node::as_bool) == Some(false)
    }
}

pub fn context<'a>(container: &'a Node, path: &[&str]) -> Option<&'a Node> {
    container.get("securityContext")?.at(path).filter(|value| !value.is_null())
}

pub fn violation(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

pub fn quoted<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    if items.is_empty() { String::new() } else { format!("\"{}\"", items.join("\", \"")) }
}

pub fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
pub fn named<S: AsRef<str>>(one: &str, many: &str, items: &[S]) -> String {
    format!("{} {}", plural(one, many, items.len()), quoted(items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn reasons(level: Level, version: Option<u32>, pod: &Node) -> Vec<&'static str> {
        evaluate(LevelVersion { level, version }, &Subject::new(pod)).iter().map(|v| v.reason).collect()
    }

    #[test]
    fn stricter_rules_stand_for_weaker_ones() {
        let pod = node!({"spec": {"containers": [{"name": "c", "securityContext": {
            "capabilities": {"add": ["SYS_ADMIN"]}, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
            "seccompProfile": {"type": "RuntimeDefault"}}}]}});
        assert_eq!(reasons(Level::Baseline, None, &pod), ["non-default capabilities"]);
        assert_eq!(reasons(Level::Restricted, None, &pod), ["unrestricted capabilities"]);
        assert_eq!(reasons(Level::Restricted, Some(21), &pod), ["non-default capabilities"]);
    }

    #[test]
    fn containers_of_every_kind_count() {
        for field in pod::CONTAINERS {
            let mut pod = Node::map();
            pod.set_at(&["spec", field], vec![node!({"name": "c", "securityContext": {"privileged": true}})]);
            assert_eq!(reasons(Level::Baseline, None, &pod), ["privileged"], "{field}");
        }
    }
}
