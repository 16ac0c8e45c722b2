//! The server's own paths: `/`, `/version`, `/metrics`, health, `/statusz`, `/flagz`, OpenID discovery. Everything else is not found.

use crate::body::Response;
use crate::encode;
use crate::measured::Target;
use crate::metrics::Metrics;
use crate::negotiate::Route;
use crate::page;
use crate::request::Known;
use crate::request_info::RequestInfo;
use crate::router::{Shared, failure};
use crate::zpages;
use fairlead_api::{Status, json, node};
use fairlead_discovery::{RoutingSnapshot, report};
use fairlead_telemetry::health::Endpoint;
use fairlead_telemetry::{openmetrics, process, text};
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderValue, Method};

/// Answers one of the server's own paths.
pub async fn serve(shared: &Shared, snapshot: &RoutingSnapshot, known: &Known) -> Response {
    let path = known.info.path.as_str();
    for endpoint in Endpoint::ALL {
        let Some(rest) = path.strip_prefix('/').and_then(|p| p.strip_prefix(endpoint.name())) else {
            continue;
        };
        match rest.strip_prefix('/') {
            None if rest.is_empty() => return health(shared, known, endpoint).await,
            Some(name) => return check(shared, endpoint, name).await,
            None => {}
        }
    }
    match path {
        "/" | "/index.html" => index(shared, snapshot),
        "/version" | "/version/" => version(shared, known),
        _ if path.starts_with("/version/") => failure(&Status::no_such_resource(), known),
        "/metrics" => metrics(shared, known),
        "/debug/aggregation" => aggregation(shared, snapshot, known),
        crate::backup::PATH => crate::backup::serve(shared, known).await,
        "/metrics/slis" => encode::whole(200, text::CONTENT_TYPE, slis(shared).await.into(), false),
        "/statusz" if shared.settings.pages.statusz => {
            zpages::statusz(&shared.settings.pages, &paths(shared, snapshot), known)
        }
        "/flagz" => match &shared.settings.pages.flagz {
            Some(flags) => zpages::flagz(flags, known),
            None => encode::page_not_found(),
        },
        "/.well-known/openid-configuration" | "/openid/v1/jwks" => openid(shared, known),
        _ if shared.settings.page && path.starts_with("/ui") => {
            page::serve(known).unwrap_or_else(encode::page_not_found)
        }
        _ => crate::openapi::serve(shared, snapshot, known).unwrap_or_else(encode::page_not_found),
    }
}

async fn health(shared: &Shared, known: &Known, endpoint: Endpoint) -> Response {
    let exclude: Vec<String> = known
        .query
        .iter()
        .filter(|(k, _)| k == "exclude")
        .map(|(_, v)| v.clone())
        .collect();
    let report = shared.services.health.all(endpoint, &exclude).await;
    if !report.healthy {
        return encode::text(500, report.text);
    }
    match known.query("verbose") {
        Some(_) => encode::text(200, report.text),
        None => encode::text(200, "ok"),
    }
}

async fn check(shared: &Shared, endpoint: Endpoint, name: &str) -> Response {
    match shared.services.health.one(endpoint, name).await {
        None => encode::page_not_found(),
        Some(Ok(())) => encode::whole(200, "text/plain; charset=utf-8", "ok".into(), false),
        Some(Err(why)) => encode::text(500, format!("internal server error: {why}\n")),
    }
}

fn version(shared: &Shared, known: &Known) -> Response {
    if known.parts.method != Method::GET {
        return failure(&Status::method_not_allowed(), known);
    }
    if let Err(status) = Route::JsonOnly.check(&known.parts.headers) {
        return failure(&status, known);
    }
    encode::whole(
        200,
        "application/json",
        encode::indented(&shared.settings.version).into(),
        false,
    )
}

/// The text format, or OpenMetrics for scrapers that want it more, with exemplars.
fn metrics(shared: &Shared, known: &Known) -> Response {
    let families = &shared.services.families;
    let mut out = String::with_capacity(256 * 1024);
    let gzip = encode::accepts_gzip(&known.parts.headers);
    if openmetrics::is_wanted(known.header(ACCEPT)) {
        let own = |out: &mut String| process::write(text::Format::OpenMetrics, out);
        openmetrics::write(families, own, &mut out);
        return encode::whole(200, openmetrics::CONTENT_TYPE, out.into(), gzip);
    }
    text::write(&families.gather(), &mut out);
    process::write(text::Format::Text, &mut out);
    encode::whole(200, text::CONTENT_TYPE, out.into(), gzip)
}

/// Who serves each group-version: JSON, or a table for people (`?format=text`, or a client that accepts only text).
fn aggregation(shared: &Shared, snapshot: &RoutingSnapshot, known: &Known) -> Response {
    if known.parts.method != Method::GET {
        return failure(&Status::method_not_allowed(), known);
    }
    let Some(found) = shared.services.remote.report(snapshot, &*shared.services.components) else {
        return encode::page_not_found();
    };
    let accept = crate::request::header(&known.parts.headers, http::header::ACCEPT);
    if known.query("format") == Some("text") || accept.starts_with("text/plain") {
        return encode::whole(200, "text/plain; charset=utf-8", report::text(&found).into(), false);
    }
    let json = encode::indented(&json::to_vec(&found));
    encode::whole(200, "application/json", json.into(), false)
}

