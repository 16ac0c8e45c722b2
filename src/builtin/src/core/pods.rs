//! Pods.

mod apparmor;
pub mod binding;
mod eviction;

use crate::cells::{self, NONE, Row};
use crate::gated::drop_from_pod_spec;
use crate::peers::Peers;
use crate::validation::pod;
use crate::value::{copy, each, flag, int, keep_metadata, list, or};
use crate::{pod_spec, resources};
use compact_str::CompactString;
use fairlead_api::{FieldErrors, Map, Node, node};
use fairlead_resource::hooks::AnswersCreate;
use fairlead_resource::{HookContext, Hooks};

const POD_SPEC: &[&str] = &["spec"];

pub struct Pods {
    eviction: eviction::Eviction,
}

impl Pods {
    pub fn new(peers: &Peers) -> Pods {
        Pods {
            eviction: eviction::Eviction { peers: peers.clone() },
        }
    }
}

impl Hooks for Pods {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        for containers in ["containers", "initContainers"] {
            each(spec, containers, resources::default_requests);
        }
        resources::default_pod_level(spec);
        or(spec, "enableServiceLinks", true);
        if flag(spec, &["hostNetwork"]) {
            for containers in ["containers", "initContainers"] {
                each(spec, containers, |container| {
                    each(container, "ports", |port| {
                        let number = int(port, &["containerPort"]);
                        if number != 0 {
                            or(port, "hostPort", number);
                        }
                    });
                });
            }
        }
        pod_spec::default_spec(spec);
        sync_addresses(object.make_at(&["status"]), "podIP", "podIPs", "ip");
        if int(object, &["spec", "terminationGracePeriodSeconds"]) < 0 {
            object.set_at(&["spec", "terminationGracePeriodSeconds"], 1);
        }
    }

    fn early_warnings(&self, object: &Node, _: &HookContext) -> Vec<String> {
        apparmor::warnings(object)
    }

    fn prepare_create(&self, object: &mut Node, context: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
        let mut status = Node::map();
        status.set("phase", "Pending");
        status.set("qosClass", resources::qos_class(object));
        if !list(object, &["spec", "schedulingGates"]).is_empty() {
            let mut condition = Node::map();
            condition.set("type", "PodScheduled");
            condition.set("status", "False");
            condition.set("reason", "SchedulingGated");
            condition.set("message", "Scheduling is blocked due to non-empty scheduling gates");
            condition.set("lastProbeTime", Node::Null);
            condition.set("lastTransitionTime", context.clock.now().rfc3339());
            status.set("conditions", vec![condition]);
        }
        object.set("status", status);
        apply_label_keys(object);
        apparmor::sync(object);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, context: &HookContext) -> Vec<String> {
        match (context.subresource, old) {
            ("", None) => pod::warnings::pod(object),
            ("status", _) => pod::warnings::status(object),
            _ => Vec::new(),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        pod::validate_create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        match context.subresource {
            "ephemeralcontainers" => pod::validate_ephemeral_containers(object, old, errors),
            "resize" => pod::validate_resize(object, old, resources::qos_class, errors),
            _ => pod::validate_update(object, old, errors),
        }
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        pod::validate_status(object, old, errors);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, context: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
        match context.subresource {
            "ephemeralcontainers" => {
                keep_all_but(object, old, |kept, new| copy(kept, new, &["ephemeralContainers"]));
            }
            "resize" => prepare_resize(object, old),
            _ => {}
        }
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        object.remove_at(&["metadata", "deletionTimestamp"]);
        copy(object, old, &["metadata", "deletionTimestamp"]);
        copy(object, old, &["metadata", "ownerReferences"]);
        if object.str_at(&["status", "qosClass"]).is_empty() {
            copy(object, old, &["status", "qosClass"]);
        }
        keep_observed_generations(object, old);
    }

    fn grace_period_seconds(&self, object: &Node, requested: Option<i64>) -> Option<i64> {
        let declared = object
            .at(&["spec", "terminationGracePeriodSeconds"])
            .and_then(Node::as_i64);
        let period = requested.or(declared).unwrap_or(0);
        let finished = matches!(object.str_at(&["status", "phase"]), "Failed" | "Succeeded");
        if object.str_at(&["spec", "nodeName"]).is_empty() || finished {
            return Some(0);
        }
        Some(if period < 0 { 1 } else { period })
    }

    fn selectable_from(&self) -> &'static [&'static [&'static str]] {
        &[&["status", "podIPs"]]
    }

    fn selectable(&self, object: &Node) -> Vec<(CompactString, CompactString)> {
        let first = list(object, &["status", "podIPs"])
            .first()
            .map_or("", |ip| ip.str("ip"));
        vec![
            ("status.podIP".into(), first.into()),
            ("status.podIPs".into(), CompactString::default()),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "" => &[&["status"]],
            "status" => &[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ],
            _ => &[],
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn answers(&self, subresource: &str) -> Option<&dyn AnswersCreate> {
        match subresource {
            "binding" => Some(&binding::Binding),
            "eviction" => Some(&self.eviction),
            _ => None,
        }
    }

    fn row_conditions(&self, object: &Node) -> Option<Node> {
        let phase = object.str_at(&["status", "phase"]);
        let message = match phase {
            "Succeeded" => "The pod has completed successfully.",
            "Failed" => "The pod failed.",
            _ => return None,
        };
        Some(node!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]))
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let row = Row::named(object, now_seconds);
        let summary = Summary::of(object);
        let restarts = match summary.last_restart.as_str() {
            finished if summary.restarts != 0 && !finished.is_empty() => {
                let now = fairlead_api::Timestamp::from_unix_seconds(now_seconds);
                format!("{} ({} ago)", summary.restarts, fairlead_api::time::age(finished, now))
            }
            _ => summary.restarts.to_string(),
        };
        let ip = list(object, &["status", "podIPs"])
            .first()
            .map_or("", |ip| ip.str("ip"));
        row.cell(format!("{}/{}", summary.ready, summary.total))
            .cell(summary.reason)
            .cell(restarts)
            .age()
            .cell(cells::or(ip, NONE))
            .text_or(&["spec", "nodeName"], NONE)
            .text_or(&["status", "nominatedNodeName"], NONE)
            .cell(readiness_gates(object))
            .done()
    }
}

