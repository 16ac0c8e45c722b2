//! LimitRanger: what the LimitRanges of a namespace give to containers, and what they allow.
// PERFORMANCE: per-request path

use super::{Plugin, now};
use crate::pod::{self, Amounts, Count};
use crate::{Attributes, Cluster};
use fairlead_api::quantity::Quantity;
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct LimitRanger;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

impl Plugin for LimitRanger {
    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        if attributes.is("", "pods") {
            return match attributes.subresource.as_str() {
                "" => attributes.creates(),
                "resize" => attributes.updates(),
                _ => false,
            };
        }
        attributes.is_main("", "persistentvolumeclaims") && (attributes.creates() || attributes.updates())
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        if attributes.is("", "pods") && attributes.old_object.deletion_timestamp().is_none() {
            for range in cluster.lookup.list("", "limitranges", &attributes.namespace) {
                apply_defaults(&range, &mut attributes.object);
            }
        }
        now(Ok(()))
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        if attributes.old_object.deletion_timestamp().is_some() {
            return now(Ok(()));
        }
        for range in cluster.lookup.list("", "limitranges", &attributes.namespace) {
            let violations = match attributes.resource.resource.as_str() {
                "pods" => check_pod(&range, &attributes.object),
                _ => check_claim(&range, &attributes.object),
            };
            if !violations.is_empty() {
                return now(Err(attributes.forbidden(aggregate(violations))));
            }
        }
        now(Ok(()))
    }
}

/// One error as it is, several in brackets, each once.
pub(crate) fn aggregate(mut errors: Vec<String>) -> String {
    let mut seen = std::collections::HashSet::new();
    errors.retain(|error| seen.insert(error.clone()));
    match errors.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn limits<'a>(range: &'a Node, kind: &'a str) -> impl Iterator<Item = &'a Node> {
    let limits = range.get("spec").map_or(&[][..], |spec| spec.list("limits"));
    limits.iter().filter(move |limit| limit.str("type") == kind)
}

// === defaults ===

fn apply_defaults(range: &Node, pod: &mut Node) {
    let (mut requests, mut most) = (Amounts::new(), Amounts::new());
    for limit in limits(range, "Container") {
        requests.extend(pod::amounts(limit.get("defaultRequest")));
        most.extend(pod::amounts(limit.get("default")));
    }
    if requests.is_empty() && most.is_empty() {
        return;
    }
    let mut notes = Vec::new();
    for (field, kind) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(Node::List(containers)) = pod.at_mut(&["spec", field]) else {
            continue;
        };
        for container in containers {
            let name = container.str("name").to_owned();
            let set_limits = fill(container, "limits", &most);
            let set_requests = fill(container, "requests", &requests);
            for (set, what) in [(set_requests, "request"), (set_limits, "limit")] {
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {kind} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.set_at(&["metadata", "annotations", ANNOTATION], note);
    }
}

/// Sets what a container leaves open, and answers which resources those were.
fn fill(container: &mut Node, field: &str, defaults: &Amounts) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if container.at(&["resources", field, name]).is_none() {
            container.set_at(&["resources", field, name], amount.canonical());
            set.push(name.clone());
        }
    }
    set
}

// === rules ===

struct Asked {
    requests: Amounts,
    limits: Amounts,
}

fn check_pod(range: &Node, pod: &Node) -> Vec<String> {
    let mut errors = Vec::new();
    let all = range.get("spec").map_or(&[][..], |spec| spec.list("limits"));
    for limit in all {
        match limit.str("type") {
            "Container" => {
                for field in ["containers", "initContainers"] {
                    for container in pod.get("spec").map_or(&[][..], |spec| spec.list(field)) {
                        let asked = Asked {
                            requests: pod::amounts(container.at(&["resources", "requests"])),
                            limits: pod::amounts(container.at(&["resources", "limits"])),
                        };
                        check(limit, "Container", &asked, &mut errors);
                    }
                }
            }
            "Pod" => {
                let asked = Asked {
                    requests: pod::total(pod, "requests", Count::Spec),
                    limits: pod::total(pod, "limits", Count::Spec),
                };
                check(limit, "Pod", &asked, &mut errors);
            }
            _ => {}
        }
    }
    errors
}

fn check(limit: &Node, kind: &str, asked: &Asked, errors: &mut Vec<String>) {
    for (name, enforced) in pod::amounts(limit.get("min")) {
        errors.extend(below_min(kind, &name, &enforced, asked));
    }
    for (name, enforced) in pod::amounts(limit.get("max")) {
        errors.extend(above_max(kind, &name, &enforced, asked));
    }
    for (name, enforced) in pod::amounts(limit.get("maxLimitRequestRatio")) {
        errors.extend(above_ratio(kind, &name, &enforced, asked));
    }
}