/// Health as metrics: the outcome of every check now, and how often it was asked for here with which outcome.
async fn slis(shared: &Shared) -> String {
    let families = &shared.health_families;
    let now = families.gauges(
        "kubernetes_healthcheck",
        "The result of health checks.",
        &["name", "type"],
    );
    let total = families.counters(
        "kubernetes_healthchecks_total",
        "Results of health checks so far.",
        &["name", "status", "type"],
    );
    for endpoint in Endpoint::ALL {
        for name in shared.services.health.names(endpoint) {
            let healthy = matches!(shared.services.health.one(endpoint, &name).await, Some(Ok(())));
            let status = if healthy { "success" } else { "error" };
            now.with(&[&name, endpoint.name()]).set(i64::from(healthy));
            total.with(&[&name, status, endpoint.name()]).inc();
        }
    }
    let mut out = String::new();
    let mut told = families.gather();
    told.retain(|family| family.name().starts_with("kubernetes_"));
    text::write(&told, &mut out);
    out
}

/// COMPAT: the configuration is JSON whatever is accepted; the key set has a media type of its own.
fn openid(shared: &Shared, known: &Known) -> Response {
    let Some(openid) = &shared.settings.openid else {
        return encode::page_not_found();
    };
    if known.parts.method != Method::GET {
        return failure(&Status::method_not_allowed(), known);
    }
    let keys = known.info.path.ends_with("jwks");
    let accept = crate::request::header(&known.parts.headers, http::header::ACCEPT);
    let produces = if keys {
        "application/jwk-set+json"
    } else {
        "application/json"
    };
    let acceptable = accept.is_empty()
        || accept
            .split(',')
            .any(|c| matches!(c.split(';').next().map(str::trim), Some(t) if t == "*/*" || t == produces));
    if !acceptable {
        let status = Status::not_acceptable(format!("406: Not Acceptable\n\nAvailable representations: {produces}"))
            .with_details(fairlead_api::status::Details::default());
        return failure(&status, known);
    }
    let bytes = if keys { &openid.keys } else { &openid.configuration };
    let mut response = encode::whole(200, produces, bytes.clone(), false);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

/// `/`: every path there is. COMPAT: JSON, whatever is accepted.
fn index(shared: &Shared, snapshot: &RoutingSnapshot) -> Response {
    let document = node!({ "paths": (paths(shared, snapshot)) });
    encode::whole(
        200,
        "application/json",
        encode::indented(&json::to_vec(&document)).into(),
        false,
    )
}

/// Every path there is, sorted.
fn paths(shared: &Shared, snapshot: &RoutingSnapshot) -> Vec<String> {
    let mut paths: Vec<String> = ["/apis", "/apis/", "/metrics", "/metrics/slis", "/openapi/v2"]
        .into_iter()
        .chain(["/openapi/v3", "/openapi/v3/", "/version"])
        .map(str::to_owned)
        .collect();
    let pages = &shared.settings.pages;
    paths.extend(shared.settings.page.then(|| "/ui/".to_owned()));
    paths.extend(pages.statusz.then(|| "/statusz".to_owned()));
    paths.extend(pages.flagz.is_some().then(|| "/flagz".to_owned()));
    if shared.settings.openid.is_some() {
        paths.extend(["/.well-known/openid-configuration", "/openid/v1/jwks"].map(str::to_owned));
    }
    for group in snapshot.groups() {
        let prefix = if group.name.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", group.name)
        };
        paths.extend(
            group
                .versions
                .iter()
                .map(|v| format!("{prefix}/{}", v.group_version.version)),
        );
        paths.push(prefix);
    }
    for endpoint in Endpoint::ALL {
        let prefix = format!("/{}", endpoint.name());
        paths.extend(
            shared
                .services
                .health
                .names(endpoint)
                .iter()
                .map(|name| format!("{prefix}/{name}")),
        );
        paths.push(prefix);
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Counts a request the server gave up.
pub fn count_termination(metrics: &Metrics, info: &RequestInfo, method: &Method, code: u16) {
    let target = Target::unrouted(info, method, metrics.serves(info));
    terminated(metrics, &target.labels(), code);
}

/// Counts a request that the gateway in front of a backend gave up.
pub fn count_proxy_termination(metrics: &Metrics, info: &RequestInfo, method: &Method, code: u16) {
    let target = Target::unrouted(info, method, metrics.serves(info));
    let [verb, group, version, resource, subresource, scope, _] = target.labels();
    let labels = [verb, group, version, resource, subresource, scope, "aggregator"];
    terminated(metrics, &labels, code);
}

fn terminated(metrics: &Metrics, target: &[&str; 7], code: u16) {
    let code = code.to_string();
    let [verb, group, version, resource, subresource, scope, component] = *target;
    metrics
        .terminations
        .with(&[verb, group, version, resource, subresource, scope, component, &code])
        .inc();
}

/// Counts a request whose answer broke off.
pub fn count_abort(metrics: &Metrics, info: &RequestInfo, method: &Method) {
    let target = Target::unrouted(info, method, metrics.serves(info));
    let [verb, group, version, resource, subresource, scope, _] = target.labels();
    metrics
        .aborts
        .with(&[verb, group, version, resource, subresource, scope])
        .inc();
}