/// Keeps the single address and the list of addresses of a status the same.
pub fn sync_addresses(status: &mut Node, single: &str, many: &str, key: &str) {
    let first = status.list(many).first().map(|a| a.str(key).to_owned());
    let alone = status.str(single).to_owned();
    match first {
        // The list wins only where both agree on its head.
        Some(first) if alone.is_empty() => status.set(single, first),
        Some(first) if first != alone => {
            let mut address = Node::map();
            address.set(key, alone);
            status.set(many, vec![address]);
        }
        None if !alone.is_empty() => {
            let mut address = Node::map();
            address.set(key, alone);
            status.set(many, vec![address]);
        }
        _ => {}
    }
}

/// The old object with the new managed fields, and of the new spec what `keep` takes over.
fn keep_all_but(object: &mut Node, old: &Node, keep: impl FnOnce(&mut Node, &Node)) {
    let mut spec = old.get("spec").cloned().unwrap_or_default();
    keep(&mut spec, object.get("spec").unwrap_or(&Node::Null));
    object.set("spec", spec);
    copy(object, old, &["status"]);
    keep_metadata(object, old);
}

/// A resize changes resources and resize policies. Where containers were added, removed, moved or renamed, the new spec
/// is left as it is for validation to refuse.
fn prepare_resize(object: &mut Node, old: &Node) {
    let same_names = ["containers", "initContainers"].into_iter().all(|key| {
        let names = |pod: &Node| {
            list(pod, &["spec", key])
                .iter()
                .map(|c| c.str("name").to_owned())
                .collect::<Vec<_>>()
        };
        names(object) == names(old)
    });
    if !same_names {
        return;
    }
    keep_all_but(object, old, |kept, new| {
        copy(kept, new, &["resources"]);
        for key in ["containers", "initContainers"] {
            let mut wanted = new.list(key).iter();
            each(kept, key, |container| {
                if let Some(new) = wanted.next() {
                    copy(container, new, &["resources"]);
                    copy(container, new, &["resizePolicy"]);
                }
            });
        }
    });
}

