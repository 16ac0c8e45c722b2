//! From a Service reference to addresses: through EndpointSlices, a cluster IP or an external name.
//!
//! Source of the rules: kubernetes/apiserver pkg/util/proxy/proxy.go (ResolveEndpoint, ResolveCluster).

use crate::apiservice::ServiceReference;
use crate::objects::{ObjectSource, SERVICES};
use fairlead_api::Node;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Which of a Service's addresses requests go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// To the endpoints themselves (`--enable-aggregator-routing`).
    Endpoints,
    /// To the Service's cluster IP or external name.
    ClusterIp,
}

/// Where a connection may go. The check is made on the very address that is dialed.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    /// For development and tests on one machine.
    pub allow_loopback: bool,
    /// The server's own listeners.
    pub forbidden: Vec<SocketAddr>,
}

/// One address to dial; displays as host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Address(SocketAddr),
    /// A name that is looked up for each connection.
    Name(String, u16),
}

/// Why a Service leads nowhere. Displays as kube-apiserver says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("service {0:?} not found")]
    NotFound(String),
    #[error("no service port {0} found for service {1:?}")]
    NoPort(u16, String),
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    #[error("unsupported service type {0:?}")]
    Type(String),
    #[error("cannot route to service with ClusterIP \"None\"")]
    Headless,
    #[error("address {0} is not allowed")]
    Address(IpAddr),
}

/// Resolves references against the objects of one source.
#[derive(Clone)]
pub struct Resolver {
    pub source: Arc<dyn ObjectSource>,
    pub routing: Routing,
    pub policy: Arc<AddressPolicy>,
}

// === impl Resolver ===

impl Resolver {
    /// All addresses of a Service that are ready; at least one.
    pub fn resolve(&self, reference: &ServiceReference) -> Result<Vec<Target>, ResolveError> {
        let service = self.source.get(SERVICES, &reference.namespace, &reference.name);
        let service = service.ok_or_else(|| ResolveError::NotFound(reference.name.to_string()))?;
        match self.routing {
            Routing::Endpoints => self.endpoints(reference, &service),
            Routing::ClusterIp => self.cluster_ip(reference, &service),
        }
    }

    fn endpoints(&self, reference: &ServiceReference, service: &Node) -> Result<Vec<Target>, ResolveError> {
        match service_type(service) {
            "ClusterIP" | "LoadBalancer" | "NodePort" => {}
            other => return Err(ResolveError::Type(other.into())),
        }
        let port_name = service_port(service, reference)?.str("name");
        let slices = self.source.endpoint_slices(&reference.namespace, &reference.name);
        let family = service
            .get("spec")
            .and_then(|s| s.list("ipFamilies").first())
            .and_then(Node::as_str);
        let mut targets = Vec::new();
        let mut refused = None;
        // The primary family first: where it has endpoints, the other is not used.
        for preferred in [true, false] {
            let of_family = |s: &&Arc<Node>| family.is_none_or(|f| s.str("addressType") == f) == preferred;
            for slice in slices.iter().filter(of_family) {
                let Some(port) = slice_port(slice, port_name) else {
                    continue;
                };
                for endpoint in slice.list("endpoints").iter().filter(|e| is_ready(e)) {
                    let Some(address) = endpoint.list("addresses").first().and_then(Node::as_str) else {
                        continue;
                    };
                    let target = match address.parse() {
                        Ok(ip) => match self.policy.check(SocketAddr::new(ip, port)) {
                            Ok(address) => Target::Address(address),
                            Err(error) => {
                                refused = Some(error);
                                continue;
                            }
                        },
                        Err(_) => Target::Name(address.into(), port),
                    };
                    if !targets.contains(&target) {
                        targets.push(target);
                    }
                }
            }
            if !targets.is_empty() {
                return Ok(targets);
            }
        }
        Err(refused.unwrap_or_else(|| ResolveError::NoEndpoints(reference.name.to_string())))
    }

