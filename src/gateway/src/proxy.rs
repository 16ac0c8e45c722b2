//! The request path: what goes to the backend, what comes back, and what clients read when nothing does.
//!
//! Source of texts and rules: kubernetes/kube-aggregator pkg/apiserver/handler_proxy.go,
//! kubernetes/apimachinery pkg/util/proxy/upgradeaware.go.
// PERFORMANCE: per-request path

use crate::backend::{Backend, PoolError};
use crate::body::{Body, BoxError, Gunzip, Replay, full};
use crate::layers::Refusal;
use crate::pool::Outgoing;
use crate::{headers, upgrade, uri};
use bytes::Bytes;
use fairlead_api::UserInfo;
use fairlead_api::field::go_quote;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What the chain knows of a request beyond the request itself.
#[derive(Clone, Debug, Default)]
pub struct RequestContext<'a> {
    /// As metrics name it: `GET`, `LIST`, `WATCH` …
    pub verb: &'a str,
    /// Watches and the like: not counted against the backend's bound.
    pub long_running: bool,
    pub client: Option<IpAddr>,
    /// When the client no longer waits; the caller drops the request then.
    pub deadline: Option<Instant>,
    /// Passed on as `Audit-ID`; empty for none.
    pub audit_id: &'a str,
}

/// An extension of answers that are the gateway's own, since the backend was not asked: it is known to be of no use, or it
/// has enough to do.
#[derive(Clone, Copy, Debug)]
pub struct NotAsked;

static AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Sends a request to a backend as `user`, and returns its answer, or what clients are told instead.
pub async fn proxy<B>(
    backend: &Arc<Backend>,
    request: Request<B>,
    user: &UserInfo,
    context: &RequestContext<'_>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let started = Instant::now();
    let response = answer(backend, request, user, context).await;
    let gv = &backend.api_service.group_version;
    let code = response.status().as_u16();
    backend
        .metrics()
        .all()
        .answered(context.verb, &gv.group, &gv.version, code, started.elapsed());
    response
}

async fn answer<B>(
    backend: &Arc<Backend>,
    request: Request<B>,
    user: &UserInfo,
    context: &RequestContext<'_>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if !backend.is_available() {
        return unavailable();
    }
    let Some(path_and_query) = uri::rewritten(request.uri().path(), request.uri().query()) else {
        return error_text(StatusCode::BAD_REQUEST, "invalid path");
    };
    let dress = |headers: &mut HeaderMap| headers::set_identity(headers, user);
    if headers::upgrade(request.headers()).is_some() {
        let pool = match backend.pool_for(request.headers()) {
            Ok(pool) => pool,
            Err(error) => return nowhere(backend, &error),
        };
        return upgrade::proxy(backend.name(), &pool, request, path_and_query, dress, context).await;
    }
    let (mut parts, body) = request.into_parts();
    let asked_gzip = prepare(&mut parts, dress, context);
    let outgoing = Outgoing {
        long_running: context.long_running,
        deadline: context.deadline,
        ..Outgoing::new(parts.method, path_and_query, parts.headers, Replay::new(body))
    };
    match backend.forward(outgoing).await {
        Ok(response) => finish(response, asked_gzip),
        Err(Refusal::Busy) => too_many(),
        Err(Refusal::Resting(rest)) => resting(rest),
        Err(Refusal::Redirected) => redirect_refused(),
        Err(Refusal::Nowhere(error)) => nowhere(backend, &error),
        Err(Refusal::Send(error)) => {
            tracing::warn!(backend = backend.name(), error = error.text, "no answer");
            unreachable_text(&error.public)
        }
    }
}

fn nowhere(backend: &Backend, error: &PoolError) -> Response<Body> {
    match error {
        PoolError::Setup(error) => not_asked(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        PoolError::Resolve(error) => {
            tracing::warn!(backend = backend.name(), %error, "the service cannot be resolved");
            unavailable()
        }
    }
}

/// Rewrites a request's headers; `dress` says who asks. Returns whether the gateway, and not the client, asks for gzip.
pub(crate) fn prepare(
    parts: &mut http::request::Parts,
    dress: impl FnOnce(&mut HeaderMap),
    context: &RequestContext<'_>,
) -> bool {
    headers::strip_request(&mut parts.headers);
    dress(&mut parts.headers);
    headers::set_forwarded(&mut parts.headers, context.client, &uri::cleaned(parts.uri.path()));
    if let Ok(id) = HeaderValue::from_str(context.audit_id)
        && !id.is_empty()
    {
        parts.headers.insert(&AUDIT_ID, id);
    }
    // COMPAT: as Go's client does by itself; the answer is unzipped again on its way back.
    let silent = !parts.headers.contains_key(header::ACCEPT_ENCODING) && !parts.headers.contains_key(header::RANGE);
    let asks = silent && parts.method != Method::HEAD;
    if asks {
        parts
            .headers
            .insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    asks
}

pub(crate) fn finish(response: Response<Body>, asked_gzip: bool) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return error_text(StatusCode::SERVICE_UNAVAILABLE, &unasked(response.headers()));
    }
    let (mut parts, body) = response.into_parts();
    headers::strip_response(&mut parts.headers);
    parts.version = http::Version::HTTP_11;
    if parts.status == StatusCode::NOT_MODIFIED {
        // COMPAT: Go's server says nothing about a body that is not there.
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let encoding = parts.headers.get(header::CONTENT_ENCODING);
    let zipped = encoding.is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"gzip"));
    if !(asked_gzip && zipped) {
        return Response::from_parts(parts, body);
    }
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::new(Gunzip::new(body)))
}

/// Of a peer that switches protocols by itself, which would turn what the client sends next into something else.
pub(crate) fn unasked(headers: &HeaderMap) -> String {
    let protocol = headers.get(header::UPGRADE).and_then(|p| p.to_str().ok());
    let protocol = go_quote(protocol.unwrap_or_default());
    format!("backend tried to switch protocol {protocol} when \"\" was requested")
}

pub(crate) fn redirect_refused() -> Response<Body> {
    let text = "the backend attempted to redirect this request, which is not permitted";
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Of a backend whose `Available` condition is not true, or whose service leads nowhere.
pub fn unavailable() -> Response<Body> {
    not_asked(StatusCode::SERVICE_UNAVAILABLE, "service unavailable")
}

fn not_asked(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = error_text(status, text);
    response.extensions_mut().insert(NotAsked);
    response
}

pub(crate) fn unreachable_text(why: &str) -> Response<Body> {
    error_text(
        StatusCode::SERVICE_UNAVAILABLE,
        &format!("error trying to reach service: {why}"),
    )
}

/// Of a backend whose circuit breaker is open.
fn resting(rest: Duration) -> Response<Body> {
    let mut response = unavailable();
    let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

fn too_many() -> Response<Body> {
    let mut response = not_asked(
        StatusCode::TOO_MANY_REQUESTS,
        "Too many requests, please try again later.",
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An error as Go's `http.Error` writes it: plain text and a line feed.
pub(crate) fn error_text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
