//! Services: which endpoint a proxied request goes to.

use super::{Parts, Target, pods};
use fairlead_api::{Node, Status, StatusResult};
use fairlead_gateway::direct::{Location, Peer, is_proxyable};

/// Where `services/ID/proxy` leads: to an endpoint that is really a pod of the namespace.
pub(super) async fn proxied(parts: &Parts, namespace: &str, id: &str) -> StatusResult<(Peer, Location)> {
    let target = Target::parse("service", id)?;
    let mut port = target.port.to_owned();
    if let Ok(number) = target.port.parse::<i64>() {
        let service = parts.get("services", namespace, target.name).await?;
        port = port_name(&service, number).ok_or_else(|| {
            let text = format!("no service port {number} found for service {:?}", target.name);
            Status::unavailable(text)
        })?;
    }
    let endpoints = parts.get("endpoints", namespace, target.name).await?;
    let subsets = endpoints.list("subsets");
    let none = |name: &str| Status::unavailable(format!("no endpoints available for service {name:?}"));
    if subsets.is_empty() {
        return Err(none(target.name));
    }
    for subset in from_anywhere(subsets, parts) {
        let ports = subset.list("ports");
        let Some(found) = ports.iter().find(|p| p.str("name") == port) else {
            continue;
        };
        for address in from_anywhere(subset.list("addresses"), parts) {
            if !is_pod(parts, namespace, address).await {
                continue;
            }
            let number = found.get("port").and_then(Node::as_i64).unwrap_or(0);
            let location = Location {
                https: target.https,
                host: address.str("ip").to_owned(),
                port: number.to_string(),
                ..Location::default()
            };
            return Ok((Peer::Workload, location));
        }
    }
    Err(none(id))
}

/// The name of the port of that number.
fn port_name(service: &Node, number: i64) -> Option<String> {
    let ports = service.get("spec").map_or(&[][..], |spec| spec.list("ports"));
    let found = ports
        .iter()
        .find(|p| p.get("port").and_then(Node::as_i64) == Some(number));
    found.map(|port| port.str("name").to_owned())
}

/// All of a list, beginning with any of them.
fn from_anywhere<'a>(list: &'a [Node], parts: &Parts) -> impl Iterator<Item = &'a Node> {
    let start = match list.len() {
        0 => 0,
        length => usize::try_from(parts.needs.entropy.bits() % length as u64).unwrap_or(0),
    };
    list[start..].iter().chain(&list[..start])
}

/// Anybody who may write Endpoints could name any address: only those of pods count.
async fn is_pod(parts: &Parts, namespace: &str, address: &Node) -> bool {
    let target = address.get("targetRef").unwrap_or(&Node::Null);
    let ip = address.str("ip");
    let proxyable = ip
        .parse()
        .is_ok_and(|parsed| is_proxyable(parsed, parts.direct.workloads()));
    if target.str("namespace") != namespace || !proxyable {
        return false;
    }
    match parts.get("pods", namespace, target.str("name")).await {
        Ok(pod) => pods::addresses(&pod).any(|found| found == ip),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn ports_have_numbers_and_names() {
        let service = node!({"spec": {"ports": [{"port": 80}, {"name": "web", "port": 8080}]}});
        assert_eq!(port_name(&service, 80).as_deref(), Some(""));
        assert_eq!(port_name(&service, 8080).as_deref(), Some("web"));
        assert_eq!(port_name(&service, 81), None);
    }
}
