//! How pods count: compute resources while they run, and as objects as long as they are there.
// PERFORMANCE: per-request path

use super::{number, totals};
use crate::pod::{self, Amounts};
use fairlead_api::{Node, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// Quotas for these want every container to say what it needs.
const REQUIRED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

const HUGE_PAGES: &str = "hugepages-";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

pub fn matches(resource: &str) -> bool {
    let requested = resource.strip_prefix("requests.");
    NAMES.contains(&resource)
        || resource.starts_with(HUGE_PAGES)
        || requested
            .is_some_and(|name| name.starts_with(HUGE_PAGES) || name.starts_with(DEVICE_CLASS) || !is_native(resource))
}

/// Whether a name is Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// What a pod uses at `now`.
pub fn usage(pod: &Node, now: Timestamp) -> Amounts {
    let mut amounts = Amounts::new();
    amounts.insert("count/pods".into(), number(1));
    if is_over(pod, now) {
        return amounts;
    }
    let (requests, limits) = totals(pod);
    amounts.extend(charged(&requests, &limits));
    amounts
}

/// Whether a pod has ended, or should have.
fn is_over(pod: &Node, now: Timestamp) -> bool {
    if matches!(pod.str_at(&["status", "phase"]), "Failed" | "Succeeded") {
        return true;
    }
    let deleted = pod.deletion_timestamp().and_then(Timestamp::parse);
    let grace = pod
        .at(&["metadata", "deletionGracePeriodSeconds"])
        .and_then(Node::as_i64);
    match (deleted, grace) {
        (Some(deleted), Some(grace)) => now.0 > deleted.0 + i128::from(grace) * 1_000_000_000,
        _ => false,
    }
}

/// The names under which requests and limits are charged.
fn charged(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut amounts = Amounts::new();
    amounts.insert("pods".into(), number(1));
    for (name, amount) in requests {
        let compute = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES);
        if compute {
            amounts.insert(name.clone(), amount.clone());
        }
        let extended = !is_native(name) && !name.starts_with("requests.") || name.starts_with(DEVICE_CLASS);
        if compute || extended {
            amounts.insert(format!("requests.{name}"), amount.clone());
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            amounts.insert(format!("limits.{name}"), amount.clone());
        }
    }
    amounts
}

/// COMPAT: a quota for cpu or memory wants every container to name them, unless the pod as a whole does.
pub fn require(limited: &[&str], pod: &Node) -> Result<(), String> {
    let spec = pod.get("spec").unwrap_or(&Node::Null);
    let whole = ["requests", "limits"]
        .iter()
        .filter_map(|kind| spec.at(&["resources", kind])?.as_map());
    if whole
        .into_iter()
        .flat_map(|amounts| amounts.keys())
        .any(|name| pod::pod_level(name))
    {
        return Ok(());
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.list("containers").iter().chain(spec.list("initContainers")) {
        let said = charged(
            &pod::amounts(container.at(&["resources", "requests"])),
            &pod::amounts(container.at(&["resources", "limits"])),
        );
        for name in limited
            .iter()
            .filter(|name| REQUIRED.contains(name) && !said.contains_key(**name))
        {
            missing.entry(name).or_default().insert(container.str("name"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let one = |(name, containers): (&str, BTreeSet<&str>)| {
        format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
    };
    Err(format!(
        "must specify {}",
        missing.into_iter().map(one).collect::<Vec<_>>().join("; ")
    ))
}

/// Whether nothing in a pod asks for cpu or memory.
pub fn is_best_effort(pod: &Node) -> bool {
    let class = pod.str_at(&["status", "qosClass"]);
    if !class.is_empty() {
        return class == "BestEffort";
    }
    let spec = pod.get("spec").unwrap_or(&Node::Null);
    let asks = |resources: &Node| {
        ["requests", "limits"].iter().any(|kind| {
            let amounts = pod::amounts(resources.get(kind));
            amounts
                .iter()
                .any(|(name, amount)| matches!(name.as_str(), "cpu" | "memory") && amount.sign() > 0)
        })
    };
    match spec.get("resources").filter(|resources| !resources.is_null()) {
        Some(resources) => !asks(resources),
        None => {
            let mut containers = spec.list("containers").iter().chain(spec.list("initContainers"));
            !containers.any(|container| container.get("resources").is_some_and(asks))
        }
    }
}

/// Whether a pod's affinity reaches into other namespaces.
pub fn crosses_namespaces(pod: &Node) -> bool {
    let crosses = |term: &Node| !term.list("namespaces").is_empty() || term.get("namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let Some(affinity) = pod.at(&["spec", "affinity", kind]) else {
            return false;
        };
        affinity
            .list("requiredDuringSchedulingIgnoredDuringExecution")
            .iter()
            .any(crosses)
            || affinity
                .list("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| weighted.get("podAffinityTerm").is_some_and(crosses))
    })
}