    fn cluster_ip(&self, reference: &ServiceReference, service: &Node) -> Result<Vec<Target>, ResolveError> {
        match service_type(service) {
            "ClusterIP" if service.str_at(&["spec", "clusterIP"]) == "None" => Err(ResolveError::Headless),
            "ClusterIP" | "LoadBalancer" | "NodePort" => {
                service_port(service, reference)?;
                let ip = service.str_at(&["spec", "clusterIP"]).parse();
                let ip = ip.map_err(|_| ResolveError::NoEndpoints(reference.name.to_string()))?;
                Ok(vec![Target::Address(
                    self.policy.check(SocketAddr::new(ip, reference.port))?,
                )])
            }
            "ExternalName" => {
                let name = service.str_at(&["spec", "externalName"]);
                Ok(vec![match name.parse() {
                    Ok(ip) => Target::Address(self.policy.check(SocketAddr::new(ip, reference.port))?),
                    Err(_) => Target::Name(name.into(), reference.port),
                }])
            }
            other => Err(ResolveError::Type(other.into())),
        }
    }
}

// === impl Target ===

impl Target {
    /// `host` is an address or a name.
    pub fn new(host: &str, port: u16) -> Target {
        match host.parse() {
            Ok(ip) => Target::Address(SocketAddr::new(ip, port)),
            Err(_) => Target::Name(host.into(), port),
        }
    }
}

// === impl AddressPolicy ===

impl AddressPolicy {
    /// Any address, for what an administrator names by URL.
    pub fn anything() -> AddressPolicy {
        AddressPolicy {
            allow_loopback: true,
            forbidden: Vec::new(),
        }
    }

    /// Refuses the machine itself, link-local addresses (metadata services among them) and what is no host's address.
    pub fn check(&self, address: SocketAddr) -> Result<SocketAddr, ResolveError> {
        let ip = address.ip().to_canonical();
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255, 255, 255, 255]);
        let refused = link_local || nobody || (ip.is_loopback() && !self.allow_loopback);
        // `::ffff:10.0.0.1` is dialed as 10.0.0.1.
        let own = |own: &SocketAddr| own.ip().to_canonical() == ip && own.port() == address.port();
        if refused || self.forbidden.iter().any(own) {
            Err(ResolveError::Address(ip))
        } else {
            Ok(address)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// The type of a Service; it is defaulted, but not in objects of long ago.
pub fn service_type(service: &Node) -> &str {
    match service.str_at(&["spec", "type"]) {
        "" => "ClusterIP",
        other => other,
    }
}

fn service_port<'a>(service: &'a Node, reference: &ServiceReference) -> Result<&'a Node, ResolveError> {
    find_service_port(service, reference.port)
        .ok_or_else(|| ResolveError::NoPort(reference.port, reference.name.to_string()))
}

pub fn find_service_port(service: &Node, port: u16) -> Option<&Node> {
    let ports = service.get("spec").map_or(&[][..], |s| s.list("ports"));
    ports
        .iter()
        .find(|p| p.get("port").and_then(Node::as_i64) == Some(port.into()))
}

/// The number of a slice's port of that name.
pub fn slice_port(slice: &Node, name: &str) -> Option<u16> {
    let port = slice
        .list("ports")
        .iter()
        .find(|p| p.str("name") == name && p.get("port").is_some_and(|p| !p.is_null()));
    port?.get("port")?.as_i64().and_then(|p| u16::try_from(p).ok())
}

