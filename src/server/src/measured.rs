//! [`Measured`]: one request in the metrics, from its arrival until the last byte of its answer.
// PERFORMANCE: per-request path

use crate::body::{Body, Hold, Response};
use crate::metrics::Metrics;
use crate::request::Known;
use crate::request_info::RequestInfo;
use fairlead_resource::ResourceDefinition;
use fairlead_telemetry::metrics::{IntGauge, OTHER};
use fairlead_telemetry::trace::{self, Scope, Wait};
use http::Method;
use http::header::CONTENT_TYPE;
use std::sync::Arc;
use tokio::time::Instant;

/// Measures a request until the last byte of its answer.
pub struct Measured {
    metrics: Metrics,
    target: Target,
    dry_run: String,
    started: Instant,
    scope: Option<Arc<Scope>>,
    code: u16,
    _running: Option<Running>,
}

/// What a request is about, as metrics tell it. No value of it is a client's choice: what is not served reads `other`.
#[derive(Clone)]
pub struct Target {
    pub verb: &'static str,
    info: RequestInfo,
    subresource: &'static str,
    own_subresource: bool,
    component: &'static str,
}

/// A long-running request in its gauge.
struct Running(IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

// === impl Measured ===

impl Measured {
    /// A request for a resource that is served here.
    pub fn resource(metrics: &Metrics, known: &Known, definition: &ResourceDefinition) -> Measured {
        let target = Target::resource(known, definition);
        if definition.warning.is_some() {
            let [_, group, version, resource, subresource, ..] = target.labels();
            metrics
                .deprecated
                .with(&[group, version, resource, subresource, ""])
                .set(1);
        }
        Measured::start(metrics, known, target)
    }

    /// A request for one of the server's own documents; `None` for those that upstream does not count either.
    pub fn document(metrics: &Metrics, known: &Known) -> Option<Measured> {
        let aggregated = || crate::request::header(&known.parts.headers, http::header::ACCEPT).contains("apidiscovery");
        let (resource, subresource, component) = match known.info.path.as_str() {
            "/livez" => ("", "/livez", ""),
            "/readyz" => ("", "/readyz", ""),
            "/healthz" => ("", "/healthz", ""),
            "/openapi/v3" => ("", "openapi/v3", ""),
            path if path.starts_with("/openapi/v3/") => ("", "openapi/v3/", ""),
            "/api" if aggregated() => ("", "/api", APISERVER),
            "/apis" if aggregated() => ("", "/apis", APISERVER),
            "/statusz" => ("statusz", "", APISERVER),
            "/flagz" => ("flagz", "", APISERVER),
            _ => return None,
        };
        let target = Target {
            verb: verb(&known.info, &known.parts.method, false),
            info: RequestInfo {
                resource: resource.into(),
                ..RequestInfo::default()
            },
            subresource,
            own_subresource: false,
            component,
        };
        Some(Measured::start(metrics, known, target))
    }

    fn start(metrics: &Metrics, known: &Known, target: Target) -> Measured {
        let running = known.info.long_running().then(|| {
            let gauge = metrics.long_running.with(&target.labels());
            gauge.inc();
            Running(gauge)
        });
        Measured {
            metrics: metrics.clone(),
            target,
            dry_run: dry_run(&known.query),
            started: known.at,
            scope: trace::current(),
            code: 0,
            _running: running,
        }
    }

    /// Records now where all of the answer is here, else when it has been sent.
    pub fn finish_with(mut self, response: &mut Response) {
        self.code = response.status().as_u16();
        let body: &mut Body = response.body_mut();
        match body.is_whole() {
            true => self.record(body.len().unwrap_or(0)),
            false => body.hold(self),
        }
    }

    fn record(&mut self, sent: u64) {
        let elapsed = self.started.elapsed();
        let target @ [verb, group, version, resource, subresource, scope, component] = self.target.labels();
        let code = self.code.to_string();
        let counted = [
            verb,
            &self.dry_run,
            group,
            version,
            resource,
            subresource,
            scope,
            component,
            &code,
        ];
        let trace = self.scope.as_deref().and_then(Scope::sampled);
        self.metrics.requests.with(&counted).inc();
        self.metrics
            .latency
            .observe(&counted[..8], elapsed.as_secs_f64(), trace);
        if self.dry_run.is_empty() {
            // What others take is not this server's latency.
            let others = |wait| self.scope.as_deref().map(|s| s.spent(wait)).unwrap_or_default();
            let own = elapsed.saturating_sub(others(Wait::Webhook) + others(Wait::Queue));
            self.metrics.sli_latency.observe(&target, own.as_secs_f64(), trace);
        }
        if matches!(verb, "GET" | "LIST") {
            self.metrics.response_sizes.with(&target).observe(sent as f64);
        }
    }
}

impl Hold for Measured {
    fn released(&mut self, sent: u64) {
        self.record(sent);
    }
}

// === impl Target ===

const APISERVER: &str = "apiserver";

impl Target {
    fn resource(known: &Known, definition: &ResourceDefinition) -> Target {
        let apply = known.header(CONTENT_TYPE) == "application/apply-patch+yaml";
        let subresource = known.info.subresource.as_str();
        let own_subresource = subresource.is_empty() || definition.subresource(subresource).is_some();
        Target {
            verb: verb(&known.info, &known.parts.method, apply),
            info: known.info.clone(),
            subresource: OTHER,
            own_subresource,
            component: APISERVER,
        }
    }

    /// Of a request that was not routed yet. `served` tells whether its group, version and resource exist.
    pub fn unrouted(info: &RequestInfo, method: &Method, served: bool) -> Target {
        let verb = verb(info, method, false);
        if info.resource_request && served {
            return Target {
                verb,
                info: info.clone(),
                subresource: if info.subresource.is_empty() { "" } else { OTHER },
                own_subresource: false,
                component: APISERVER,
            };
        }
        let other = RequestInfo {
            resource: if info.resource_request { OTHER } else { "" }.into(),
            ..RequestInfo::default()
        };
        Target {
            verb,
            info: other,
            subresource: if info.resource_request { "" } else { path(&info.path) },
            own_subresource: false,
            component: APISERVER,
        }
    }

    /// verb, group, version, resource, subresource, scope, component.
    pub fn labels(&self) -> [&str; 7] {
        let subresource = if self.own_subresource {
            self.info.subresource.as_str()
        } else {
            self.subresource
        };
        [
            self.verb,
            &self.info.group,
            &self.info.version,
            &self.info.resource,
            subresource,
            self.info.scope(),
            self.component,
        ]
    }
}

/// The verb as metrics name it. `apply` tells a server-side apply from other patches.
pub fn verb(info: &RequestInfo, method: &Method, apply: bool) -> &'static str {
    match info.verb.as_str() {
        "watch" if info.resource_request => "WATCH",
        _ if matches!(
            info.subresource.as_str(),
            "attach" | "exec" | "log" | "portforward" | "proxy"
        ) =>
        {
            "CONNECT"
        }
        _ => match *method {
            Method::GET | Method::HEAD if matches!(info.scope(), "resource" | "") => "GET",
            Method::GET | Method::HEAD => "LIST",
            Method::PATCH if apply => "APPLY",
            Method::PATCH => "PATCH",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE if info.verb == "deletecollection" => "DELETECOLLECTION",
            Method::DELETE => "DELETE",
            _ => OTHER,
        },
    }
}

