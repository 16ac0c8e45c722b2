//! Pods: which of their containers is meant, and where they may be proxied to.

use super::{Parts, Target};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, Status, StatusResult};
use fairlead_gateway::direct::{Location, Peer, is_proxyable};

/// In the order in which messages name them.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The container that is meant: the one that is named, or the only one.
pub(super) fn container(pod: &Node, named: &str) -> StatusResult<String> {
    let spec = pod.get("spec").unwrap_or(&Node::Null);
    let names = || {
        CONTAINERS
            .iter()
            .flat_map(|list| spec.list(list))
            .map(|c| c.str("name"))
    };
    if !named.is_empty() {
        return match names().any(|name| name == named) {
            true => Ok(named.to_owned()),
            false => {
                let text = format!("container {named} is not valid for pod {}", pod.name());
                Err(Status::bad_request(text))
            }
        };
    }
    match spec.list("containers") {
        [only] => Ok(only.str("name").to_owned()),
        several => {
            let mut text = format!("a container name must be specified for pod {}", pod.name());
            if !several.is_empty() {
                let names: Vec<&str> = names().collect();
                text.push_str(&format!(", choose one of: [{}]", names.join(" ")));
            }
            Err(Status::bad_request(text))
        }
    }
}

/// Where `pods/ID/proxy` leads: to the port that is named, or the first that a container has.
pub(super) async fn proxied(parts: &Parts, namespace: &str, id: &str) -> StatusResult<(Peer, Location)> {
    let target = Target::parse("pod", id)?;
    let pod = parts.get("pods", namespace, target.name).await?;
    let port = match target.port {
        "" => first_port(&pod),
        port if port.parse::<u64>().is_ok() => port.to_owned(),
        _ => return Err(Status::bad_request(format!("invalid pod request {}", go_quote(id)))),
    };
    let host = address(&pod);
    match host.parse() {
        Ok(ip) if is_proxyable(ip, parts.direct.workloads()) => {}
        _ => return Err(Status::bad_request("address not allowed")),
    }
    let location = Location {
        https: target.https,
        host: host.to_owned(),
        port,
        ..Location::default()
    };
    Ok((Peer::Workload, location))
}

fn first_port(pod: &Node) -> String {
    let containers = pod.get("spec").map_or(&[][..], |spec| spec.list("containers"));
    let first = containers.iter().find_map(|c| c.list("ports").first());
    let port = first.and_then(|p| p.get("containerPort")).and_then(Node::as_i64);
    port.map_or(String::new(), |port| port.to_string())
}

fn address(pod: &Node) -> &str {
    addresses(pod).next().unwrap_or("")
}

/// The addresses of a pod, the first one first.
pub(super) fn addresses(pod: &Node) -> impl Iterator<Item = &str> {
    let list = pod.get("status").map_or(&[][..], |status| status.list("podIPs"));
    list.iter().map(|ip| ip.str("ip"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn the_only_container_need_not_be_named() {
        let pod = node!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}],
        }});
        assert_eq!(container(&pod, "").unwrap(), "a");
        for named in ["i", "a", "e"] {
            assert_eq!(container(&pod, named).unwrap(), named);
        }
        let error = container(&pod, "x").unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (400, "container x is not valid for pod p")
        );
        let pod = node!({"metadata": {"name": "p"}, "spec": {
            "initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}],
        }});
        assert_eq!(
            container(&pod, "").unwrap_err().message(),
            "a container name must be specified for pod p, choose one of: [i a b]"
        );
    }

    #[test]
    fn the_first_port_is_that_of_the_first_container_with_one() {
        let pod = node!({"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]}});
        assert_eq!(first_port(&pod), "8080");
        assert_eq!(first_port(&node!({"spec": {"containers": [{"name": "a"}]}})), "");
    }
}
