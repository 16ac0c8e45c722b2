//! RuntimeClass: what a pod's runtime class says about overhead and nodes becomes part of the pod.

use super::Plugin;
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::quantity::Quantity;
use fairlead_api::{Map, Node, Status, StatusResult};
use futures_util::future::BoxFuture;
use std::sync::Arc;

#[derive(Default)]
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        let spec = attributes.object.get("spec");
        attributes.creates()
            && attributes.is_main("", "pods")
            && spec.is_some_and(|spec| spec.get("runtimeClassName").is_some() || spec.get("overhead").is_some())
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            if let Some(class) = class(attributes, cluster).await? {
                set_overhead(attributes, &class)?;
                set_scheduling(attributes, &class)?;
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let class = class(attributes, cluster).await?;
            let defined = class.as_deref().and_then(overhead);
            let given = attributes.object.at(&["spec", "overhead"]);
            match defined {
                Some(defined) if same(given, defined) => Ok(()),
                Some(_) => Err(attributes.forbidden(MISMATCH)),
                None if given.is_none_or(Node::is_null) => Ok(()),
                None => Err(attributes.forbidden(
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
                )),
            }
        })
    }
}

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

async fn class(attributes: &Attributes, cluster: &Cluster) -> StatusResult<Option<Arc<Node>>> {
    let Some(name) = attributes.object.at(&["spec", "runtimeClassName"]).and_then(Node::as_str) else {
        return Ok(None);
    };
    if name.is_empty() {
        // COMPAT: upstream's client refuses to ask for it, which is a failure without a reason.
        return Err(Status::new(500, "", "resource name may not be empty"));
    }
    match cluster.find("node.k8s.io", "runtimeclasses", "", name).await {
        Some(class) => Ok(Some(class)),
        None => {
            let name = go_quote(name);
            Err(attributes.forbidden(format_args!("pod rejected: RuntimeClass {name} not found")))
        }
    }
}

/// `None` where the class says nothing about overhead.
fn overhead(class: &Node) -> Option<&Node> {
    let overhead = class.get("overhead").filter(|overhead| !overhead.is_null())?;
    Some(overhead.get("podFixed").unwrap_or(&Node::Null))
}

fn same(given: Option<&Node>, defined: &Node) -> bool {
    let amounts = |node: Option<&Node>| -> Vec<(String, Option<Quantity>)> {
        let entries = node.and_then(Node::as_map).into_iter().flat_map(Map::iter);
        entries.map(|(name, amount)| (name.to_string(), amount.as_str().and_then(|a| Quantity::parse(a).ok()))).collect()
    };
    amounts(given) == amounts(Some(defined))
}

fn set_overhead(attributes: &mut Attributes, class: &Node) -> StatusResult<()> {
    let Some(defined) = overhead(class) else {
        return Ok(());
    };
    let given = attributes.object.at(&["spec", "overhead"]);
    if given.is_some_and(|given| !given.is_zero()) && !same(given, defined) {
        return Err(attributes.forbidden(MISMATCH));
    }
    if !defined.is_null() {
        attributes.object.set_at(&["spec", "overhead"], defined.clone());
    }
    Ok(())
}

fn set_scheduling(attributes: &mut Attributes, class: &Node) -> StatusResult<()> {
    let Some(scheduling) = class.get("scheduling") else {
        return Ok(());
    };
    if let Some(wanted) = scheduling.get("nodeSelector").and_then(Node::as_map) {
        let given = attributes.object.at(&["spec", "nodeSelector"]).and_then(Node::as_map);
        let conflict = wanted.iter().find_map(|(key, value)| {
            let given = given?.get(key).filter(|given| *given != value)?;
            Some((key, value.as_str().unwrap_or(""), given.as_str().unwrap_or("")))
        });
        if let Some((key, value, given)) = conflict {
            return Err(attributes.forbidden(format_args!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {given}"
            )));
        }
        let selector = attributes.object.make_at(&["spec", "nodeSelector"]).make_map();
        for (key, value) in wanted.iter() {
            selector.insert(key.clone(), value.clone());
        }
    }
    let added = scheduling.list("tolerations");
    let mut all = match attributes.object.at(&["spec", "tolerations"]).and_then(Node::as_list) {
        Some(given) => given.clone(),
        None => Vec::new(),
    };
    all.extend_from_slice(added);
    if !all.is_empty() {
        attributes.object.set_at(&["spec", "tolerations"], merged(&all));
    }
    Ok(())
}

/// Without what others cover; of equals the first stays.
fn merged(all: &[Node]) -> Vec<Node> {
    let mut kept: Vec<Node> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let covered = kept.iter().any(|other| covers(other, one))
            || all[i + 1..].iter().any(|other| other != one && covers(other, one));
        if !covered {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether `wide` tolerates everything that `narrow` does.
fn covers(wide: &Node, narrow: &Node) -> bool {
    if wide == narrow {
        return true;
    }
    let any_key = wide.str("key").is_empty() && wide.str("operator") == "Exists";
    if wide.str("key") != narrow.str("key") && !any_key {
        return false;
    }
    if !wide.str("effect").is_empty() && wide.str("effect") != narrow.str("effect") {
        return false;
    }
    let seconds = |toleration: &Node| toleration.get("tolerationSeconds").and_then(Node::as_i64);
    if wide.str("effect") == "NoExecute"
        && let Some(longest) = seconds(wide)
        && seconds(narrow).is_none_or(|seconds| seconds > longest)
    {
        return false;
    }
    match wide.str("operator") {
        "" | "Equal" => narrow.str("operator") == "Equal" && narrow.str("value") == wide.str("value"),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn covered_tolerations_go() {
        let narrow = node!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"});
        let wide = node!({"operator": "Exists"});
        assert_eq!(merged(&[narrow.clone(), wide.clone()]), std::slice::from_ref(&wide));
        assert_eq!(merged(&[wide.clone(), narrow]), [wide]);
    }
}
