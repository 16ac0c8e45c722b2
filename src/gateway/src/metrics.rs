//! The gateway's families: kube-aggregator's names, and what they do not tell.
//!
//! Series of endpoints that are gone are dropped at the next reading, so that addresses that come and go do not add up.
// PERFORMANCE: per-request path

use crate::connect::ConnectError;
use crate::layers::breaker::BreakerState;
use crate::tls::ProblemKind;
use compact_str::CompactString;
use dashmap::DashMap;
use fairlead_api::Timestamp;
use fairlead_telemetry::metrics::{Counters, Families, FloatGauges, Gauges, Histograms};
use fairlead_telemetry::trace::{self, Wait};
use prometheus::{IntCounter, IntGauge};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// As those of apiserver_request_duration_seconds.
const REQUEST_BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const CONNECT_BUCKETS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 4.0];
const FIRST_BYTE_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];
/// As client-go's.
const CALL_BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const BY_BACKEND: [&str; 1] = ["apiservice"];
const BY_ENDPOINT: [&str; 2] = ["apiservice", "endpoint"];

#[derive(Clone)]
pub struct Metrics {
    unavailable: Gauges,
    unavailable_total: Counters,
    requests: Counters,
    durations: Histograms,
    missing_san: IntCounter,
    sha1: IntCounter,
    openapi_v2: Counters,
    openapi_v2_seconds: FloatGauges,
    calls: Counters,
    call_seconds: Histograms,
    attempts: Counters,
    retries: Counters,
    ejections: Counters,
    connects: Histograms,
    first_bytes: Histograms,
    connections: Gauges,
    healthy: Gauges,
    endpoint_in_flight: Gauges,
    in_flight: Gauges,
    breakers: Gauges,
    hedges: Counters,
    cached: Counters,
    discovery_age: Gauges,
    openapi_age: Gauges,
    confirmed: Arc<DashMap<CompactString, Confirmed>>,
    /// Backend and endpoint of all series there are by endpoint.
    endpoints: Arc<Mutex<BTreeSet<(CompactString, String)>>>,
}

/// When a backend last confirmed what is known of it.
#[derive(Clone, Copy, Default)]
struct Confirmed {
    discovery: Option<Timestamp>,
    openapi: Option<Timestamp>,
}

/// The series of one backend.
#[derive(Clone)]
pub struct BackendMetrics {
    name: CompactString,
    all: Metrics,
    pub in_flight: IntGauge,
}

/// The series of one endpoint that every request touches.
pub struct EndpointMetrics {
    backend: CompactString,
    endpoint: String,
    all: Metrics,
    answered: IntCounter,
}

/// What became of an attempt to send a request to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    Answered,
    /// The endpoint has not seen the request, or says that it has not acted on it.
    NotSent,
    /// It may have.
    Lost,
    /// It does not answer.
    Silent,
    /// It was not waited for any longer.
    Timeout,
    /// The client broke off.
    Canceled,
}

/// One endpoint, as it is when metrics are read.
pub struct EndpointNow {
    pub backend: CompactString,
    pub endpoint: String,
    pub healthy: bool,
    pub in_flight: usize,
}

// === impl Metrics ===