/// An endpoint that says nothing about it is ready.
pub fn is_ready(endpoint: &Node) -> bool {
    endpoint
        .at(&["conditions", "ready"])
        .and_then(Node::as_bool)
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{ENDPOINT_SLICES, MemoryObjects};
    use fairlead_api::node;

    fn resolver(routing: Routing, service: Node, slices: Vec<Node>) -> Resolver {
        let objects = MemoryObjects::default();
        objects.put(SERVICES, service);
        for slice in slices {
            objects.put(ENDPOINT_SLICES, slice);
        }
        Resolver {
            source: Arc::new(objects),
            routing,
            policy: Arc::default(),
        }
    }

    fn service(spec: Node) -> Node {
        let mut service = node!({"metadata": {"name": "s", "namespace": "n"}});
        service.set("spec", spec);
        service
    }

    fn slice(name: &str, family: &str, addresses: &[(&str, bool)], port: i64) -> Node {
        let mut slice = node!({
            "metadata": {"name": name, "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": family, "ports": [{"name": "https", "port": port}],
        });
        let endpoints = addresses
            .iter()
            .map(|(a, ready)| node!({"addresses": [a], "conditions": {"ready": ready}}));
        slice.set("endpoints", endpoints.collect::<Vec<_>>());
        slice
    }

    fn reference(port: u16) -> ServiceReference {
        ServiceReference {
            namespace: "n".into(),
            name: "s".into(),
            port,
        }
    }

    fn texts(result: Result<Vec<Target>, ResolveError>) -> Vec<String> {
        match result {
            Ok(targets) => targets.iter().map(Target::to_string).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn ready_endpoints_of_the_primary_family() {
        let spec = node!({"ports": [{"name": "https", "port": 443}], "ipFamilies": ["IPv6"]});
        let slices = vec![
            slice("a", "IPv4", &[("10.0.0.1", true)], 8443),
            slice("b", "IPv6", &[("2001:db8::1", true), ("2001:db8::2", false)], 8444),
        ];
        let r = resolver(Routing::Endpoints, service(spec), slices);
        assert_eq!(texts(r.resolve(&reference(443))), ["[2001:db8::1]:8444"]);
        assert_eq!(
            texts(r.resolve(&reference(80))),
            ["no service port 80 found for service \"s\""]
        );
    }

    #[test]
    fn endpoints_on_this_machine_are_refused() {
        let spec = node!({"ports": [{"name": "https", "port": 443}]});
        for address in [
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "fe80::1",
            "224.0.0.1",
        ] {
            let r = resolver(
                Routing::Endpoints,
                service(spec.clone()),
                vec![slice("a", "", &[(address, true)], 1)],
            );
            assert!(
                matches!(r.resolve(&reference(443)), Err(ResolveError::Address(_))),
                "{address}"
            );
        }
        let both = slice("a", "IPv4", &[("127.0.0.1", true), ("10.0.0.1", true)], 1);
        let r = resolver(Routing::Endpoints, service(spec), vec![both]);
        assert_eq!(texts(r.resolve(&reference(443))), ["10.0.0.1:1"]);
    }

    /// However it is written.
    #[test]
    fn own_listeners_are_refused() {
        let policy = AddressPolicy {
            forbidden: vec!["10.0.0.1:6443".parse().unwrap(), "[fd00::1]:6443".parse().unwrap()],
            ..AddressPolicy::default()
        };
        for address in ["10.0.0.1:6443", "[::ffff:10.0.0.1]:6443", "[fd00::1]:6443"] {
            assert!(policy.check(address.parse().unwrap()).is_err(), "{address}");
        }
        for address in ["10.0.0.1:443", "10.0.0.2:6443", "[::ffff:10.0.0.2]:6443"] {
            assert!(policy.check(address.parse().unwrap()).is_ok(), "{address}");
        }
    }

    #[test]
    fn cluster_ips_and_external_names() {
        let ports = node!([{"name": "https", "port": 443}]);
        for (spec, expected) in [
            (node!({"clusterIP": "10.0.0.7"}), "10.0.0.7:443"),
            (
                node!({"clusterIP": "None"}),
                "cannot route to service with ClusterIP \"None\"",
            ),
            (
                node!({"type": "ExternalName", "externalName": "api.example.com"}),
                "api.example.com:443",
            ),
            (
                node!({"type": "ExternalName", "externalName": "127.0.0.1"}),
                "address 127.0.0.1 is not allowed",
            ),
            (node!({"type": "Odd"}), "unsupported service type \"Odd\""),
        ] {
            let mut spec = spec;
            spec.set("ports", ports.clone());
            let r = resolver(Routing::ClusterIp, service(spec), Vec::new());
            assert_eq!(texts(r.resolve(&reference(443))), [expected]);
        }
        let external = node!({"type": "ExternalName", "externalName": "x"});
        let r = resolver(Routing::Endpoints, service(external), Vec::new());
        assert_eq!(
            texts(r.resolve(&reference(443))),
            ["unsupported service type \"ExternalName\""]
        );
    }
}