/// Conditions and status that say nothing of the generation they saw keep what they said.
fn keep_observed_generations(object: &mut Node, old: &Node) {
    if int(object, &["status", "observedGeneration"]) == 0 {
        copy(object, old, &["status", "observedGeneration"]);
    }
    let mut seen: Vec<(&str, &Node)> = list(old, &["status", "conditions"])
        .iter()
        .map(|c| (c.str("type"), c))
        .collect();
    each(object.make_at(&["status"]), "conditions", |condition| {
        let Some(i) = seen.iter().position(|(kind, _)| *kind == condition.str("type")) else {
            return;
        };
        let (_, before) = seen.remove(i);
        if int(condition, &["observedGeneration"]) == 0 {
            copy(condition, before, &["observedGeneration"]);
        }
    });
}

/// `matchLabelKeys` and `mismatchLabelKeys` become expressions on the pod's own labels.
fn apply_label_keys(pod: &mut Node) {
    let Some(labels) = pod.labels().cloned() else { return };
    let spec = pod.make_at(&["spec"]);
    each(spec, "topologySpreadConstraints", |constraint| {
        extend_selector(constraint, &labels)
    });
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.at_mut(&["affinity", affinity]) else {
            continue;
        };
        each(affinity, "requiredDuringSchedulingIgnoredDuringExecution", |term| {
            extend_selector(term, &labels)
        });
        each(
            affinity,
            "preferredDuringSchedulingIgnoredDuringExecution",
            |weighted| {
                if let Some(term) = weighted.get_mut("podAffinityTerm") {
                    extend_selector(term, &labels);
                }
            },
        );
    }
}

fn extend_selector(term: &mut Node, labels: &Map) {
    let mut expressions = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.list(keys).iter().filter_map(Node::as_str) {
            let Some(value) = labels.get(key) else { continue };
            let mut expression = Node::map();
            expression.set("key", key);
            expression.set("operator", operator);
            expression.set("values", vec![value.clone()]);
            expressions.push(expression);
        }
    }
    // A selector that is absent matches nothing, and so stays.
    if let Some(selector) = term.get_mut("labelSelector").filter(|_| !expressions.is_empty()) {
        let mut all = selector.list("matchExpressions").to_vec();
        all.extend(expressions);
        selector.set("matchExpressions", all);
    }
}

fn readiness_gates(pod: &Node) -> String {
    let gates = list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.into();
    }
    let conditions = list(pod, &["status", "conditions"]);
    let is_true = |gate: &&Node| {
        let condition = conditions.iter().find(|c| c.str("type") == gate.str("conditionType"));
        condition.is_some_and(|c| c.str("status") == "True")
    };
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

/// The state of a pod in a few words.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    /// When a container last ended before its restart; empty where none did.
    last_restart: String,
}

