//! Nodes.

use crate::cells::{self, NONE, Row};
use crate::gated::drop_unless_used;
use crate::pod_spec::round_quantities;
use crate::validation::nodes;
use crate::validation::warnings;
use crate::value::{flag, list, with};
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

/// Kubelets no longer take their configuration from here.
const CONFIG_SOURCE: &[&str] = &["spec", "configSource"];

pub struct Nodes;

impl Hooks for Nodes {
    fn default(&self, object: &mut Node) {
        with(object, &["status", "capacity"], round_quantities);
        with(object, &["status", "allocatable"], round_quantities);
        if let Some(capacity) = object.at(&["status", "capacity"]).cloned()
            && object.at(&["status", "allocatable"]).is_none()
        {
            object.set_at(&["status", "allocatable"], capacity);
        }
        sync_pod_ranges(object.make_at(&["spec"]));
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_unless_used(object, None, CONFIG_SOURCE);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_unless_used(object, Some(old), CONFIG_SOURCE);
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, context: &HookContext) -> Vec<String> {
        match context.subresource {
            "status" => Vec::new(),
            _ => warnings::node(object),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        nodes::validate_create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        nodes::validate_update(object, old, errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        nodes::validate_status(object, old, errors);
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_unless_used(object, Some(old), &["status", "config"]);
    }

    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["spec"]],
            _ => &[&["status"]],
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let info = |key: &str| object.str_at(&["status", "nodeInfo", key]);
        let mut kernel = cells::or(info("kernelVersion"), "<unknown>").to_owned();
        if !info("architecture").is_empty() {
            kernel = format!("{kernel} ({})", info("architecture"));
        }
        Row::named(object, now_seconds)
            .cell(status(object))
            .cell(roles(object))
            .age()
            .text(&["status", "nodeInfo", "kubeletVersion"])
            .cell(address(object, "InternalIP"))
            .cell(address(object, "ExternalIP"))
            .cell(cells::or(info("osImage"), "<unknown>"))
            .cell(kernel)
            .cell(cells::or(info("containerRuntimeVersion"), "<unknown>"))
            .done()
    }
}

/// Keeps `podCIDR` and `podCIDRs` the same; the single one wins.
fn sync_pod_ranges(spec: &mut Node) {
    let first = spec.list("podCIDRs").first().and_then(Node::as_str).map(str::to_owned);
    let alone = spec.str("podCIDR").to_owned();
    match first {
        Some(first) if alone.is_empty() => spec.set("podCIDR", first),
        Some(first) if first == alone => {}
        _ if !alone.is_empty() => spec.set("podCIDRs", vec![Node::from(alone)]),
        _ => {}
    }
}

fn status(node: &Node) -> String {
    // Of conditions of one type the last counts.
    let ready = list(node, &["status", "conditions"])
        .iter()
        .rfind(|c| c.str("type") == "Ready");
    let mut status = match ready {
        Some(condition) if condition.str("status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if flag(node, &["spec", "unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Node) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in node.labels().into_iter().flat_map(Map::iter) {
        let value = value.as_str().unwrap_or("");
        match key.strip_prefix(ROLE_PREFIX) {
            Some("") => {}
            Some(role) => roles.push(role),
            None if key == ROLE && !value.is_empty() => roles.push(value),
            None => {}
        }
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.into() } else { roles.join(",") }
}

fn address<'a>(node: &'a Node, kind: &str) -> &'a str {
    list(node, &["status", "addresses"])
        .iter()
        .find(|a| a.str("type") == kind)
        .map_or(NONE, |a| a.str("address"))
}
