//! The server's own paths: `/`, `/version`, `/metrics`, health, OpenID discovery. Everything else is not found.

use crate::body::Response;
use crate::encode;
use crate::metrics::Metrics;
use crate::negotiate::Route;
use crate::request::Known;
use crate::request_info::RequestInfo;
use crate::router::{Shared, failure};
use fairlead_api::{Status, json, node};
use fairlead_discovery::{RoutingSnapshot, report};
use fairlead_telemetry::health::Endpoint;
use fairlead_telemetry::{process, text};
use http::header::CACHE_CONTROL;
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
        "/metrics" => metrics(shared),
        "/debug/aggregation" => aggregation(shared, snapshot, known),
        crate::backup::PATH => crate::backup::serve(shared, known).await,
        "/metrics/slis" => encode::whole(200, text::CONTENT_TYPE, slis(shared).await.into(), false),
        "/.well-known/openid-configuration" | "/openid/v1/jwks" => openid(shared, known),
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

fn metrics(shared: &Shared) -> Response {
    let mut out = String::with_capacity(256 * 1024);
    text::write(&shared.services.families.gather(), &mut out);
    process::write(&mut out);
    encode::whole(200, text::CONTENT_TYPE, out.into(), false)
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

/// Health as metrics: `kubernetes_healthcheck` of every check.
async fn slis(shared: &Shared) -> String {
    let mut out = String::new();
    text::header(
        "kubernetes_healthcheck",
        "The result of health checks.",
        "gauge",
        &mut out,
    );
    for endpoint in Endpoint::ALL {
        for name in shared.services.health.names(endpoint) {
            let healthy = matches!(shared.services.health.one(endpoint, &name).await, Some(Ok(())));
            out.push_str(&format!(
                "kubernetes_healthcheck{{name=\"{name}\",type=\"{}\"}} {}\n",
                endpoint.name(),
                u8::from(healthy)
            ));
        }
    }
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
    let mut paths: Vec<String> = ["/apis", "/apis/", "/flagz", "/metrics", "/metrics/slis", "/openapi/v2"]
        .into_iter()
        .chain(["/openapi/v3", "/openapi/v3/", "/statusz", "/version"])
        .map(str::to_owned)
        .collect();
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
    let document = node!({ "paths": paths });
    encode::whole(
        200,
        "application/json",
        encode::indented(&json::to_vec(&document)).into(),
        false,
    )
}

/// Counts a request the server gave up.
pub fn count_termination(metrics: &Metrics, info: &RequestInfo, method: &Method, code: u16) {
    let labels = Labels::of(info, method, false);
    let code = code.to_string();
    let [verb, group, version, resource, subresource, scope, component] = labels.target(info);
    metrics
        .terminations
        .with(&[verb, group, version, resource, subresource, scope, component, &code])
        .inc();
}

/// The verb of a request as metrics name it, and the rest of the labels.
pub struct Labels {
    pub verb: &'static str,
}

impl Labels {
    /// `apply` tells a server-side apply from other patches.
    pub fn of(info: &RequestInfo, method: &Method, apply: bool) -> Labels {
        let verb = match info.verb.as_str() {
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
                _ => "other",
            },
        };
        Labels { verb }
    }

    /// verb, group, version, resource, subresource, scope, component.
    pub fn target<'a>(&self, info: &'a RequestInfo) -> [&'a str; 7] {
        let subresource = if info.resource_request {
            info.subresource.as_str()
        } else {
            info.path.as_str()
        };
        [
            self.verb,
            &info.group,
            &info.version,
            &info.resource,
            subresource,
            info.scope(),
            "apiserver",
        ]
    }
}
