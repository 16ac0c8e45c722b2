//! Requested and limited resources of pods: defaults, sums, quality of service.
// PERFORMANCE: per-request path

use crate::value::list;
use fairlead_api::quantity::Quantity;
use fairlead_api::{Map, Node};
use std::collections::BTreeMap;

pub type Quantities = BTreeMap<String, Quantity>;

/// What is limited and not requested is requested up to the limit.
pub fn default_requests(container: &mut Node) {
    let Some(resources @ Node::Map(_)) = container.get_mut("resources") else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Node::as_map).cloned() else {
        return;
    };
    let requests = resources.make_at(&["requests"]).make_map();
    for (name, limit) in limits {
        if !requests.contains_key(&name) {
            requests.insert(name, limit);
        }
    }
}

/// A pod that declares resources as a whole gets what its containers imply (KEP-2837).
pub fn default_pod_level(spec: &mut Node) {
    let Some(declared) = spec.get("resources").filter(|r| r.as_map().is_some()).cloned() else {
        return;
    };
    let of = |node: &Node, key: &str| node.get(key).and_then(Node::as_map).cloned().unwrap_or_default();
    let (mut limits, mut requests) = (of(&declared, "limits"), of(&declared, "requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, limit) in aggregate(spec, "limits") {
        if is_huge_pages(&name) && !requests.contains_key(&name) && !limits.contains_key(&name) {
            limits.insert(name, Node::String(limit.canonical()));
        }
    }
    if !limits.is_empty() {
        for (name, request) in aggregate(spec, "requests") {
            if matches!(name.as_str(), "cpu" | "memory") && !requests.contains_key(&name) {
                requests.insert(name, Node::String(request.canonical()));
            }
        }
        for (name, limit) in limits.iter() {
            if (matches!(name.as_str(), "cpu" | "memory") || is_huge_pages(name)) && !requests.contains_key(name) {
                requests.insert(name.clone(), limit.clone());
            }
        }
    }
    if !limits.is_empty() {
        spec.set_at(&["resources", "limits"], limits);
    }
    if !requests.is_empty() {
        spec.set_at(&["resources", "requests"], requests);
    }
}

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// What all containers together need at most: the sum of those that run together, or more where an init container
/// needs more (KEP-753).
pub fn aggregate(spec: &Node, kind: &str) -> Quantities {
    let mut all = Quantities::new();
    for container in spec.list("containers") {
        add(&mut all, &quantities(container, kind));
    }
    let (mut sidecars, mut init) = (Quantities::new(), Quantities::new());
    for container in spec.list("initContainers") {
        let own = quantities(container, kind);
        let mut together = sidecars.clone();
        add(&mut together, &own);
        if container.str("restartPolicy") == "Always" {
            add(&mut all, &own);
            sidecars.clone_from(&together);
        }
        max(&mut init, together);
    }
    max(&mut all, init);
    all
}

fn quantities(container: &Node, kind: &str) -> Quantities {
    let list = container.at(&["resources", kind]).and_then(Node::as_map);
    parsed(list).collect()
}

fn parsed(list: Option<&Map>) -> impl Iterator<Item = (String, Quantity)> {
    let parse =
        |(name, value): (&fairlead_api::Key, &Node)| Some((name.to_string(), Quantity::parse(value.as_str()?).ok()?));
    list.into_iter().flat_map(Map::iter).filter_map(parse)
}

fn add(to: &mut Quantities, more: &Quantities) {
    for (name, quantity) in more {
        let sum = to
            .get(name)
            .map_or_else(|| quantity.clone(), |present| present.add(quantity));
        to.insert(name.clone(), sum);
    }
}

fn max(to: &mut Quantities, other: Quantities) {
    for (name, quantity) in other {
        match to.get(&name) {
            Some(present) if *present >= quantity => {}
            _ => {
                to.insert(name, quantity);
            }
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`: by the processor and memory of the containers, or of the pod as a whole.
pub fn qos_class(pod: &Node) -> &'static str {
    let relevant = |list: Option<&Map>| -> Quantities {
        parsed(list)
            .filter(|(name, q)| matches!(name.as_str(), "cpu" | "memory") && q.sign() > 0)
            .collect()
    };
    let whole = pod.at(&["spec", "resources"]).filter(|r| r.as_map().is_some());
    let holders: Vec<&Node> = match whole {
        Some(resources) => vec![resources],
        None => ["containers", "initContainers"]
            .into_iter()
            .flat_map(|key| list(pod, &["spec", key]))
            .map(|container| container.get("resources").unwrap_or(&Node::Null))
            .collect(),
    };
    let (mut requests, mut limits, mut guaranteed) = (Quantities::new(), Quantities::new(), true);
    for resources in holders {
        let limited = relevant(resources.get("limits").and_then(Node::as_map));
        // A pod that limits nothing as a whole is judged by its requests alone.
        if whole.is_none()
            || resources
                .get("limits")
                .and_then(Node::as_map)
                .is_some_and(|m| !m.is_empty())
        {
            guaranteed &= limited.len() == 2;
        }
        add(&mut limits, &limited);
        add(
            &mut requests,
            &relevant(resources.get("requests").and_then(Node::as_map)),
        );
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests.iter().all(|(name, request)| limits.get(name) == Some(request));
    if guaranteed && equal && requests.len() == limits.len() {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let pod = |resources: Node| {
            let mut pod = node!({"spec": {"containers": [{"name": "c"}]}});
            let containers = pod.at_mut(&["spec", "containers"]).unwrap().as_list_mut().unwrap();
            containers[0].set("resources", resources);
            pod
        };
        assert_eq!(qos_class(&pod(node!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(node!({"requests": {"cpu": "1"}}))), "Burstable");
        let both = node!({"cpu": "1", "memory": "1Gi"});
        let mut full = Node::map();
        full.set("limits", both.clone());
        full.set("requests", node!({"cpu": "1000m", "memory": "1024Mi"}));
        assert_eq!(qos_class(&pod(full)), "Guaranteed");
        assert_eq!(
            qos_class(&pod(node!({"requests": {"example.com/gpu": "1"}}))),
            "BestEffort"
        );
    }

    #[test]
    fn limits_become_requests() {
        let mut container =
            node!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}});
        default_requests(&mut container);
        assert_eq!(
            container.at(&["resources", "requests"]),
            Some(&node!({"cpu": "500m", "memory": "1Gi"}))
        );
    }

    #[test]
    fn init_containers_count_by_their_peak() {
        let spec = node!({"containers": [{"resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "3"}}}]});
        assert_eq!(aggregate(&spec, "requests")["cpu"].canonical(), "4");
    }
}