impl Metrics {
    pub fn new(families: &Families) -> Metrics {
        let x509 = |name, help| families.counters(name, help, &[]).with(&[]);
        Metrics {
            unavailable: families.gauges(
                "aggregator_unavailable_apiservice",
                "Whether an APIService is unavailable, by name.",
                &["name"],
            ),
            unavailable_total: families.counters(
                "aggregator_unavailable_apiservice_total",
                "How often an APIService became unavailable, by name and reason.",
                &["name", "reason"],
            ),
            requests: families.counters(
                "apiserver_kube_aggregator_request_total",
                "Requests proxied to extension API servers.",
                &["verb", "group", "version", "code"],
            ),
            durations: families.histograms(
                "apiserver_kube_aggregator_request_duration_seconds",
                "Time until an extension API server answered a proxied request, in seconds.",
                &["verb", "group", "version", "code"],
                &REQUEST_BUCKETS,
            ),
            missing_san: x509(
                "apiserver_kube_aggregator_x509_missing_san_total",
                "Connections to backends whose certificate has no subject alternative name.",
            ),
            sha1: x509(
                "apiserver_kube_aggregator_x509_insecure_sha1_total",
                "Connections to backends whose certificate is signed with SHA-1.",
            ),
            openapi_v2: families.counters(
                "aggregator_openapi_v2_regeneration_count",
                "How often an APIService's OpenAPI v2 document changed, by reason.",
                &["apiservice", "reason"],
            ),
            openapi_v2_seconds: families.float_gauges(
                "aggregator_openapi_v2_regeneration_duration",
                "How long it took to learn an APIService's OpenAPI v2 document when it last changed, in seconds, by reason.",
                &["reason"],
            ),
            calls: families.counters(
                "rest_client_requests_total",
                "Requests to webhooks, by host and code; <error> where there was no answer.",
                &["code", "method", "host"],
            ),
            call_seconds: families.histograms(
                "rest_client_request_duration_seconds",
                "Time until a webhook's answer was read, in seconds.",
                &["verb", "host"],
                &CALL_BUCKETS,
            ),
            attempts: families.counters(
                "fairlead_backend_attempts_total",
                "Attempts to send a request to an endpoint, by what became of them.",
                &["apiservice", "endpoint", "result"],
            ),
            retries: families.counters(
                "fairlead_backend_retries_total",
                "Failed attempts that could safely be repeated: sent again, or denied by the retry budget.",
                &["apiservice", "result"],
            ),
            ejections: families.counters(
                "fairlead_backend_ejections_total",
                "How often an endpoint was left out for a while because it failed.",
                &BY_ENDPOINT,
            ),
            connects: families.histograms(
                "fairlead_backend_connect_duration_seconds",
                "Time to make a connection to an endpoint, TLS included, in seconds.",
                &BY_ENDPOINT,
                &CONNECT_BUCKETS,
            ),
            first_bytes: families.histograms(
                "fairlead_backend_first_byte_duration_seconds",
                "Time from sending a request to an endpoint until its answer begins, in seconds.",
                &BY_ENDPOINT,
                &FIRST_BYTE_BUCKETS,
            ),
            connections: families.gauges(
                "fairlead_backend_connections",
                "Open connections to an endpoint.",
                &BY_ENDPOINT,
            ),
            healthy: families.gauges(
                "fairlead_backend_endpoint_healthy",
                "Whether an endpoint gets requests (1) or is left out because it failed (0).",
                &BY_ENDPOINT,
            ),
            endpoint_in_flight: families.gauges(
                "fairlead_backend_endpoint_inflight_requests",
                "Requests under way to an endpoint, watches included.",
                &BY_ENDPOINT,
            ),
            in_flight: families.gauges(
                "fairlead_backend_inflight_requests",
                "Requests under way to a backend, watches not counted.",
                &BY_BACKEND,
            ),
            breakers: families.gauges(
                "fairlead_backend_breaker_state",
                "The circuit breaker of a backend: 0 closed, 1 half open, 2 open.",
                &BY_BACKEND,
            ),
            hedges: families.counters(
                "fairlead_backend_hedged_requests_total",
                "Requests that were sent to a second endpoint because the first took long.",
                &BY_BACKEND,
            ),
            cached: families.counters(
                "fairlead_backend_cache_requests_total",
                "Requests that the cache could have answered, by whether it did.",
                &["apiservice", "outcome"],
            ),
            discovery_age: families.gauges(
                "fairlead_backend_discovery_age_seconds",
                "How old what is known of a backend's discovery is, in seconds.",
                &BY_BACKEND,
            ),
            openapi_age: families.gauges(
                "fairlead_backend_openapi_age_seconds",
                "How old what is known of a backend's OpenAPI documents is, in seconds.",
                &BY_BACKEND,
            ),
            confirmed: Arc::default(),
            endpoints: Arc::default(),
        }
    }

    pub fn backend(&self, name: &str) -> BackendMetrics {
        BackendMetrics {
            name: name.into(),
            all: self.clone(),
            in_flight: {
                self.breakers.with(&[name]);
                self.in_flight.with(&[name])
            },
        }
    }

    pub fn set_available(&self, name: &str, available: bool) {
        self.unavailable.with(&[name]).set(i64::from(!available));
    }

    pub fn became_unavailable(&self, name: &str, reason: &str) {
        self.unavailable_total.with(&[name, reason]).inc();
    }

    /// After an APIService was deleted.
    pub fn forget(&self, name: &str) {
        self.confirmed.remove(name);
        self.unavailable.remove(&[name]);
        for family in [&self.discovery_age, &self.openapi_age, &self.in_flight, &self.breakers] {
            family.remove(&[name]);
        }
        self.hedges.remove(&[name]);
        for result in ["sent", "denied"] {
            self.retries.remove(&[name, result]);
        }
        for outcome in ["hit", "miss"] {
            self.cached.remove(&[name, outcome]);
        }
    }

