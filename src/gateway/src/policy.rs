//! [`Policy`]: what a BackendPolicy says, read into values; [`Policy::default`] is what holds without one.

use crate::apiservice::ServiceReference;
use crate::endpoint::Tuning;
use crate::resolve::Target;
use arc_swap::ArcSwap;
use compact_str::CompactString;
use fairlead_api::Node;
use fairlead_api::quantity::Quantity;
use fairlead_api::time::GoDuration;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;

pub mod assigned;
pub mod status;

/// The policy of one backend as it is now. Whoever reads it per request sees a change with the next request.
pub type Live = Arc<ArcSwap<Policy>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Of the object; empty for the defaults.
    pub name: CompactString,
    /// Instead of what the Service leads to.
    pub addresses: Vec<Target>,
    /// Connections, and the times it takes to make them.
    pub tuning: Tuning,
    pub timeouts: Timeouts,
    pub active: Option<ActiveHealth>,
    pub outlier: Outlier,
    /// `None` leaves the breaker closed.
    pub breaker: Option<Breaker>,
    pub bound: Bound,
    pub retries: Retries,
    pub hedging: Option<Hedging>,
    /// Instead of the APIService's own Service.
    pub traffic: Vec<Share>,
    pub cache: Option<CacheLimits>,
    pub discovery: DiscoveryMode,
    /// `--aggregator-reject-forwarding-redirect=false`; no BackendPolicy says so.
    pub passes_redirects: bool,
}

/// Not for watches and the like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeouts {
    pub first_byte: Option<Duration>,
    pub request: Option<Duration>,
}

/// What endpoints are asked beside requests.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveHealth {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}

/// When an endpoint is left out because of what becomes of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    pub consecutive_failures: u32,
    /// Answers 502, 503 and 504.
    pub consecutive_errors: u32,
    pub max_latency: Option<Duration>,
    /// The first ejection; each further one in a row lasts twice as long.
    pub ejection: Duration,
    pub max_ejection: Duration,
    /// Of all endpoints, those that cannot be reached not counted.
    pub max_ejected_percent: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    pub failure_percent: u32,
    pub minimum_requests: u32,
    pub window: Duration,
    pub open_time: Duration,
    pub trials: u32,
}

/// Requests under way to one backend, watches not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    pub in_flight: usize,
    /// How many may wait, and how long.
    pub queue: usize,
    pub wait: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// The first included.
    pub attempts: usize,
    pub budget_percent: u32,
    pub per_try_timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hedging {
    pub delay: Duration,
    pub percentile: Option<u32>,
    pub budget_percent: u32,
}

/// One of several Services, and what it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub service: ServiceReference,
    pub weight: u32,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CacheLimits {
    pub total: usize,
    pub object: usize,
}

/// What discovery shows of a backend that does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiscoveryMode {
    /// What kube-apiserver shows.
    #[default]
    Upstream,
    /// The kinds stay known to every client.
    LastKnown,
}

impl Default for Outlier {
    fn default() -> Outlier {
        Outlier {
            consecutive_failures: 1,
            consecutive_errors: 5,
            max_latency: None,
            ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(30),
            max_ejected_percent: 50,
        }
    }
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            failure_percent: 50,
            minimum_requests: 20,
            window: Duration::from_secs(10),
            open_time: Duration::from_secs(1),
            trials: 3,
        }
    }
}

impl Default for Bound {
    fn default() -> Bound {
        Bound {
            in_flight: 1000,
            queue: 0,
            wait: Duration::from_secs(1),
        }
    }
}

impl Default for Retries {
    fn default() -> Retries {
        Retries {
            attempts: 3,
            budget_percent: 20,
            per_try_timeout: None,
        }
    }
}

// === impl Policy ===

impl Policy {
    /// What holds without a BackendPolicy.
    pub fn standard(tuning: Tuning, addresses: Vec<Target>) -> Policy {
        Policy {
            tuning,
            addresses,
            breaker: Some(Breaker::default()),
            ..Policy::default()
        }
    }

    pub fn live(self) -> Live {
        Arc::new(ArcSwap::from_pointee(self))
    }