fn check_claim(range: &Node, claim: &Node) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let asked = Asked {
        requests: pod::amounts(claim.at(&["spec", "resources", "requests"])),
        limits: Amounts::new(),
    };
    let mut errors = Vec::new();
    for limit in limits(range, KIND) {
        for (name, enforced) in pod::amounts(limit.get("min")) {
            errors.extend(below_min(KIND, &name, &enforced, &asked));
        }
        for (name, enforced) in pod::amounts(limit.get("max")) {
            let start = format!("maximum {name} usage per {KIND} is {enforced}");
            match asked.requests.get(&name) {
                None => errors.push(format!("{start}.  No request is specified")),
                Some(request) if *request > enforced => errors.push(format!("{start}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    errors
}

fn below_min(kind: &str, name: &str, enforced: &Quantity, asked: &Asked) -> Option<String> {
    let start = format!("minimum {name} usage per {kind} is {enforced}");
    let Some(request) = asked.requests.get(name) else {
        return Some(format!("{start}.  No request is specified"));
    };
    if less(request, enforced) {
        return Some(format!("{start}, but request is {request}"));
    }
    let limit = asked.limits.get(name).filter(|limit| less(limit, enforced))?;
    Some(format!("{start}, but limit is {limit}"))
}

fn above_max(kind: &str, name: &str, enforced: &Quantity, asked: &Asked) -> Option<String> {
    let start = format!("maximum {name} usage per {kind} is {enforced}");
    let Some(limit) = asked.limits.get(name) else {
        return Some(format!("{start}.  No limit is specified"));
    };
    if less(enforced, limit) {
        return Some(format!("{start}, but limit is {limit}"));
    }
    let request = asked.requests.get(name).filter(|request| less(enforced, request))?;
    Some(format!("{start}, but request is {request}"))
}

fn above_ratio(kind: &str, name: &str, enforced: &Quantity, asked: &Asked) -> Option<String> {
    let start = format!("{name} max limit to request ratio per {kind} is {enforced}");
    let present = |amounts: &Amounts| amounts.get(name).filter(|amount| measure(amount) != 0).cloned();
    let Some(request) = present(&asked.requests) else {
        return Some(format!("{start}, but no request is specified or request is 0"));
    };
    let Some(limit) = present(&asked.limits) else {
        return Some(format!("{start}, but no limit is specified or limit is 0"));
    };
    let ratio = measure(&limit) as f64 / measure(&request) as f64;
    (ratio > measure(enforced) as f64 / 1000.0).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
}

/// In thousandths, rounded up, as upstream compares.
fn measure(amount: &Quantity) -> i128 {
    match amount.value() {
        large if large > i64::MAX / 1000 => i128::from(large) * 1000,
        _ => i128::from(amount.milli_value()),
    }
}

fn less(one: &Quantity, other: &Quantity) -> bool {
    measure(one) < measure(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, create, run};
    use fairlead_api::node;

    fn admit(limits: Node, containers: Node) -> (Result<(), String>, Node) {
        let mut range = node!({"metadata": {"name": "r", "namespace": "ns"}});
        range.set_at(&["spec", "limits"], limits);
        let mut pod = node!({"kind": "Pod", "metadata": {"name": "p"}});
        pod.set_at(&["spec", "containers"], containers);
        let mut request = create("pods", pod);
        let cluster = Fake::default().with("limitranges", range).cluster();
        (run(&LimitRanger, &mut request, &cluster), request.object)
    }

    #[test]
    fn what_a_container_leaves_open_is_filled_and_noted() {
        let limits = node!([{"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}}]);
        let (result, pod) = admit(limits, node!([{"name": "c", "resources": {"limits": {"cpu": "3"}}}]));
        assert_eq!(result, Ok(()));
        let resources = pod.at(&["spec"]).unwrap().list("containers")[0].get("resources").cloned();
        assert_eq!(resources, Some(node!({"limits": {"cpu": "3", "memory": "1Gi"}, "requests": {"cpu": "1"}})));
        assert_eq!(
            pod.str_at(&["metadata", "annotations", ANNOTATION]),
            "LimitRanger plugin set: cpu request for container c; memory limit for container c"
        );
    }

    #[test]
    fn all_violations_are_told() {
        let limits = node!([{"type": "Container", "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}}]);
        let (result, _) = admit(limits, node!([{"name": "c", "resources": {"limits": {"cpu": "5"}, "requests": {"cpu": "500m"}}}]));
        assert_eq!(
            result.unwrap_err(),
            "pods \"p\" is forbidden: [minimum cpu usage per Container is 1, but request is 500m, cpu max limit to \
             request ratio per Container is 2, but provided ratio is 10.000000]"
        );
    }
}
