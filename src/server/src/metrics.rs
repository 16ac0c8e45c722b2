//! The server's metric families, with upstream's names, labels and buckets.
// PERFORMANCE: per-request path

use crate::request_info::RequestInfo;
use fairlead_discovery::Router;
use fairlead_telemetry::{Counters, Families, Gauges, Histograms};
use std::ops::Deref;
use std::sync::Arc;

/// One handle, cheap to clone: every request holds one.
#[derive(Clone)]
pub struct Metrics(Arc<Registered>);

/// The families.
#[derive(Clone)]
pub struct Registered {
    router: Option<Router>,
    pub requests: Counters,
    pub latency: Histograms,
    pub sli_latency: Histograms,
    pub response_sizes: Histograms,
    pub body_sizes: Histograms,
    pub inflight: Gauges,
    pub inqueue: Gauges,
    pub long_running: Gauges,
    pub deprecated: Gauges,
    pub terminations: Counters,
    pub aborts: Counters,
    pub post_timeouts: Counters,
    pub filter_latency: Histograms,
    pub field_validation_latency: Histograms,
    pub watch_events: Counters,
    pub watch_event_sizes: Histograms,
    pub watch_list_latency: Histograms,
    pub tls_errors: Counters,
    pub authentication_attempts: Counters,
    pub authentication_latency: Histograms,
    pub client_certificates: Histograms,
    pub authenticated_users: Counters,
    pub authorization_attempts: Counters,
    pub authorization_latency: Histograms,
}

