//! Fields of features that are off by default: dropped from writes, unless the stored object already uses them.

use crate::value::{each, list, map};
use fairlead_api::{Map, Node};

/// Drops them from the pod specification at `path`.
pub fn drop_from_pod_spec(object: &mut Node, old: Option<&Node>, path: &[&str]) {
    let before = old.and_then(|old| old.at(path));
    let Some(spec @ Node::Map(_)) = object.at_mut(path) else {
        return;
    };
    if before.is_none_or(|spec| spec.get("schedulingGroup").is_none()) {
        spec.remove("schedulingGroup");
    }
    if !before.is_some_and(uses_stop_signals) {
        for containers in ["containers", "initContainers", "ephemeralContainers"] {
            each(spec, containers, drop_stop_signal);
        }
    }
    for source in ["clusterTrustBundle", "podCertificate"] {
        if !before.is_some_and(|spec| projects(spec, source)) {
            each(spec, "volumes", |volume| {
                if let Some(projected) = volume.get_mut("projected") {
                    each(projected, "sources", |projection| drop(projection.remove(source)));
                }
            });
        }
    }
}

fn uses_stop_signals(spec: &Node) -> bool {
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    containers
        .into_iter()
        .flat_map(|key| spec.list(key))
        .any(|c| c.at(&["lifecycle", "stopSignal"]).is_some())
}

fn drop_stop_signal(container: &mut Node) {
    if container.remove_at(&["lifecycle", "stopSignal"]).is_some() && map(container, &["lifecycle"]).is_none() {
        container.remove("lifecycle");
    }
}

fn projects(spec: &Node, source: &str) -> bool {
    spec.list("volumes")
        .iter()
        .flat_map(|v| list(v, &["projected", "sources"]))
        .any(|s| s.get(source).is_some())
}

/// Drops the member at `path`, unless the stored object has it.
pub fn drop_unless_used(object: &mut Node, old: Option<&Node>, path: &[&str]) {
    if old.is_none_or(|old| old.at(path).is_none()) {
        object.remove_at(path);
    }
}

/// Drops lists as attribute values and mappings to node resources from the devices of a slice.
pub fn drop_from_devices(slice: &mut Node, old: Option<&Node>) {
    const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
    const MAPPINGS: &str = "nodeAllocatableResourceMappings";
    let devices = |slice: &Node| list(slice, &["spec", "devices"]).to_vec();
    let before = old.map(devices).unwrap_or_default();
    let attributes = |device: &Node| {
        device
            .get("attributes")
            .and_then(Node::as_map)
            .cloned()
            .unwrap_or_default()
    };
    let lists = before
        .iter()
        .any(|d| attributes(d).values().any(|v| LISTS.iter().any(|l| v.get(l).is_some())));
    let mappings = before.iter().any(|d| d.get(MAPPINGS).is_some());
    each(slice.make_at(&["spec"]), "devices", |device| {
        if !mappings {
            device.remove(MAPPINGS);
        }
        let attributes = device
            .get_mut("attributes")
            .and_then(Node::as_map_mut)
            .filter(|_| !lists);
        for (_, value) in attributes.into_iter().flat_map(Map::iter_mut) {
            for list in LISTS {
                value.remove(list);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn what_is_in_use_stays() {
        let pod = node!({"spec": {"schedulingGroup": {"podGroupName": "g"}, "containers": [
            {"name": "c", "lifecycle": {"stopSignal": "SIGTERM"}}]}});
        let mut fresh = pod.clone();
        drop_from_pod_spec(&mut fresh, None, &["spec"]);
        assert_eq!(fresh, node!({"spec": {"containers": [{"name": "c"}]}}));
        let mut updated = pod.clone();
        drop_from_pod_spec(&mut updated, Some(&pod), &["spec"]);
        assert_eq!(updated, pod);
    }
}
