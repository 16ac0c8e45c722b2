//! Services. What they are given from ranges is in [`allocation`].

mod allocation;

use crate::allocators::Allocators;
use crate::cells::{NONE, Row, join, load_balancer};
use crate::validation::services;
use crate::validation::warnings;
use crate::value::{each, int, list, or};
use fairlead_api::{FieldErrors, Node, StatusResult, node};
use fairlead_resource::hooks::Claim;
use fairlead_resource::{HookContext, Hooks};
use futures_util::future::BoxFuture;

pub struct Services {
    pub allocators: Allocators,
}

impl Hooks for Services {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        or(spec, "sessionAffinity", "None");
        match spec.str("sessionAffinity") {
            "None" => drop(spec.remove("sessionAffinityConfig")),
            "ClientIP"
                if spec
                    .at(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"])
                    .is_none() =>
            {
                spec.set("sessionAffinityConfig", node!({"clientIP": {"timeoutSeconds": 10800}}));
            }
            _ => {}
        }
        or(spec, "type", "ClusterIP");
        each(spec, "ports", |port| {
            or(port, "protocol", "TCP");
            if port.get("targetPort").is_none_or(Node::is_zero) {
                let number = int(port, &["port"]);
                port.set("targetPort", number);
            }
        });
        let kind = spec.str("type").to_owned();
        if is_external(spec) {
            or(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
            or(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            or(spec, "allocateLoadBalancerNodePorts", true);
            if let Some(Node::List(ingress)) = object.at_mut(&["status", "loadBalancer", "ingress"]) {
                for point in ingress.iter_mut().filter(|point| !point.str("ip").is_empty()) {
                    or(point, "ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        let spec = object.make_at(&["spec"]);
        if let Some(single) = spec.get("clusterIP").cloned() {
            or(spec, "clusterIPs", vec![single]);
        }
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, context: &HookContext) {
        if !context.subresource.is_empty() {
            return;
        }
        let empty = Node::map();
        let (spec, old) = (object.make_at(&["spec"]), old.get("spec").unwrap_or(&empty));
        allocation::keep_allocated(spec, old);
        allocation::align_addresses(spec, old);
        drop_what_the_type_had(spec, old);
        if spec.str("type") != "LoadBalancer" {
            object.set_at(&["status", "loadBalancer"], Node::map());
        }
    }

    fn canonicalize(&self, object: &mut Node) {
        // Upstream stores it and hides it from every reader.
        if object.str_at(&["spec", "type"]) == "ExternalName" {
            object.remove_at(&["spec", "internalTrafficPolicy"]);
        }
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, context: &HookContext) -> Vec<String> {
        match context.subresource {
            "status" => warnings::service_status(object),
            _ => warnings::service(object),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        services::validate_create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        services::validate_update(object, old, errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        services::validate_status(object, old, errors);
    }

    fn begin_create<'a>(
        &'a self,
        object: &'a mut Node,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Option<Box<dyn Claim>>>> {
        Box::pin(async move {
            let claim = allocation::create(&self.allocators, object, context).await?;
            Ok(Some(Box::new(claim) as Box<dyn Claim>))
        })
    }

    fn begin_update<'a>(
        &'a self,
        object: &'a mut Node,
        old: &'a Node,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<Option<Box<dyn Claim>>>> {
        if !context.subresource.is_empty() {
            return Box::pin(std::future::ready(Ok(None)));
        }
        Box::pin(async move {
            let claim = allocation::update(&self.allocators, object, old, context).await?;
            Ok(Some(Box::new(claim) as Box<dyn Claim>))
        })
    }

    fn after_delete<'a>(&'a self, object: &'a Node) -> BoxFuture<'a, ()> {
        Box::pin(self.allocators.release(object))
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let address = list(object, &["spec", "clusterIPs"])
            .first()
            .and_then(Node::as_str)
            .unwrap_or(NONE);
        let ports: Vec<String> = list(object, &["spec", "ports"]).iter().map(port_cell).collect();
        Row::named(object, now_seconds)
            .text(&["spec", "type"])
            .cell(address)
            .cell(external_address(object))
            .cell(if ports.is_empty() {
                NONE.to_owned()
            } else {
                ports.join(",")
            })
            .age()
            .labels(&["spec", "selector"])
            .done()
    }
}

fn port_cell(port: &Node) -> String {
    let (number, protocol) = (int(port, &["port"]), port.str("protocol"));
    match int(port, &["nodePort"]) {
        0 => format!("{number}/{protocol}"),
        node_port => format!("{number}:{node_port}/{protocol}"),
    }
}

fn external_address(service: &Node) -> String {
    let external = join(
        list(service, &["spec", "externalIPs"]).iter().filter_map(Node::as_str),
        ",",
    );
    let or_none = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    match service.str_at(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => or_none(external, NONE),
        "LoadBalancer" => {
            let balanced = load_balancer(list(service, &["status", "loadBalancer", "ingress"]));
            let all = [balanced, external]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>();
            or_none(all.join(","), "<pending>")
        }
        "ExternalName" => service.str_at(&["spec", "externalName"]).to_owned(),
        _ => "<unknown>".into(),
    }
}

/// Whether traffic may come from outside the cluster.
fn is_external(spec: &Node) -> bool {
    match spec.str("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(spec, &["externalIPs"]).is_empty(),
        _ => false,
    }
}

fn needs_address(spec: &Node) -> bool {
    spec.str("type") != "ExternalName"
}

fn needs_node_port(spec: &Node) -> bool {
    match spec.str("type") {
        "NodePort" => true,
        "LoadBalancer" => spec
            .get("allocateLoadBalancerNodePorts")
            .and_then(Node::as_bool)
            .unwrap_or(true),
        _ => false,
    }
}

fn needs_health_check(spec: &Node) -> bool {
    spec.str("type") == "LoadBalancer" && spec.str("externalTrafficPolicy") == "Local"
}

/// A service that changes its type loses what only the old type has, unless the writer changed that too.
fn drop_what_the_type_had(spec: &mut Node, old: &Node) {
    let drop_same = |spec: &mut Node, field: &str| {
        if spec.get(field) == old.get(field) {
            spec.remove(field);
        }
    };
    if needs_address(old) && !needs_address(spec) {
        if spec.get("clusterIPs") == old.get("clusterIPs") && spec.get("clusterIP") == old.get("clusterIP") {
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
        drop_same(spec, "ipFamilies");
        drop_same(spec, "ipFamilyPolicy");
    }
    let node_ports = |spec: &Node| {
        let mut ports: Vec<i64> = list(spec, &["ports"]).iter().map(|p| int(p, &["nodePort"])).collect();
        ports.sort_unstable();
        ports
    };
    // What a balancer has stays, whether more would be given out or not.
    let may_have = |spec: &Node| matches!(spec.str("type"), "NodePort" | "LoadBalancer");
    if may_have(old) && !may_have(spec) && node_ports(old) == node_ports(spec) {
        each(spec, "ports", |port| drop(port.remove("nodePort")));
    }
    if needs_health_check(old) && !needs_health_check(spec) {
        drop_same(spec, "healthCheckNodePort");
    }
    let balanced = |spec: &Node| spec.str("type") == "LoadBalancer";
    if balanced(old) && !balanced(spec) {
        drop_same(spec, "allocateLoadBalancerNodePorts");
        drop_same(spec, "loadBalancerClass");
    }
    if is_external(old) && !is_external(spec) {
        drop_same(spec, "externalTrafficPolicy");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_filled_in() {
        let allocators = Allocators::in_memory(vec!["10.0.0.0/24".parse().unwrap()], 30000..=32767);
        let mut service = node!({"spec": {"ports": [{"port": 80, "targetPort": 0}]}});
        Services { allocators }.default(&mut service);
        let wanted = node!({"spec": {"internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}});
        assert_eq!(service, wanted);
    }

    #[test]
    fn a_change_of_type_drops_node_ports() {
        let old =
            node!({"type": "NodePort", "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30000}]});
        let mut spec = old.clone();
        spec.set("type", "ClusterIP");
        drop_what_the_type_had(&mut spec, &old);
        assert_eq!(spec, node!({"type": "ClusterIP", "ports": [{"port": 80}]}));
    }

    #[test]
    fn a_balancer_keeps_its_ports_when_no_more_are_given_out() {
        let old = fairlead_api::node!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30001}]});
        let mut spec = old.clone();
        spec.set("allocateLoadBalancerNodePorts", false);
        drop_what_the_type_had(&mut spec, &old);
        assert_eq!(spec.list("ports"), old.list("ports"));
        spec.set("type", "ClusterIP");
        drop_what_the_type_had(&mut spec, &old);
        assert_eq!(int(&spec.list("ports")[0], &["nodePort"]), 0);
    }
}
