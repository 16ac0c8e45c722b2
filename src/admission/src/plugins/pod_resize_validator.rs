//! PodResizeValidator: a running pod is not resized beyond what its node has to give.

use super::node_declared_feature_validator::changes_running_pod;
use super::{Plugin, now};
use crate::pod::{self, Count};
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::quantity::Quantity;
use fairlead_api::status::Cause;
use fairlead_api::{Node, Status, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct PodResizeValidator;

impl Plugin for PodResizeValidator {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.subresource == "resize" && changes_running_pod(attributes)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(check(attributes, cluster))
    }
}

fn check(attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    let name = attributes.object.str_at(&["spec", "nodeName"]);
    let quoted = go_quote(name);
    let Some(node) = cluster.lookup.get("", "nodes", "", name) else {
        return Err(attributes.forbidden(format_args!("node {quoted} not found")));
    };
    let system = node.labels().and_then(|labels| labels.get("kubernetes.io/os")).and_then(Node::as_str);
    if let Some(system) = system.filter(|system| *system != "linux") {
        let system = go_quote(system);
        let why = format!("pod resize is only supported on linux nodes, node {quoted} is {system}");
        return Err(refusal(attributes, why, "UnsupportedPlatform"));
    }
    let requested = pod::total(&attributes.object, "requests", Count::SpecAndOverhead);
    let allocatable = pod::amounts(node.at(&["status", "allocatable"]));
    let both = |name: &str| {
        let amount = |of: &pod::Amounts| of.get(name).cloned().unwrap_or(Quantity::ZERO);
        Some((amount(&requested), amount(&allocatable))).filter(|(requested, allocatable)| requested > allocatable)
    };
    let mut exceeded = Vec::new();
    if let Some((requested, allocatable)) = both("cpu") {
        let (requested, allocatable) = (requested.milli_value(), allocatable.milli_value());
        exceeded.push(format!("cpu, requested: {requested}, allocatable: {allocatable}"));
    }
    if let Some((requested, allocatable)) = both("memory") {
        let (requested, allocatable) = (requested.value(), allocatable.value());
        exceeded.push(format!("memory, requested: {requested}, allocatable: {allocatable}"));
    }
    if exceeded.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", exceeded.join("; "));
    Err(refusal(attributes, why, "NodeCapacity"))
}

fn refusal(attributes: &Attributes, why: String, reason: &str) -> Status {
    let mut status = attributes.forbidden(why);
    status.content_mut().details.get_or_insert_default().causes.push(Cause {
        reason: reason.into(),
        ..Cause::default()
    });
    status
}