    /// The backend confirmed its discovery at `at`.
    pub fn discovery_confirmed(&self, name: &str, at: Timestamp) {
        self.confirmed.entry(name.into()).or_default().discovery = Some(at);
    }

    /// The backend confirmed its OpenAPI documents at `at`.
    pub fn openapi_confirmed(&self, name: &str, at: Timestamp) {
        self.confirmed.entry(name.into()).or_default().openapi = Some(at);
    }

    pub fn openapi_v2_changed(&self, name: &str, reason: &str, took: Duration) {
        self.openapi_v2.with(&[name, reason]).inc();
        self.openapi_v2_seconds.with(&[reason]).set(took.as_secs_f64());
    }

    /// A webhook was called; `code` is that of its answer, where there was one.
    pub fn called(&self, host: &str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.calls.with(&[&code, "POST", host]).inc();
        self.call_seconds
            .observe(&["POST", host], took.as_secs_f64(), trace::sampled());
    }

    pub fn answered(&self, verb: &str, group: &str, version: &str, code: u16, took: Duration) {
        trace::spent(Wait::Backend, took);
        let code = code.to_string();
        let labels = [verb, group, version, code.as_str()];
        self.requests.with(&labels).inc();
        self.durations.observe(&labels, took.as_secs_f64(), trace::sampled());
    }

    /// Brings up to date what says how things are, and drops the series of endpoints that are no more.
    pub fn refresh(&self, now: Timestamp, endpoints: &[EndpointNow]) {
        let age = |at: Timestamp| (now.unix_seconds() - at.unix_seconds()).max(0);
        for confirmed in self.confirmed.iter() {
            let name = [confirmed.key().as_str()];
            if let Some(at) = confirmed.discovery {
                self.discovery_age.with(&name).set(age(at));
            }
            if let Some(at) = confirmed.openapi {
                self.openapi_age.with(&name).set(age(at));
            }
        }
        let mut present = BTreeSet::new();
        for EndpointNow {
            backend,
            endpoint,
            healthy,
            in_flight,
        } in endpoints
        {
            let labels = [backend.as_str(), endpoint.as_str()];
            self.healthy.with(&labels).set(i64::from(*healthy));
            self.endpoint_in_flight
                .with(&labels)
                .set(i64::try_from(*in_flight).unwrap_or(i64::MAX));
            present.insert((backend.clone(), endpoint.clone()));
        }
        let mut known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(backend, endpoint)| {
            // Those of webhooks are not told here.
            let stays = backend == WEBHOOKS || present.contains(&(backend.clone(), endpoint.clone()));
            if !stays {
                self.drop_endpoint(backend, endpoint);
            }
            stays
        });
    }

    fn drop_endpoint(&self, backend: &str, endpoint: &str) {
        let labels = [backend, endpoint];
        for family in [&self.healthy, &self.endpoint_in_flight, &self.connections] {
            family.remove(&labels);
        }
        self.connects.remove(&labels);
        self.first_bytes.remove(&labels);
        self.ejections.remove(&labels);
        for result in Attempted::ALL {
            self.attempts.remove(&[backend, endpoint, result.name()]);
        }
    }
}

/// What stands in for an APIService's name in the series of webhooks, whose endpoints are not told apart.
pub const WEBHOOKS: &str = "webhook";

// === impl BackendMetrics ===

impl BackendMetrics {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn all(&self) -> &Metrics {
        &self.all
    }

    /// The series of an endpoint, by host and port.
    pub fn endpoint(&self, authority: &str) -> EndpointMetrics {
        let endpoint = if self.name == WEBHOOKS { "" } else { authority };
        let mut known = self.all.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((self.name.clone(), endpoint.to_owned()));
        EndpointMetrics {
            answered: self
                .all
                .attempts
                .with(&[&self.name, endpoint, Attempted::Answered.name()]),
            backend: self.name.clone(),
            endpoint: endpoint.to_owned(),
            all: self.all.clone(),
        }
    }

    /// A failed attempt is repeated, or would be if the budget allowed it.
    pub fn retried(&self, allowed: bool) {
        let result = if allowed { "sent" } else { "denied" };
        self.all.retries.with(&[&self.name, result]).inc();
    }

    pub fn breaker(&self, state: BreakerState) {
        self.all.breakers.with(&[&self.name]).set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }

    pub fn hedged(&self) {
        self.all.hedges.with(&[&self.name]).inc();
    }

    /// Whether what was kept was the answer.
    pub fn cached(&self, hit: bool) {
        let outcome = if hit { "hit" } else { "miss" };
        self.all.cached.with(&[&self.name, outcome]).inc();
    }
}