/// A path that is no resource's, cut down to those that there are.
fn path(path: &str) -> &'static str {
    const WHOLE: [&str; 13] = [
        "/",
        "/api",
        "/apis",
        "/flagz",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/statusz",
        "/version",
    ];
    const BELOW: [&str; 9] = [
        "/api/",
        "/apis/",
        "/debug/",
        "/healthz/",
        "/livez/",
        "/openapi/v3/",
        "/openid/",
        "/readyz/",
        "/ui/",
    ];
    let whole = WHOLE.iter().find(|known| **known == path);
    let below = || BELOW.iter().find(|known| path.starts_with(**known));
    whole.or_else(below).copied().unwrap_or(OTHER)
}

/// `All`, nothing, or `invalid`.
fn dry_run(query: &[(String, String)]) -> String {
    let mut values: Vec<&str> = query
        .iter()
        .filter(|(k, _)| k == "dryRun")
        .map(|(_, v)| v.as_str())
        .collect();
    values.sort_unstable();
    values.dedup();
    if values.iter().all(|v| *v == "All") {
        values.join(",")
    } else {
        "invalid".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::request_info::tests::known;
    use fairlead_telemetry::Families;
    use std::collections::HashSet;

    #[test]
    fn verbs_are_upstreams() {
        for (method, uri, expected) in [
            ("GET", "/api/v1/namespaces/n/pods/p", "GET"),
            ("HEAD", "/api/v1/pods", "LIST"),
            ("GET", "/api/v1/pods?watch=1", "WATCH"),
            ("GET", "/api/v1/namespaces/n/pods/p/log", "CONNECT"),
            ("DELETE", "/api/v1/namespaces/n/pods", "DELETECOLLECTION"),
            ("BREW", "/api/v1/pods", "other"),
            ("GET", "/livez", "GET"),
        ] {
            let known = known(method, uri);
            assert_eq!(
                verb(&known.info, &known.parts.method, false),
                expected,
                "{method} {uri}"
            );
        }
    }

    #[test]
    fn cve_2020_8552_labels_are_no_clients_choice() {
        let mut seen = HashSet::new();
        for i in 0..10_000 {
            for uri in [
                format!("/api/v1/r{i}"),
                format!("/apis/g{i}.example.com/v1/things/n/s{i}"),
                format!("/p{i}"),
                format!("/debug/{i}"),
                format!("/api/v{i}"),
            ] {
                let known = known(&format!("M{i}"), &uri);
                let target = Target::unrouted(&known.info, &known.parts.method, false);
                seen.insert(target.labels().map(str::to_owned));
            }
        }
        assert!(seen.len() < 10, "{seen:?}");
    }

    #[test]
    fn own_documents_are_counted_as_upstream_does() {
        let metrics = Metrics::register(&Families::default());
        let labels = |uri: &str| Measured::document(&metrics, &known("GET", uri)).map(|m| m.target.labels().join("|"));
        assert_eq!(labels("/livez").unwrap(), "GET||||/livez||");
        assert_eq!(labels("/openapi/v3/apis/apps/v1").unwrap(), "GET||||openapi/v3/||");
        assert_eq!(labels("/statusz").unwrap(), "GET|||statusz|||apiserver");
        assert_eq!(labels("/apis"), None);
        assert_eq!(labels("/livez/ping"), None);
    }
}