const LATENCY: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const SIZES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const FILTERS: [f64; 13] = [
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 10.0, 15.0, 30.0,
];
const WATCH_SIZES: [f64; 8] = [1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0];
const WATCH_LIST: [f64; 17] = [
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
const CERTIFICATES: [f64; 14] = [
    0.0,
    0.5 * HOUR,
    HOUR,
    2.0 * HOUR,
    6.0 * HOUR,
    12.0 * HOUR,
    DAY,
    2.0 * DAY,
    4.0 * DAY,
    7.0 * DAY,
    30.0 * DAY,
    90.0 * DAY,
    180.0 * DAY,
    360.0 * DAY,
];

/// Labels of a request, after the verb.
const TARGET: [&str; 7] = [
    "verb",
    "group",
    "version",
    "resource",
    "subresource",
    "scope",
    "component",
];
const COUNTED: [&str; 9] = [
    "verb",
    "dry_run",
    "group",
    "version",
    "resource",
    "subresource",
    "scope",
    "component",
    "code",
];

impl Metrics {
    /// The same, of a server that serves what `router` knows.
    pub fn of(self, router: Router) -> Metrics {
        Metrics(Arc::new(Registered {
            router: Some(router),
            ..Registered::clone(&self)
        }))
    }

    /// Whether a request's group, version and resource exist; others are no label values.
    pub fn serves(&self, info: &RequestInfo) -> bool {
        let known = |router: &Router| {
            router
                .load()
                .route(&info.group, &info.version, &info.resource)
                .is_some()
        };
        self.router.as_ref().is_some_and(known)
    }

    pub fn register(families: &Families) -> Metrics {
        let auth: Vec<f64> = (0..15).map(|i| 0.001 * f64::from(1 << i)).collect();
        let bodies: Vec<f64> = (0..31).map(|i| 50_000.0 + 100_000.0 * f64::from(i)).collect();
        Metrics(Arc::new(Registered {
            router: None,
            requests: families.counters(
                "apiserver_request_total",
                "Requests by verb, dry run, group, version, resource, scope, component and code.",
                &COUNTED,
            ),
            latency: families.histograms(
                "apiserver_request_duration_seconds",
                "Time to the end of a request in seconds.",
                &COUNTED[..8],
                &LATENCY,
            ),
            sli_latency: families.histograms(
                "apiserver_request_sli_duration_seconds",
                "Time to the end of a request in seconds, without webhooks and queues.",
                &TARGET,
                &LATENCY[2..],
            ),
            response_sizes: families.histograms(
                "apiserver_response_sizes",
                "Size of answers to reads in bytes.",
                &TARGET,
                &SIZES,
            ),
            body_sizes: families.histograms(
                "apiserver_request_body_size_bytes",
                "Size of request bodies in bytes.",
                &["group", "resource", "verb"],
                &bodies,
            ),
            inflight: families.gauges(
                "apiserver_current_inflight_requests",
                "Requests being served, by kind.",
                &["request_kind"],
            ),
            inqueue: families.gauges(
                "apiserver_current_inqueue_requests",
                "Requests waiting to be served, by kind.",
                &["request_kind"],
            ),
            long_running: families.gauges("apiserver_longrunning_requests", "Long-running requests.", &TARGET),
            deprecated: families.gauges(
                "apiserver_requested_deprecated_apis",
                "Deprecated APIs that were asked for.",
                &["group", "version", "resource", "subresource", "removed_release"],
            ),
            terminations: families.counters(
                "apiserver_request_terminations_total",
                "Requests the server gave up in self-defence.",
                &[
                    "verb",
                    "group",
                    "version",
                    "resource",
                    "subresource",
                    "scope",
                    "component",
                    "code",
                ],
            ),
            aborts: families.counters(
                "apiserver_request_aborts_total",
                "Requests that were aborted, possibly by a timeout.",
                &["verb", "group", "version", "resource", "subresource", "scope"],
            ),
            post_timeouts: families.counters(
                "apiserver_request_post_timeout_total",
                "Requests whose handling ended after they had timed out.",
                &["source", "status"],
            ),
            filter_latency: families.histograms(
                "apiserver_request_filter_duration_seconds",
                "Time spent in a filter in seconds.",
                &["filter"],
                &FILTERS,
            ),
            field_validation_latency: families.histograms(
                "field_validation_request_duration_seconds",
                "Time to the end of a request in seconds, by field validation.",
                &["field_validation"],
                &LATENCY[2..],
            ),
            watch_events: families.counters(
                "apiserver_watch_events_total",
                "Events sent to watchers.",
                &["group", "version", "resource"],
            ),
            watch_event_sizes: families.histograms(
                "apiserver_watch_events_sizes",
                "Size of events sent to watchers in bytes.",
                &["group", "version", "resource"],
                &WATCH_SIZES,
            ),
            watch_list_latency: families.histograms(
                "apiserver_watch_list_duration_seconds",
                "Time until a watch has sent its initial events in seconds.",
                &["group", "version", "resource", "scope"],
                &WATCH_LIST,
            ),
            tls_errors: families.counters(
                "apiserver_tls_handshake_errors_total",
                "Connections that were dropped in the TLS handshake.",
                &[],
            ),
            authentication_attempts: families.counters(
                "authentication_attempts",
                "Authentication attempts by result.",
                &["result"],
            ),
            authentication_latency: families.histograms(
                "authentication_duration_seconds",
                "Time spent in authentication in seconds, by result.",
                &["result"],
                &auth,
            ),
            client_certificates: families.histograms(
                "apiserver_client_certificate_expiration_seconds",
                "How long the certificates of clients are still valid, in seconds.",
                &[],
                &CERTIFICATES,
            ),
            authenticated_users: families.counters(
                "authenticated_user_requests",
                "Authenticated requests by user.",
                &["username"],
            ),
            authorization_attempts: families.counters(
                "authorization_attempts_total",
                "Authorization attempts by result.",
                &["result"],
            ),
            authorization_latency: families.histograms(
                "authorization_duration_seconds",
                "Time spent in authorization in seconds, by result.",
                &["result"],
                &auth,
            ),
        }))
    }
}

impl Deref for Metrics {
    type Target = Registered;

    fn deref(&self) -> &Registered {
        &self.0
    }
}
