//! PodSecurity: pods keep to the level that the labels of their namespace ask for; workloads are warned about.
//!
//! Source of the rules: kubernetes/pod-security-admission (Pod Security Standards).
// PERFORMANCE: per-request path

mod baseline;
mod check;
mod policy;
mod restricted;

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use check::{Subject, Violation, evaluate};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, Status, StatusResult};
use futures_util::future::BoxFuture;
use policy::{Level, LevelVersion, Policy};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct PodSecurity;

/// The subresources of pods that do not carry a pod.
const NOT_PODS: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// How many pods are looked at when a namespace gets a stricter level.
const MOST_PODS: usize = 3000;

const AUDIT_PREFIX: &str = "pod-security.kubernetes.io/";

impl Plugin for PodSecurity {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        if !attributes.creates() && !attributes.updates() {
            return false;
        }
        if attributes.is("", "pods") {
            return !NOT_PODS.contains(&attributes.subresource.as_str());
        }
        attributes.is_main("", "namespaces") || attributes.subresource.is_empty() && template_path(attributes).is_some()
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        if attributes.is("", "namespaces") {
            return now(check_namespace(attributes, cluster));
        }
        let is_pod = attributes.is("", "pods");
        let Some(namespace) = cluster.lookup.get("", "namespaces", "", &attributes.namespace) else {
            let why = format!("failed to lookup namespace {}", go_quote(&attributes.namespace));
            return now(if is_pod { Err(Status::internal(why)) } else { Ok(()) });
        };
        let (policy, errors) = Policy::of(namespace.labels());
        let quiet = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        if errors.is_empty() && quiet && (!is_pod || policy.enforce.level == Level::Privileged) {
            if is_pod {
                annotate(attributes, "enforce-policy", policy.enforce.to_string());
            }
            return now(Ok(()));
        }
        if is_pod && attributes.updates() && !is_significant(&attributes.object, &attributes.old_object) {
            return now(Ok(()));
        }
        if !errors.is_empty() {
            let text = errors.iter().map(ToString::to_string).collect();
            let why = super::limit_ranger::aggregate(text);
            annotate(attributes, "error", format!("Failed to parse policy: {why}"));
        }
        now(check_pod(attributes, policy, is_pod))
    }
}

fn annotate(attributes: &mut Attributes, key: &str, value: String) {
    attributes.audit.push((format!("{AUDIT_PREFIX}{key}"), value));
}

/// Where a workload keeps its pod template.
fn template_path(attributes: &Attributes) -> Option<&'static [&'static str]> {
    match (attributes.resource.group.as_str(), attributes.resource.resource.as_str()) {
        ("", "podtemplates") => Some(&["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

fn check_pod(attributes: &mut Attributes, policy: Policy, is_pod: bool) -> StatusResult<()> {
    let pod = match template_path(attributes) {
        Some(path) if !is_pod => attributes.object.at(path),
        _ => Some(&attributes.object),
    };
    let Some(pod) = pod.filter(|pod| !pod.is_null()) else {
        return Ok(());
    };
    let detail = |wanted: LevelVersion| detail(&evaluate(wanted, &Subject::new(pod)));
    let enforced = is_pod.then(|| detail(policy.enforce)).flatten();
    let audited = detail(policy.audit);
    let warned = if enforced.is_none() { detail(policy.warn) } else { None };
    if is_pod {
        annotate(attributes, "enforce-policy", policy.enforce.to_string());
    }
    if let Some(detail) = audited {
        let value = format!("would violate PodSecurity \"{}\": {detail}", policy.audit);
        annotate(attributes, "audit-violations", value);
    }
    if let Some(detail) = warned {
        let warning = format!("would violate PodSecurity \"{}\": {detail}", policy.warn);
        attributes.warnings.push(warning);
    }
    match enforced {
        None => Ok(()),
        Some(detail) => {
            let why = format!("violates PodSecurity \"{}\": {detail}", policy.enforce);
            Err(Status::forbidden(&attributes.group_resource(), &attributes.name, why))
        }
    }
}

/// All violations in one text; `None` where there are none.
fn detail(violations: &[Violation]) -> Option<String> {
    let one = |violation: &Violation| format!("{} ({})", violation.reason, violation.detail);
    (!violations.is_empty()).then(|| violations.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Whether an update changes what a pod runs.
fn is_significant(pod: &Node, old: &Node) -> bool {
    let list = |pod: &'_ Node, field: &str| -> Vec<(String, String)> {
        let containers = pod.get("spec").map_or(&[][..], |spec| spec.list(field));
        containers.iter().map(|c| (c.str("name").to_owned(), c.str("image").to_owned())).collect()
    };
    let images = |field: &str, pod: &Node| list(pod, field).into_iter().map(|(_, image)| image).collect::<Vec<_>>();
    if ["containers", "initContainers"].iter().any(|field| images(field, pod) != images(field, old)) {
        return true;
    }
    let before = list(old, "ephemeralContainers");
    list(pod, "ephemeralContainers").iter().any(|container| !before.contains(container))
}

// === namespaces ===

fn check_namespace(attributes: &mut Attributes, cluster: &Cluster) -> StatusResult<()> {
    let (new, errors) = Policy::of(attributes.object.labels());
    let (old, old_errors) = Policy::of(attributes.old_object.labels());
    if !errors.is_empty() && (attributes.creates() || old_errors != errors) {
        let kind = fairlead_api::GroupKind::new(&attributes.kind.group, &attributes.kind.kind);
        return Err(Status::invalid(&kind, &attributes.name, &errors));
    }
    let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
    if attributes.creates() || new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let warnings = check_existing(cluster, attributes.object.name(), new.enforce);
    attributes.warnings.extend(warnings);
    Ok(())
}

/// Warns of the pods that are there already and break a namespace's new level.
fn check_existing(cluster: &Cluster, namespace: &str, enforce: LevelVersion) -> Vec<String> {
    let mut pods = cluster.lookup.list("", "pods", namespace);
    // One of every controller first: its siblings are the same.
    let mut seen = std::collections::HashSet::new();
    pods.sort_by_cached_key(|pod| {
        let is_controller = |owner: &&Node| owner.get("controller").and_then(Node::as_bool) == Some(true);
        let owner = pod.owner_references().iter().find(is_controller);
        owner.is_some_and(|owner| !seen.insert(owner.str("uid").to_owned()))
    });
    let total = pods.len();
    pods.truncate(MOST_PODS);
    // By what is wrong: the first pod's name, and how many there are.
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in &pods {
        let violations = evaluate(enforce, &Subject::new(pod));
        if violations.is_empty() {
            continue;
        }
        let reasons = violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ");
        let entry = found.entry(reasons).or_insert_with(|| (pod.name().to_owned(), 0));
        entry.1 += 1;
        if pod.name() < entry.0.as_str() {
            entry.0 = pod.name().to_owned();
        }
    }
    let mut warnings = Vec::new();
    if pods.len() < total {
        let checked = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        let namespace = go_quote(namespace);
        warnings.push(format!(
            "existing pods in namespace {namespace} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut by_pod: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    by_pod.sort();
    warnings.extend(by_pod);
    warnings
}
