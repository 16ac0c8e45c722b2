//! Priority: a pod's priority comes from its class; one class at most is everybody's.
// PERFORMANCE: per-request path

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;
use std::sync::Arc;

#[derive(Default)]
pub struct Priority;

const GROUP: &str = "scheduling.k8s.io";

impl Plugin for Priority {
    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        (attributes.creates() || attributes.updates())
            && (attributes.is_main("", "pods") || attributes.is_main(GROUP, "priorityclasses"))
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(match attributes.resource.resource.as_str() {
            "pods" if attributes.creates() => resolve(attributes, cluster),
            "pods" => {
                keep(attributes);
                Ok(())
            }
            _ => Ok(()),
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(match attributes.resource.resource.as_str() {
            "priorityclasses" => check_class(attributes, cluster),
            _ => Ok(()),
        })
    }
}

/// What clients that do not know these fields leave out of an update stays as it was.
fn keep(attributes: &mut Attributes) {
    for field in ["priority", "preemptionPolicy"] {
        let path = ["spec", field];
        if attributes.object.at(&path).is_none_or(Node::is_null)
            && let Some(old) = attributes.old_object.at(&path)
        {
            attributes.object.set_at(&path, old.clone());
        }
    }
}

fn resolve(attributes: &mut Attributes, cluster: &Cluster) -> StatusResult<()> {
    let named = attributes.object.str_at(&["spec", "priorityClassName"]);
    let class = if named.is_empty() {
        default_class(cluster)
    } else {
        let class = cluster.lookup.get(GROUP, "priorityclasses", "", named);
        let missing = || attributes.forbidden(format_args!("no PriorityClass with name {named} was found"));
        Some(class.ok_or_else(missing)?)
    };
    let (value, policy) = match &class {
        Some(class) => (value(class), class.str("preemptionPolicy")),
        None => (0, "PreemptLowerPriority"),
    };
    let given = attributes.object.at(&["spec", "priority"]).and_then(Node::as_i64);
    if let Some(given) = given.filter(|given| *given != value) {
        return Err(attributes.forbidden(format_args!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        )));
    }
    let given = attributes.object.at(&["spec", "preemptionPolicy"]).and_then(Node::as_str);
    if let Some(given) = given.filter(|given| !policy.is_empty() && *given != policy) {
        return Err(attributes.forbidden(format_args!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        )));
    }
    let spec = attributes.object.make_at(&["spec"]);
    if let Some(class) = &class {
        spec.set("priorityClassName", class.name());
    }
    spec.set("priority", value);
    if !policy.is_empty() {
        spec.set("preemptionPolicy", policy);
    }
    Ok(())
}

fn check_class(attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    if !is_default(&attributes.object) {
        return Ok(());
    }
    match default_class(cluster) {
        Some(other) if attributes.creates() || other.name() != attributes.object.name() => {
            let name = other.name();
            Err(attributes.forbidden(format_args!(
                "PriorityClass {name} is already marked as default. Only one default can exist"
            )))
        }
        _ => Ok(()),
    }
}

/// The class of pods that name none. Of several, made at the same time, the lowest.
fn default_class(cluster: &Cluster) -> Option<Arc<Node>> {
    let classes = cluster.lookup.list(GROUP, "priorityclasses", "");
    classes.into_iter().filter(|class| is_default(class)).min_by_key(|class| value(class))
}

fn is_default(class: &Node) -> bool {
    class.get("globalDefault").and_then(Node::as_bool) == Some(true)
}

fn value(class: &Node) -> i64 {
    class.get("value").and_then(Node::as_i64).unwrap_or(0)
}