    /// Reads a stored object; what it does not say is as in `standard`.
    pub fn read(object: &Node, standard: &Policy) -> Policy {
        let mut policy = standard.clone();
        policy.name = object.name().into();
        let Some(spec) = object.get("spec") else { return policy };
        let addresses = spec.list("addresses").iter().filter_map(address);
        if !spec.list("addresses").is_empty() {
            policy.addresses = addresses.collect();
        }
        policy.read_connections(spec);
        policy.read_health(spec);
        if let Some(breaker) = given(spec, "circuitBreaker") {
            let mut read = policy.breaker.take().unwrap_or_default();
            set_number(breaker, "failurePercent", &mut read.failure_percent);
            set_number(breaker, "minimumRequests", &mut read.minimum_requests);
            set_number(breaker, "trials", &mut read.trials);
            set_duration(breaker, "window", &mut read.window);
            set_duration(breaker, "openTime", &mut read.open_time);
            let disabled = breaker.get("disabled").and_then(Node::as_bool).unwrap_or(false);
            policy.breaker = Some(read).filter(|_| !disabled);
        }
        set_size(spec, "maxInFlight", &mut policy.bound.in_flight);
        if let Some(queue) = given(spec, "queue") {
            policy.bound.queue = 100;
            set_size(queue, "length", &mut policy.bound.queue);
            set_duration(queue, "timeout", &mut policy.bound.wait);
        }
        policy.read_repeats(spec);
        policy.traffic = spec.list("traffic").iter().map(share).collect();
        if !policy.traffic.is_empty() {
            // Which Services there are is said more exactly than by a flag.
            policy.addresses = Vec::new();
        }
        policy.cache = given(spec, "cache").map(|cache| CacheLimits {
            total: bytes(cache, "maxSize", 16 << 20),
            object: bytes(cache, "maxObjectSize", 1 << 20),
        });
        policy.discovery = match spec.str("discovery") {
            "LastKnown" => DiscoveryMode::LastKnown,
            "Upstream" => DiscoveryMode::Upstream,
            _ => policy.discovery,
        };
        policy
    }

    fn read_connections(&mut self, spec: &Node) {
        let tuning = &mut self.tuning;
        if let Some(connections) = given(spec, "connections") {
            set_size(connections, "maxHTTP2", &mut tuning.max_http2_connections);
            set_size(connections, "maxIdleHTTP1", &mut tuning.max_idle_http1);
            set_duration(connections, "idleTimeout", &mut tuning.idle_timeout);
            set_duration(connections, "pingInterval", &mut tuning.ping_interval);
            set_duration(connections, "pingTimeout", &mut tuning.ping_timeout);
        }
        if let Some(timeouts) = given(spec, "timeouts") {
            set_duration(timeouts, "connect", &mut tuning.dial_timeout);
            set_duration(timeouts, "tlsHandshake", &mut tuning.handshake_timeout);
            self.timeouts.first_byte = duration(timeouts, "firstByte").or(self.timeouts.first_byte);
            self.timeouts.request = duration(timeouts, "request").or(self.timeouts.request);
        }
    }

    fn read_health(&mut self, spec: &Node) {
        let Some(health) = given(spec, "health") else { return };
        if let Some(active) = given(health, "active") {
            let mut read = ActiveHealth {
                path: active.str("path").to_owned(),
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(2),
                unhealthy_threshold: 2,
                healthy_threshold: 2,
            };
            set_duration(active, "interval", &mut read.interval);
            set_duration(active, "timeout", &mut read.timeout);
            set_number(active, "unhealthyThreshold", &mut read.unhealthy_threshold);
            set_number(active, "healthyThreshold", &mut read.healthy_threshold);
            self.active = Some(read);
        }
        if let Some(passive) = given(health, "passive") {
            let read = &mut self.outlier;
            set_number(passive, "consecutiveFailures", &mut read.consecutive_failures);
            set_number(passive, "consecutiveErrors", &mut read.consecutive_errors);
            read.max_latency = duration(passive, "maxLatency").or(read.max_latency);
            set_duration(passive, "ejectionTime", &mut read.ejection);
            set_duration(passive, "maxEjectionTime", &mut read.max_ejection);
            set_size(passive, "maxEjectedPercent", &mut read.max_ejected_percent);
        }
    }

    fn read_repeats(&mut self, spec: &Node) {
        if let Some(retries) = given(spec, "retries") {
            set_size(retries, "attempts", &mut self.retries.attempts);
            set_number(retries, "budgetPercent", &mut self.retries.budget_percent);
            self.retries.per_try_timeout = duration(retries, "perTryTimeout").or(self.retries.per_try_timeout);
        }
        if let Some(hedging) = given(spec, "hedging") {
            let mut read = Hedging {
                delay: Duration::from_millis(50),
                percentile: None,
                budget_percent: 10,
            };
            set_duration(hedging, "delay", &mut read.delay);
            set_number(hedging, "budgetPercent", &mut read.budget_percent);
            let mut percentile = 0;
            set_number(hedging, "percentile", &mut percentile);
            read.percentile = (percentile > 0).then_some(percentile);
            self.hedging = Some(read);
        }
    }
}

