//! Requests that switch protocols: one backend connection each, tunnelled only after the backend said 101.
//!
//! CVE-2018-1002105: whatever else the backend says ends both connections, so that nothing that a client sends after
//! its request can reach the backend with this server's credentials.

use crate::body::{Body, BoxError, Replay, full};
use crate::headers;
use crate::lost::http1_text;
use crate::pool::Pool;
use crate::proxy::{RequestContext, error_text, prepare, unreachable_text};
use bytes::Bytes;
use fairlead_telemetry::task::spawn;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::time::timeout;

/// How long a backend that refuses an upgrade may take to say why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of that is passed on.
const REFUSAL_LIMIT: usize = 1 << 20;

/// kubernetes/kubernetes#72112: only these. Anything else (h2c above all) would open a way past this server.
fn is_allowed(protocol: &[u8]) -> bool {
    [&b"websocket"[..], b"spdy/3.1"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(protocol.trim_ascii()))
}

pub(crate) async fn proxy<B>(
    backend: &str,
    pool: &Pool,
    mut request: Request<B>,
    path_and_query: PathAndQuery,
    dress: impl FnOnce(&mut HeaderMap),
    context: &RequestContext<'_>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let protocol = headers::upgrade(request.headers()).unwrap_or_default().to_vec();
    if !is_allowed(&protocol) {
        return error_text(StatusCode::BAD_REQUEST, "unsupported upgrade protocol");
    }
    let client: OnUpgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let keeps_encoding = parts.headers.contains_key(header::ACCEPT_ENCODING);
    prepare(&mut parts, dress, context);
    if !keeps_encoding {
        parts.headers.remove(header::ACCEPT_ENCODING);
    }
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(protocol) = HeaderValue::from_bytes(&protocol) {
        parts.headers.insert(header::UPGRADE, protocol);
    }

    let (stream, authority) = match pool.connect_http1().await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::warn!(backend, error = error.text, "no connection for an upgrade");
            return error_text(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("error dialing backend: {}", error.public),
            );
        }
    };
    if let Ok(host) = HeaderValue::from_str(&authority) {
        parts.headers.insert(&headers::X_FORWARDED_HOST, host.clone());
        parts.headers.insert(header::HOST, host);
    }
    let mut outgoing = Request::new(Replay::new(body).attempt());
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = Uri::from(path_and_query);
    *outgoing.headers_mut() = parts.headers;

    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return unreachable_text(&http1_text(&error)),
    };
    let driver = spawn("backend upgrade connection", async move {
        drop(connection.with_upgrades().await)
    });
    let mut response = match sender.send_request(outgoing).await {
        Ok(response) => response,
        Err(error) => {
            driver.abort();
            return error_text(StatusCode::SERVICE_UNAVAILABLE, &http1_text(&error));
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let refusal = refused(response).await;
        driver.abort();
        return refusal;
    }
    let agreed = response
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(protocol.trim_ascii()));
    if !agreed {
        driver.abort();
        return error_text(
            StatusCode::SERVICE_UNAVAILABLE,
            "invalid upgrade response: the backend switched to another protocol",
        );
    }
    let server = hyper::upgrade::on(&mut response);
    drop(spawn("upgrade tunnel", async move {
        if let Ok((client, server)) = tokio::try_join!(client, server) {
            tunnel(client, server).await;
        }
        driver.abort();
    }));
    let (mut parts, _) = response.into_parts();
    headers::strip_response(&mut parts.headers);
    parts
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(protocol) = HeaderValue::from_bytes(&protocol) {
        parts.headers.insert(header::UPGRADE, protocol);
    }
    Response::from_parts(parts, full(""))
}

/// Copies both ways until either side ends, which ends both.
async fn tunnel(client: Upgraded, server: Upgraded) {
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    // Either side may break off at any time: that is how these protocols end.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// An error of the backend is passed on whole and then the connection closed; anything else is no answer to an upgrade.
async fn refused(response: Response<hyper::body::Incoming>) -> Response<Body> {
    let status = response.status();
    if status.as_u16() < 400 {
        let text = format!("invalid upgrade response: status code {}", status.as_u16());
        return closing(error_text(StatusCode::SERVICE_UNAVAILABLE, &text));
    }
    let (mut parts, body) = response.into_parts();
    let limited = http_body_util::Limited::new(body, REFUSAL_LIMIT);
    let body = match timeout(REFUSAL_TIMEOUT, limited.collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        _ => Bytes::new(),
    };
    headers::strip_response(&mut parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    closing(Response::from_parts(parts, full(body)))
}

fn closing(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
