//! The gateway's families: kube-aggregator's names, and what they do not tell.

use crate::connect::ConnectError;
use crate::layers::breaker::BreakerState;
use crate::tls::ProblemKind;
use compact_str::CompactString;
use fairlead_telemetry::metrics::{Counters, Families, Gauges, Histograms};
use prometheus::{Histogram, IntCounter, IntGauge};
use std::time::Duration;

/// As those of apiserver_request_duration_seconds.
const REQUEST_BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const FIRST_BYTE_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];
const CONNECT_BUCKETS: [f64; 8] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 4.0];

#[derive(Clone)]
pub struct Metrics {
    unavailable: Gauges,
    unavailable_total: Counters,
    requests: Counters,
    durations: Histograms,
    missing_san: IntCounter,
    sha1: IntCounter,
    attempts: Counters,
    ejections: Counters,
    connects: Histograms,
    in_flight: Gauges,
    first_bytes: Histograms,
    breakers: Gauges,
    hedges: Counters,
    cached: Counters,
    discovery_age: Gauges,
    openapi_v2: Counters,
}

/// The series of one backend.
#[derive(Clone)]
pub struct BackendMetrics {
    name: CompactString,
    all: Metrics,
    answered: IntCounter,
    ejections: IntCounter,
    connects: Histogram,
    first_bytes: Histogram,
    breaker: IntGauge,
    hedges: IntCounter,
    pub in_flight: IntGauge,
}

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
            attempts: families.counters(
                "fairlead_backend_attempts_total",
                "Attempts to send a request to an endpoint, by what became of them.",
                &["apiservice", "outcome"],
            ),
            ejections: families.counters(
                "fairlead_backend_ejections_total",
                "How often an endpoint was left out for a while because it failed.",
                &["apiservice"],
            ),
            connects: families.histograms(
                "fairlead_backend_connect_duration_seconds",
                "Time to make a connection to an endpoint, TLS included, in seconds.",
                &["apiservice"],
                &CONNECT_BUCKETS,
            ),
            in_flight: families.gauges(
                "fairlead_backend_inflight_requests",
                "Requests under way to a backend, watches not counted.",
                &["apiservice"],
            ),
            first_bytes: families.histograms(
                "fairlead_backend_first_byte_duration_seconds",
                "Time from sending a request to an endpoint until its answer begins, in seconds.",
                &["apiservice"],
                &FIRST_BYTE_BUCKETS,
            ),
            breakers: families.gauges(
                "fairlead_backend_breaker_state",
                "The circuit breaker of a backend: 0 closed, 1 half open, 2 open.",
                &["apiservice"],
            ),
            hedges: families.counters(
                "fairlead_backend_hedged_requests_total",
                "Requests that were sent to a second endpoint because the first took long.",
                &["apiservice"],
            ),
            cached: families.counters(
                "fairlead_backend_cache_requests_total",
                "Requests that the cache could have answered, by whether it did.",
                &["apiservice", "outcome"],
            ),
            discovery_age: families.gauges(
                "fairlead_backend_discovery_age_seconds",
                "How old what is known of a backend's discovery is, in seconds.",
                &["apiservice"],
            ),
            openapi_v2: families.counters(
                "aggregator_openapi_v2_regeneration_count",
                "How often an APIService's OpenAPI v2 document changed, by reason.",
                &["apiservice", "reason"],
            ),
        }
    }

    pub fn backend(&self, name: &str) -> BackendMetrics {
        BackendMetrics {
            name: name.into(),
            all: self.clone(),
            answered: self.attempts.with(&[name, "answered"]),
            ejections: self.ejections.with(&[name]),
            connects: self.connects.with(&[name]),
            first_bytes: self.first_bytes.with(&[name]),
            breaker: self.breakers.with(&[name]),
            hedges: self.hedges.with(&[name]),
            in_flight: self.in_flight.with(&[name]),
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
        self.unavailable.remove(&[name]);
        self.discovery_age.remove(&[name]);
        self.in_flight.remove(&[name]);
        self.breakers.remove(&[name]);
    }

    pub fn set_discovery_age(&self, name: &str, age: Duration) {
        self.discovery_age
            .with(&[name])
            .set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    pub fn openapi_v2_changed(&self, name: &str, reason: &str) {
        self.openapi_v2.with(&[name, reason]).inc();
    }

    pub fn answered(&self, verb: &str, group: &str, version: &str, code: u16, took: Duration) {
        let code = code.to_string();
        let labels = [verb, group, version, code.as_str()];
        self.requests.with(&labels).inc();
        self.durations.with(&labels).observe(took.as_secs_f64());
    }
}

impl BackendMetrics {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn all(&self) -> &Metrics {
        &self.all
    }

    pub fn answered(&self) {
        self.answered.inc();
    }

    pub fn attempted(&self, outcome: &str) {
        self.all.attempts.with(&[&self.name, outcome]).inc();
    }

    pub fn ejected(&self) {
        self.ejections.inc();
    }

    pub fn first_byte(&self, took: Duration) {
        self.first_bytes.observe(took.as_secs_f64());
    }

    pub fn breaker(&self, state: BreakerState) {
        self.breaker.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }

    pub fn hedged(&self) {
        self.hedges.inc();
    }

    /// Whether what was kept was the answer.
    pub fn cached(&self, hit: bool) {
        let outcome = if hit { "hit" } else { "miss" };
        self.all.cached.with(&[&self.name, outcome]).inc();
    }

    pub fn connected(&self, took: Duration, error: Option<&ConnectError>) {
        self.connects.observe(took.as_secs_f64());
        if let Some(error) = error {
            self.failed_to_connect(error);
        }
    }

    pub fn failed_to_connect(&self, error: &ConnectError) {
        tracing::debug!(backend = self.name.as_str(), error = error.text, "no connection");
        match error.problem {
            Some(ProblemKind::MissingSan) => self.all.missing_san.inc(),
            Some(ProblemKind::Sha1) => self.all.sha1.inc(),
            _ => {}
        }
    }
}
