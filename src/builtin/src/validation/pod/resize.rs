//! Resizing pods: the amounts of CPU and memory of their containers, and nothing else.

use super::super::at::At;
use super::super::{common, shown};
use super::{Leniency, annotations, validate_whole};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};

const SPEC: &str = "core.PodSpec";
const CONTAINER: &str = "core.Container";
const ONLY_COMPUTE: &str = "only cpu and memory resources are mutable";

/// `qos` is the class of a pod by its resources.
pub fn validate_resize(new: &Node, old: &Node, qos: fn(&Node) -> &'static str, errors: &mut FieldErrors) {
    let before = errors.len();
    common::finalizers(new, errors);
    validate_whole(new, &Leniency::of_pod(old), errors);
    let refusal = if old.annotations().is_some_and(|a| a.contains_key(annotations::MIRROR)) {
        "static pods cannot be resized"
    } else if old.str_at(&["spec", "os", "name"]) == "windows" {
        "windows pods cannot be resized"
    } else {
        ""
    };
    if !refusal.is_empty() {
        errors.truncate(before);
        errors.push(FieldError::forbidden(&FieldPath::root(), refusal));
        return;
    }
    let (new_root, old_root) = (At::root(new), At::root(old));
    let (spec, old_spec) = (new_root.part("spec"), old_root.part("spec"));
    let class = match old.str_at(&["status", "qosClass"]) {
        "" => qos(old),
        class => class,
    };
    if class != qos(new) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        spec.invalid("", new.str_at(&["status", "qosClass"]), detail, errors);
    }
    if !node_resizes(old) {
        spec.forbidden("", "Pod running on node without support for resize", errors);
    }
    let mut masked = spec.node.clone();
    pod_level(&mut masked, &spec, &old_spec, errors);
    let claims = crate::value::list(old, &["status", "nodeAllocatableResourceClaimStatuses"]);
    if !claims.is_empty() {
        let detail = "pods with node allocatable resource claims cannot be resized";
        spec.forbidden("", detail, errors);
    }
    if !same_order(&spec, &old_spec, errors) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (container, old) in spec.each(list).zip(old_spec.list(list)) {
            not_removed(&container, old, errors);
        }
    }
    containers(&mut masked, &spec, &old_spec, errors);
    init_containers(&mut masked, &spec, &old_spec, errors);
    if errors.len() == before && !shown::equal(SPEC, Some(&masked), Some(old_spec.node)) {
        spec.forbidden("", ONLY_COMPUTE, errors);
    }
}

/// Whether the node reports what running containers have, and so can change it; a pod that runs nowhere is fine.
fn node_resizes(pod: &Node) -> bool {
    let mut statuses = crate::value::list(pod, &["status", "containerStatuses"]).iter();
    let running = statuses.find(|status| status.at(&["state", "running"]).is_some_and(|r| !r.is_null()));
    running.is_none_or(|status| status.get("resources").is_some_and(|resources| !resources.is_null()))
}

fn pod_level(masked: &mut Node, spec: &At, old: &At, errors: &mut FieldErrors) {
    let amounts = |spec: &At| {
        let resources = spec.part("resources");
        resources.len("requests") + resources.len("limits")
    };
    if amounts(spec) + amounts(old) == 0 {
        return;
    }
    if old.has("resources") && !spec.has("resources") {
        spec.forbidden("resources", "pod-level resources cannot be removed", errors);
        return;
    }
    if let (Some(resources), Some(before)) = (spec.get("resources"), old.node.get("resources")) {
        for (list, what) in [("requests", "requests"), ("limits", "limits")] {
            if removed(resources.node, before, list) {
                let detail = format!("pod-level resource {what} cannot be removed");
                resources.forbidden(list, detail, errors);
            }
        }
    }
    let before = old.node.get("resources").filter(|resources| !resources.is_null());
    let mut resources = masked.get("resources").cloned().unwrap_or_else(Node::map);
    keep_compute(&mut resources, before);
    let empty = ["requests", "limits", "claims"].iter().all(|list| {
        resources
            .get(list)
            .is_none_or(|value| value.is_null() || value.is_zero())
    });
    if before.is_none() && empty {
        masked.remove("resources");
    } else {
        masked.set("resources", resources);
    }
    if !shown::equal("*core.ResourceRequirements", masked.get("resources"), before) {
        let detail = "only cpu and memory resources are mutable at pod-level";
        spec.forbidden("", detail, errors);
    }
}

fn same_order(spec: &At, old: &At, errors: &mut FieldErrors) -> bool {
    let before = errors.len();
    for list in ["containers", "initContainers"] {
        if spec.len(list) != old.len(list) {
            spec.forbidden(list, format!("{list} may not be added or removed on resize"), errors);
            continue;
        }
        for (container, old) in spec.each(list).zip(old.list(list)) {
            if container.str("name") != old.str("name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                container.forbidden("name", detail, errors);
            }
        }
    }
    errors.len() == before
}

fn not_removed(container: &At, old: &Node, errors: &mut FieldErrors) {
    let resources = container.part("resources");
    let empty = Node::map();
    let before = old.get("resources").unwrap_or(&empty);
    for list in ["requests", "limits"] {
        if removed(resources.node, before, list) {
            let detail = format!("resource {list} cannot be removed");
            resources.forbidden(list, detail, errors);
        }
    }
}

fn removed(new: &Node, old: &Node, list: &str) -> bool {
    let names = old
        .get(list)
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(fairlead_api::Map::keys);
    let has = |name: &str| new.at(&[list, name]).is_some();
    names.into_iter().any(|name| !has(name))
}

fn containers(masked: &mut Node, spec: &At, old: &At, errors: &mut FieldErrors) {
    let Some(Node::List(containers)) = masked.get_mut("containers") else {
        return;
    };
    for (container, old) in containers.iter_mut().zip(old.list("containers")) {
        keep_compute_of_container(container, old);
        if !shown::equal(CONTAINER, Some(container), Some(old)) {
            spec.forbidden("", ONLY_COMPUTE, errors);
        }
    }
}

fn init_containers(masked: &mut Node, spec: &At, old: &At, errors: &mut FieldErrors) {
    let Some(Node::List(containers)) = masked.get_mut("initContainers") else {
        return;
    };
    for ((container, at), old) in containers
        .iter_mut()
        .zip(spec.each("initContainers"))
        .zip(old.list("initContainers"))
    {
        let modified = !shown::equal(CONTAINER, Some(container), Some(old));
        keep_compute_of_container(container, old);
        if !shown::equal(CONTAINER, Some(container), Some(old)) {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            at.forbidden("", detail, errors);
        }
        if modified && container.str("restartPolicy") != "Always" {
            for _ in at
                .list("resizePolicy")
                .iter()
                .filter(|p| p.str("restartPolicy") == "RestartContainer")
            {
                let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                at.forbidden("", detail, errors);
            }
        }
    }
}

/// Claims are left out of the comparison, as upstream does.
fn keep_compute_of_container(container: &mut Node, old: &Node) {
    let mut resources = container.get("resources").cloned().unwrap_or_else(Node::map);
    keep_compute(&mut resources, old.get("resources"));
    resources.remove("claims");
    container.set("resources", resources);
}

/// Sets CPU and memory of requests and limits to what they were.
fn keep_compute(resources: &mut Node, old: Option<&Node>) {
    for list in ["requests", "limits"] {
        for name in ["cpu", "memory"] {
            match old.and_then(|old| old.at(&[list, name])) {
                Some(value) => resources.set_at(&[list, name], value.clone()),
                None => {
                    resources.remove_at(&[list, name]);
                }
            }
        }
    }
}
