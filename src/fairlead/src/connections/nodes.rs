//! Nodes: where their kubelets are, and what else of them may be proxied to.

use super::{Parts, Target};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, Status, StatusResult};
use fairlead_gateway::direct::{Location, Peer, is_proxyable};
use std::net::IpAddr;

/// A kubelet as its Node tells of it.
pub(super) struct Kubelet {
    host: String,
    port: String,
    /// It understands the WebSocket protocols of kubectl by itself (KEP-4006).
    pub speaks_websocket: bool,
}

impl Kubelet {
    pub(super) fn location(&self, path: &str, query: String) -> Location {
        Location {
            https: true,
            host: self.host.clone(),
            port: self.port.clone(),
            path: fairlead_gateway::uri::encoded_clean(path),
            query: Some(query).filter(|query| !query.is_empty()),
            ..Location::default()
        }
    }
}

/// The kubelet of a node.
pub(super) async fn kubelet(parts: &Parts, name: &str) -> StatusResult<Kubelet> {
    let node = parts.get("nodes", "", name).await?;
    read(&node, &parts.kubelets.address_types, parts.kubelets.port)
}

fn read(node: &Node, types: &[String], default_port: u16) -> StatusResult<Kubelet> {
    let status = node.get("status").unwrap_or(&Node::Null);
    let addresses = status.list("addresses");
    let preferred = types
        .iter()
        .find_map(|wanted| addresses.iter().find(|a| a.str("type") == wanted));
    let Some(address) = preferred else {
        let known: Vec<String> = addresses
            .iter()
            .map(|a| format!("{{{} {}}}", a.str("type"), a.str("address")))
            .collect();
        let known = known.join(" ");
        let text = format!("no preferred addresses found; known addresses: [{known}]");
        return Err(Status::new(500, "", text));
    };
    let port = status
        .at(&["daemonEndpoints", "kubeletEndpoint", "Port"])
        .and_then(Node::as_i64)
        .filter(|port| *port > 0)
        .unwrap_or(default_port.into());
    let features = status.list("declaredFeatures");
    Ok(Kubelet {
        host: address.str("address").to_owned(),
        port: port.to_string(),
        speaks_websocket: features.iter().any(|f| f.as_str() == Some("ExtendWebSocketsToKubelet")),
    })
}

/// Where `nodes/ID/proxy` leads: to the kubelet, or to another port of its machine, to which nothing is shown.
pub(super) async fn proxied(parts: &Parts, id: &str) -> StatusResult<(Peer, Location)> {
    let target = Target::parse("node", id)?;
    let kubelet = kubelet(parts, target.name).await?;
    let checked = lookup(parts, &kubelet.host).await.map_err(Status::bad_request)?;
    let is_kubelet = target.port.is_empty() || target.port == kubelet.port;
    if !is_kubelet && target.port.parse::<u64>().is_err() {
        return Err(Status::bad_request(format!("invalid node request {}", go_quote(id))));
    }
    let peer = if is_kubelet { Peer::Kubelet } else { Peer::Workload };
    let location = Location {
        https: is_kubelet || target.https,
        host: kubelet.host,
        port: if is_kubelet {
            kubelet.port
        } else {
            target.port.to_owned()
        },
        checked,
        ..Location::default()
    };
    Ok((peer, location))
}

/// The addresses of a host, all of which may be proxied to. They are the ones that are dialed (CVE-2020-8562).
async fn lookup(parts: &Parts, host: &str) -> Result<Vec<IpAddr>, String> {
    let found: Vec<IpAddr> = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => match tokio::net::lookup_host((host, 0)).await {
            Ok(found) => found.map(|address| address.ip()).collect(),
            Err(_) => return Err(format!("lookup {host}: no such host")),
        },
    };
    if found.is_empty() {
        return Err("no addresses for hostname".into());
    }
    let policy = parts.direct.workloads();
    match found.iter().all(|ip| is_proxyable(*ip, policy)) {
        true => Ok(found),
        false => Err("address not allowed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn a_kubelet_is_found_by_what_is_preferred() {
        let node = node!({"status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}},
            "declaredFeatures": ["ExtendWebSocketsToKubelet"],
        }});
        let types = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let found = read(&node, &types(&["Hostname", "InternalIP"]), 10250).unwrap();
        assert_eq!((found.host.as_str(), found.port.as_str()), ("n", "1234"));
        assert!(found.speaks_websocket);
        let location = found.location("/exec/n/p/c", "input=1".into());
        assert_eq!(location.url(), "https://n:1234/exec/n/p/c?input=1");
        let error = read(&node, &types(&["ExternalIP"]), 10250).err().unwrap();
        assert_eq!(
            error.message(),
            "no preferred addresses found; known addresses: [{InternalIP 10.0.0.1} {Hostname n}]"
        );
        assert_eq!((error.code(), error.reason()), (500, ""));
        let plain = node!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        let found = read(&plain, &types(&["InternalIP"]), 10250).unwrap();
        assert_eq!(found.port, "10250");
        assert!(!found.speaks_websocket);
    }
}