impl Summary {
    fn of(pod: &Node) -> Summary {
        let phase = pod.str_at(&["status", "phase"]);
        let conditions = list(pod, &["status", "conditions"]);
        let init = list(pod, &["spec", "initContainers"]);
        let is_sidecar = |name: &str| {
            init.iter()
                .any(|c| c.str("name") == name && c.str("restartPolicy") == "Always")
        };
        let mut summary = Summary {
            reason: cells::or(pod.str_at(&["status", "reason"]), phase).to_owned(),
            ready: 0,
            total: list(pod, &["spec", "containers"]).len()
                + init.iter().filter(|c| c.str("restartPolicy") == "Always").count(),
            restarts: 0,
            last_restart: String::new(),
        };
        if conditions
            .iter()
            .any(|c| c.str("type") == "PodScheduled" && c.str("reason") == "SchedulingGated")
        {
            summary.reason = "SchedulingGated".into();
        }
        let (mut sidecar_restarts, mut sidecar_last) = (0, String::new());
        let mut initializing = false;
        for (i, status) in list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            summary.count_restarts(status);
            let sidecar = is_sidecar(status.str("name"));
            if sidecar {
                sidecar_restarts += int(status, &["restartCount"]);
                later(&mut sidecar_last, ended(status));
            }
            let terminated = status.at(&["state", "terminated"]);
            if terminated.is_some_and(|t| int(t, &["exitCode"]) == 0) {
                continue;
            }
            if sidecar && flag(status, &["started"]) {
                summary.ready += usize::from(flag(status, &["ready"]));
                continue;
            }
            let waiting = status.str_at(&["state", "waiting", "reason"]);
            summary.reason = match terminated {
                Some(terminated) => format!("Init:{}", exit_reason(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{i}/{}", init.len()),
            };
            initializing = true;
            break;
        }
        let initialized = conditions.iter().find(|c| c.str("type") == "Initialized");
        if !initializing || initialized.is_some_and(|c| c.str("status") == "True") {
            summary.restarts = sidecar_restarts;
            summary.last_restart = sidecar_last;
            summary.add_containers(pod, conditions);
        }
        if pod.deletion_timestamp().is_some() {
            if pod.str_at(&["status", "reason"]) == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(phase, "Failed" | "Succeeded") {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    fn add_containers(&mut self, pod: &Node, conditions: &[Node]) {
        let mut running = false;
        let mut failure = String::new();
        for status in list(pod, &["status", "containerStatuses"]).iter().rev() {
            self.count_restarts(status);
            let waiting = status.str_at(&["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = status.at(&["state", "terminated"]) {
                self.reason = exit_reason(terminated);
                if int(terminated, &["exitCode"]) != 0 {
                    failure.clone_from(&self.reason);
                }
            } else if flag(status, &["ready"]) && status.at(&["state", "running"]).is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running
                && conditions
                    .iter()
                    .any(|c| c.str("type") == "Ready" && c.str("status") == "True")
            {
                self.reason = "Running".into();
            } else if !failure.is_empty() {
                self.reason = failure;
            } else if running {
                self.reason = "NotReady".into();
            }
        }
    }

    fn count_restarts(&mut self, status: &Node) {
        self.restarts += int(status, &["restartCount"]);
        later(&mut self.last_restart, ended(status));
    }
}

fn ended(status: &Node) -> &str {
    status.str_at(&["lastState", "terminated", "finishedAt"])
}

/// Timestamps of one form sort like the times they name.
fn later(last: &mut String, time: &str) {
    if last.as_str() < time {
        *last = time.to_owned();
    }
}

fn exit_reason(terminated: &Node) -> String {
    match (terminated.str("reason"), int(terminated, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", int(terminated, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn reason(pod: Node) -> String {
        Summary::of(&pod).reason
    }

    #[test]
    fn the_reason_is_what_matters_most() {
        assert_eq!(reason(node!({"status": {"phase": "Running"}})), "Running");
        let waiting = node!({"status": {"phase": "Pending", "containerStatuses": [
            {"name": "a", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}});
        assert_eq!(reason(waiting), "ImagePullBackOff");
        let init = node!({"spec": {"initContainers": [{"name": "i"}, {"name": "j"}]}, "status": {"phase": "Pending",
            "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {}}]}});
        assert_eq!(reason(init), "Init:1/2");
        let gone = node!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Running"}});
        assert_eq!(reason(gone), "Terminating");
    }

    #[test]
    fn grace_is_given_to_pods_that_run_somewhere() {
        let pod = |node_name: &str| node!({"spec": {"nodeName": node_name, "terminationGracePeriodSeconds": 30}});
        assert_eq!(
            Pods::new(&Peers::default()).grace_period_seconds(&pod("n"), None),
            Some(30)
        );
        assert_eq!(
            Pods::new(&Peers::default()).grace_period_seconds(&pod("n"), Some(5)),
            Some(5)
        );
        assert_eq!(
            Pods::new(&Peers::default()).grace_period_seconds(&pod("n"), Some(-1)),
            Some(1)
        );
        assert_eq!(
            Pods::new(&Peers::default()).grace_period_seconds(&pod(""), None),
            Some(0)
        );
    }

    #[test]
    fn addresses_agree() {
        let mut status = node!({"podIP": "1.2.3.4"});
        sync_addresses(&mut status, "podIP", "podIPs", "ip");
        assert_eq!(status, node!({"podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.4"}]}));
        let mut status = node!({"podIPs": [{"ip": "1.2.3.4"}]});
        sync_addresses(&mut status, "podIP", "podIPs", "ip");
        assert_eq!(status.str("podIP"), "1.2.3.4");
    }
}
