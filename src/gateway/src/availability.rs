//! The `Available` condition: what is checked, and in which words the outcome is told.
//!
//! Source of reasons and messages: kubernetes/kube-aggregator pkg/controllers/status/remote/remote_available_controller.go.

use crate::apiservice::{Available, ServiceReference};
use crate::backend::Backend;
use crate::endpoint::Endpoint;
use crate::fetch::Fetch;
use crate::objects::{ObjectSource, SERVICES};
use crate::pool::Pool;
use crate::resolve::{find_service_port, is_ready, service_type, slice_port};
use fairlead_api::Node;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// How often and how long backends are asked.
#[derive(Clone, Debug)]
pub struct Probing {
    pub timeout: Duration,
    /// Of a check that was made because an endpoint does not answer.
    pub suspicious_timeout: Duration,
    /// Between checks of a backend that is well.
    pub interval: Duration,
    /// After the first failed check; each further one in a row waits twice as long, up to `max_pause`.
    pub first_pause: Duration,
    pub max_pause: Duration,
}

impl Default for Probing {
    fn default() -> Probing {
        Probing {
            timeout: Duration::from_secs(5),
            suspicious_timeout: Duration::from_secs(2),
            // Between two, questions about discovery tell of trouble; see `learning`.
            interval: Duration::from_secs(30),
            first_pause: Duration::from_millis(100),
            max_pause: Duration::from_secs(5),
        }
    }
}

/// Whom backends see when they are probed.
const PROBE_USER: &str = "system:kube-aggregator";
/// More endpoints than this are not asked at once.
const MAX_PROBES: usize = 16;

/// Checks everything, in kube-aggregator's order.
pub async fn check(backend: &Backend, source: &dyn ObjectSource, timeout: Duration) -> Available {
    match check_services(backend, source) {
        Some(problem) => problem,
        None => probe(backend, timeout).await,
    }
}

/// What the objects behind a backend say; `None` when they leave nothing to be desired. Of several Services one that is
/// well is enough, and addresses that were given need none.
pub fn check_services(backend: &Backend, source: &dyn ObjectSource) -> Option<Available> {
    let policy = backend.policy();
    if !policy.addresses.is_empty() {
        return None;
    }
    let mut first = None;
    for route in backend.routes() {
        let problem = check_objects(&route.service, source)?;
        first = first.or(Some(problem));
    }
    first
}

/// What the Service and its EndpointSlices alone say; `None` when they leave nothing to be desired.
pub fn check_objects(reference: &ServiceReference, source: &dyn ObjectSource) -> Option<Available> {
    let ServiceReference { namespace, name, port } = reference;
    let Some(service) = source.get(SERVICES, namespace, name) else {
        return Some(Available::no(
            "ServiceNotFound",
            format!("service/{name} in {namespace:?} is not present"),
        ));
    };
    if service_type(&service) != "ClusterIP" {
        return None;
    }
    let Some(service_port) = find_service_port(&service, *port) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Available::no("ServicePortError", message));
    };
    let port_name = service_port.str("name");
    let slices = source.endpoint_slices(namespace, name);
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Available::no("EndpointsNotFound", message));
    }
    let has_endpoint =
        |slice: &Arc<Node>| slice.list("endpoints").iter().any(is_ready) && slice_port(slice, port_name).is_some();
    if !slices.iter().any(has_endpoint) {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Some(Available::no("MissingEndpoints", message));
    }
    None
}

/// Asks every endpoint for the group-version's discovery; one that answers is enough.
async fn probe(backend: &Backend, timeout: Duration) -> Available {
    let policy = backend.policy();
    let mut endpoints = Vec::new();
    let mut problem = None;
    for route in backend.routes() {
        match route.pool(&policy) {
            Ok(pool) => endpoints.extend(pool.endpoints().iter().map(|e| (pool.clone(), e.clone()))),
            Err(error) => problem = problem.or(Some(error.to_string())),
        }
    }
    let path = backend.api_service.discovery_path();
    let probes = endpoints
        .iter()
        .take(MAX_PROBES)
        .map(|(pool, endpoint)| probe_endpoint(pool, endpoint, &path, timeout));
    let outcomes = join_all(probes).await;
    if outcomes.iter().any(Result::is_ok) {
        return Available::passed();
    }
    let message = outcomes.into_iter().rev().find_map(Result::err).or(problem);
    Available::no(
        "FailedDiscoveryCheck",
        message.unwrap_or_else(|| "no endpoints available".into()),
    )
}

async fn probe_endpoint(pool: &Pool, endpoint: &Arc<Endpoint>, path: &str, timeout: Duration) -> Result<(), String> {
    let fetch = Fetch {
        path,
        accept: "application/json",
        etag: "",
        user: PROBE_USER,
        limit: 4 << 20,
        timeout,
    };
    let url = format!("https://{}{path}", endpoint.authority);
    match fetch.get_from(pool, endpoint).await {
        Ok(fetched) if fetched.status.is_success() => Ok(()),
        Ok(fetched) => {
            let code = fetched.status.as_u16();
            Err(format!(
                "failing or missing response from {url}: bad status from {url}: {code}"
            ))
        }
        Err(error) => {
            // It may have hung until the time was over.
            pool.eject(endpoint);
            endpoint.abandon();
            Err(format!(
                "failing or missing response from {url}: Get {url:?}: {}",
                error.text
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{ENDPOINT_SLICES, MemoryObjects};
    use fairlead_api::node;

    #[test]
    fn objects_alone_can_say_why_not() {
        let objects = MemoryObjects::default();
        let reference = ServiceReference {
            namespace: "default".into(),
            name: "s".into(),
            port: 443,
        };
        let verdict = || check_objects(&reference, &objects).map(|a| (a.reason, a.message));
        let told = |reason, message: &str| Some((reason, message.to_owned()));
        assert_eq!(
            verdict(),
            told("ServiceNotFound", "service/s in \"default\" is not present")
        );

        let service = |port: i64| {
            node!({
                "metadata": {"name": "s", "namespace": "default"}, "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": port}]},
            })
        };
        objects.put(SERVICES, service(80));
        assert_eq!(
            verdict(),
            told(
                "ServicePortError",
                "service/s in \"default\" is not listening on port 443"
            )
        );
        objects.put(SERVICES, service(443));
        assert_eq!(
            verdict(),
            told(
                "EndpointsNotFound",
                "cannot find endpointslices for service/s in \"default\""
            )
        );

        let slice = |ready: bool| {
            node!({
                "metadata": {"name": "s-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "s"}},
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}], "ports": [{"name": "https", "port": 1}],
            })
        };
        objects.put(ENDPOINT_SLICES, slice(false));
        let missing = "endpointslices for service/s in \"default\" have no addresses with port name \"https\"";
        assert_eq!(verdict(), told("MissingEndpoints", missing));
        objects.put(ENDPOINT_SLICES, slice(true));
        assert_eq!(verdict(), None);
    }
}
