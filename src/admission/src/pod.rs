//! Readers of pods that several plugins share: containers, and what a pod asks for altogether.
// PERFORMANCE: per-request path

use fairlead_api::quantity::Quantity;
use fairlead_api::{Map, Node};
use std::collections::BTreeMap;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// The fields of a pod's spec that hold containers.
pub const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod's spec, with the field each is in.
pub fn containers(spec: &Node) -> impl Iterator<Item = (&'static str, &Node)> {
    CONTAINERS
        .iter()
        .flat_map(|field| spec.list(field).iter().map(|container| (*field, container)))
}

pub fn is_mirror(pod: &Node) -> bool {
    pod.annotations()
        .is_some_and(|annotations| annotations.contains_key("kubernetes.io/config.mirror"))
}

/// The amounts of a resource list; what is no quantity is left out.
pub fn amounts(list: Option<&Node>) -> Amounts {
    let entries = list.and_then(Node::as_map).into_iter().flat_map(Map::iter);
    entries
        .filter_map(|(name, amount)| Some((name.to_string(), quantity(amount)?)))
        .collect()
}

/// A quantity as JSON has it: a string, or a number.
pub fn quantity(node: &Node) -> Option<Quantity> {
    match node {
        Node::String(text) => Quantity::parse(text).ok(),
        Node::Int(number) => Some(Quantity::new(*number, fairlead_api::quantity::Format::DecimalSi)),
        _ => None,
    }
}

pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match to.get_mut(name) {
            Some(sum) => *sum = sum.add(amount),
            None => {
                to.insert(name.clone(), amount.clone());
            }
        }
    }
}

/// Whether overhead and the state of a resize count, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The spec without overhead, as LimitRanges see it.
    Spec,
    /// Spec and overhead.
    SpecAndOverhead,
    /// Spec and overhead, and what has been given to containers where that is more.
    Everything,
}

/// What a pod asks for altogether: `kind` is `requests` or `limits`.
///
/// Source of the rules: kubernetes/component-helpers resource/helpers.go.
pub fn total(pod: &Node, kind: &str, count: Count) -> Amounts {
    let Some(spec) = pod.get("spec") else {
        return Amounts::new();
    };
    let of = |container: &Node, statuses: &str| {
        let own = amounts(container.at(&["resources", kind]));
        match count {
            Count::Everything => with_status(pod, container, statuses, kind, own),
            _ => own,
        }
    };
    let mut sum = Amounts::new();
    for container in spec.list("containers") {
        add(&mut sum, &of(container, "containerStatuses"));
    }
    let mut sidecars = Amounts::new();
    let mut highest = Amounts::new();
    for container in spec.list("initContainers") {
        let own = of(container, "initContainerStatuses");
        if container.str("restartPolicy") == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut highest, &sidecars);
        } else {
            let mut at_once = own;
            add(&mut at_once, &sidecars);
            raise(&mut highest, &at_once);
        }
    }
    raise(&mut sum, &highest);
    for (name, amount) in amounts(spec.at(&["resources", kind])) {
        if pod_level(&name) {
            sum.insert(name, amount);
        }
    }
    if count != Count::Spec {
        let overhead = amounts(spec.get("overhead"));
        if kind == "requests" {
            add(&mut sum, &overhead);
        } else {
            for (name, amount) in overhead {
                if let Some(limit) = sum.get_mut(&name).filter(|limit| !limit.is_zero()) {
                    *limit = limit.add(&amount);
                }
            }
        }
    }
    sum
}

/// Whether a pod's own resources name this one instead of its containers.
pub fn pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// The larger of what a container asks for and what it has been given, while it is being resized.
fn with_status(pod: &Node, container: &Node, statuses: &str, kind: &str, own: Amounts) -> Amounts {
    let statuses = pod.get("status").map_or(&[][..], |status| status.list(statuses));
    let Some(status) = statuses
        .iter()
        .find(|status| status.str("name") == container.str("name"))
    else {
        return own;
    };
    let given = amounts(status.at(&["resources", kind]));
    let mut most = own;
    raise(&mut most, &given);
    if kind == "requests" {
        raise(&mut most, &amounts(status.get("allocatedResources")));
    }
    most
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match to.get_mut(name) {
            Some(most) if *amount > *most => *most = amount.clone(),
            Some(_) => {}
            None => {
                to.insert(name.clone(), amount.clone());
            }
        }
    }
}

/// Whether anything in a pod's spec names a Secret.
pub fn references_secrets(spec: &Node) -> bool {
    let named = |node: Option<&Node>, field: &str| node.is_some_and(|node| !node.str(field).is_empty());
    let by_container = |container: &Node| {
        container
            .list("envFrom")
            .iter()
            .any(|env| named(env.get("secretRef"), "name"))
            || container
                .list("env")
                .iter()
                .any(|env| named(env.at(&["valueFrom", "secretKeyRef"]), "name"))
    };
    let by_volume = |volume: &Node| {
        const WITH_REFERENCE: [&str; 7] = ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"];
        let sources = volume
            .get("projected")
            .map_or(&[][..], |projected| projected.list("sources"));
        named(volume.get("azureFile"), "secretName")
            || named(volume.get("secret"), "secretName")
            || named(volume.at(&["csi", "nodePublishSecretRef"]), "name")
            || WITH_REFERENCE
                .iter()
                .any(|source| named(volume.at(&[source, "secretRef"]), "name"))
            || sources.iter().any(|source| named(source.get("secret"), "name"))
    };
    spec.list("imagePullSecrets")
        .iter()
        .any(|secret| !secret.str("name").is_empty())
        || containers(spec).any(|(_, container)| by_container(container))
        || spec.list("volumes").iter().any(by_volume)
}

/// Whether anything in a pod's spec names a ConfigMap.
pub fn references_config_maps(spec: &Node) -> bool {
    let named = |node: Option<&Node>| node.is_some_and(|node| !node.str("name").is_empty());
    let by_container = |container: &Node| {
        container
            .list("envFrom")
            .iter()
            .any(|env| named(env.get("configMapRef")))
            || container
                .list("env")
                .iter()
                .any(|env| named(env.at(&["valueFrom", "configMapKeyRef"])))
    };
    let by_volume = |volume: &Node| {
        let sources = volume
            .get("projected")
            .map_or(&[][..], |projected| projected.list("sources"));
        named(volume.get("configMap")) || sources.iter().any(|source| named(source.get("configMap")))
    };
    containers(spec).any(|(_, container)| by_container(container)) || spec.list("volumes").iter().any(by_volume)
}