// === impl EndpointMetrics ===

impl EndpointMetrics {
    fn labels(&self) -> [&str; 2] {
        [&self.backend, &self.endpoint]
    }

    pub fn attempted(&self, result: Attempted) {
        trace::attempted();
        match result {
            Attempted::Answered => self.answered.inc(),
            failed => self
                .all
                .attempts
                .with(&[&self.backend, &self.endpoint, failed.name()])
                .inc(),
        }
    }

    /// From handing a request to a connection until the answer's head was there.
    pub fn first_byte(&self, took: Duration) {
        self.all
            .first_bytes
            .observe(&self.labels(), took.as_secs_f64(), trace::sampled());
    }

    pub fn ejected(&self) {
        self.all.ejections.with(&self.labels()).inc();
    }

    pub fn connected(&self, took: Duration, error: Option<&ConnectError>) {
        trace::spent(Wait::Connect, took);
        self.all
            .connects
            .observe(&self.labels(), took.as_secs_f64(), trace::sampled());
        if let Some(error) = error {
            self.failed_to_connect(error);
        }
    }

    pub fn failed_to_connect(&self, error: &ConnectError) {
        tracing::debug!(backend = self.backend.as_str(), error = error.text, "no connection");
        match error.problem {
            Some(ProblemKind::MissingSan) => self.all.missing_san.inc(),
            Some(ProblemKind::Sha1) => self.all.sha1.inc(),
            _ => {}
        }
    }

    /// Counts an open connection until what is returned is dropped.
    pub fn connection(&self) -> Open {
        let gauge = self.all.connections.with(&self.labels());
        gauge.inc();
        Open(gauge)
    }
}

/// An open connection in its gauge.
pub struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Attempted {
    const ALL: [Attempted; 6] = [
        Attempted::Answered,
        Attempted::NotSent,
        Attempted::Lost,
        Attempted::Silent,
        Attempted::Timeout,
        Attempted::Canceled,
    ];

    fn name(self) -> &'static str {
        match self {
            Attempted::Answered => "answered",
            Attempted::NotSent => "not_sent",
            Attempted::Lost => "lost",
            Attempted::Silent => "silent",
            Attempted::Timeout => "timeout",
            Attempted::Canceled => "canceled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_telemetry::text;

    fn shown(families: &Families) -> String {
        let mut out = String::new();
        text::write(&families.gather(), &mut out);
        out
    }

    #[test]
    fn series_of_endpoints_that_are_gone_are_dropped() {
        let families = Families::default();
        let metrics = Metrics::new(&families);
        let backend = metrics.backend("v1.example.com");
        let now = Timestamp::from_unix_seconds(100);
        for i in 0..50 {
            let endpoint = backend.endpoint(&format!("192.0.2.{i}:443"));
            endpoint.attempted(Attempted::Answered);
            endpoint.attempted(Attempted::Silent);
            endpoint.first_byte(Duration::from_millis(1));
            endpoint.connected(Duration::from_millis(1), None);
            endpoint.ejected();
            drop(endpoint.connection());
        }
        let present = [EndpointNow {
            backend: "v1.example.com".into(),
            endpoint: "192.0.2.7:443".into(),
            healthy: true,
            in_flight: 3,
        }];
        metrics.refresh(now, &present);
        let out = shown(&families);
        assert!(out.contains(
            "fairlead_backend_endpoint_healthy{apiservice=\"v1.example.com\",endpoint=\"192.0.2.7:443\"} 1\n"
        ));
        let others = out
            .lines()
            .filter(|l| l.contains("192.0.2.") && !l.contains("192.0.2.7:443"));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
    }

    #[test]
    fn ages_are_as_of_the_reading() {
        let families = Families::default();
        let metrics = Metrics::new(&families);
        metrics.discovery_confirmed("v1.example.com", Timestamp::from_unix_seconds(100));
        metrics.openapi_confirmed("v1.example.com", Timestamp::from_unix_seconds(103));
        metrics.refresh(Timestamp::from_unix_seconds(110), &[]);
        let out = shown(&families);
        assert!(
            out.contains("fairlead_backend_discovery_age_seconds{apiservice=\"v1.example.com\"} 10\n"),
            "{out}"
        );
        assert!(
            out.contains("fairlead_backend_openapi_age_seconds{apiservice=\"v1.example.com\"} 7\n"),
            "{out}"
        );
        metrics.forget("v1.example.com");
        metrics.refresh(Timestamp::from_unix_seconds(120), &[]);
        assert!(!shown(&families).contains("age_seconds{"));
    }
}