impl Share {
    /// Whether a request must go here whatever the weights.
    pub fn claims(&self, headers: &HeaderMap) -> bool {
        let has = |(name, value): &(HeaderName, HeaderValue)| headers.get_all(name).iter().any(|v| v == value);
        !self.headers.is_empty() && self.headers.iter().all(has)
    }
}

fn share(route: &Node) -> Share {
    let headers: Vec<_> = route
        .list("headers")
        .iter()
        .filter_map(|h| Some((h.str("name").parse().ok()?, HeaderValue::from_str(h.str("value")).ok()?)))
        .collect();
    let mut weight = u32::from(headers.is_empty());
    set_number(route, "weight", &mut weight);
    Share {
        service: ServiceReference::read(route.get("service").unwrap_or(&Node::Null)),
        weight,
        headers,
    }
}

fn address(address: &Node) -> Option<Target> {
    let port = address.get("port").and_then(Node::as_i64)?;
    Some(Target::new(address.str("host"), u16::try_from(port).ok()?))
}

fn given<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    node.get(key).filter(|n| !n.is_null())
}

fn duration(node: &Node, key: &str) -> Option<Duration> {
    let GoDuration(nanoseconds) = GoDuration::parse(node.str(key)).ok()?;
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn set_duration(node: &Node, key: &str, slot: &mut Duration) {
    *slot = duration(node, key).unwrap_or(*slot);
}

fn set_number(node: &Node, key: &str, slot: &mut u32) {
    let number = node.get(key).and_then(Node::as_i64);
    *slot = number.and_then(|n| u32::try_from(n).ok()).unwrap_or(*slot);
}

fn set_size(node: &Node, key: &str, slot: &mut usize) {
    let number = node.get(key).and_then(Node::as_i64);
    *slot = number.and_then(|n| usize::try_from(n).ok()).unwrap_or(*slot);
}

fn bytes(node: &Node, key: &str, default: usize) -> usize {
    let text = match node.get(key) {
        Some(Node::Int(n)) => n.to_string(),
        _ => node.str(key).to_owned(),
    };
    let quantity = Quantity::parse(&text).ok().map(|q| q.value());
    quantity.and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn what_is_not_said_is_the_standard() {
        let standard = Policy::standard(Tuning::default(), vec![Target::new("10.0.0.9", 1)]);
        let empty = node!({"metadata": {"name": "p"}, "spec": {}});
        let named = Policy {
            name: "p".into(),
            ..standard.clone()
        };
        assert_eq!(Policy::read(&empty, &standard), named);
        let one = node!({"metadata": {"name": "p"}, "spec": {
            "addresses": [{"host": "10.0.0.1", "port": 6443}, {"host": "api.example.com", "port": 443}],
            "connections": {"pingTimeout": "2s"}, "timeouts": {"request": "1m30s"},
            "health": {"active": {"path": "/healthz"}, "passive": {"consecutiveFailures": 7}},
            "circuitBreaker": {"disabled": true}, "maxInFlight": 5, "queue": {}, "hedging": {"percentile": 95},
            "cache": {"maxSize": "1Ki"}, "discovery": "LastKnown",
        }});
        let read = Policy::read(&one, &standard);
        let addresses: Vec<String> = read.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1:6443", "api.example.com:443"]);
        assert_eq!(read.tuning.ping_timeout, Duration::from_secs(2));
        assert_eq!(read.timeouts.request, Some(Duration::from_secs(90)));
        assert_eq!(
            (read.outlier.consecutive_failures, read.outlier.consecutive_errors),
            (7, 5)
        );
        assert_eq!((read.breaker, read.bound.in_flight, read.bound.queue), (None, 5, 100));
        assert_eq!(read.hedging.unwrap().percentile, Some(95));
        let expected = CacheLimits {
            total: 1024,
            object: 1 << 20,
        };
        assert_eq!((read.cache, read.discovery), (Some(expected), DiscoveryMode::LastKnown));
    }

    #[test]
    fn a_share_claims_requests_that_have_all_its_headers() {
        let route = node!({"service": {"namespace": "n", "name": "s"},
            "headers": [{"name": "X-Canary", "value": "1"}, {"name": "x-b", "value": "2"}]});
        let share = share(&route);
        assert_eq!((share.weight, share.service.port), (0, 443));
        let mut headers = HeaderMap::new();
        headers.insert("x-canary", HeaderValue::from_static("1"));
        assert!(!share.claims(&headers));
        headers.insert("x-b", HeaderValue::from_static("2"));
        assert!(share.claims(&headers));
    }
}
