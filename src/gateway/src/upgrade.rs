//! Requests that switch protocols: one backend connection each, tunnelled only after the backend said 101.
//!
//! CVE-2018-1002105: whatever else the backend says ends both connections, so that nothing that a client sends after
//! its request can reach the backend with this server's credentials.

use crate::body::{Attempt, Body, BoxError, Replay, full};
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
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Lives as long as the tunnel that a request leads to, and is dropped with it. An extension of the request.
#[derive(Clone)]
pub struct Companion(pub Arc<dyn Any + Send + Sync>);

/// How long a backend that refuses an upgrade may take to say why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of that is passed on.
const REFUSAL_LIMIT: usize = 1 << 20;

/// kubernetes/kubernetes#72112: only these. Anything else (h2c above all) would open a way past this server.
pub(crate) fn is_allowed(protocol: &[u8]) -> bool {
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
    let companion = parts.extensions.remove::<Companion>();
    let keeps_encoding = parts.headers.contains_key(header::ACCEPT_ENCODING);
    prepare(&mut parts, dress, context);
    if !keeps_encoding {
        parts.headers.remove(header::ACCEPT_ENCODING);
    }
    set_upgrade(&mut parts.headers, &protocol);

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

    match switch(stream, outgoing, client, companion, &protocol).await {
        Ok(response) => response,
        Err(NotSwitched::Setup(text)) => unreachable_text(&text),
        Err(NotSwitched::Refused(status)) => {
            let text = format!("invalid upgrade response: status code {}", status.as_u16());
            closing(error_text(StatusCode::SERVICE_UNAVAILABLE, &text))
        }
        Err(error) => error_text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSwitched {
    /// The connection could not be used.
    #[error("{0}")]
    Setup(String),
    /// There was no answer.
    #[error("{0}")]
    Unanswered(String),
    /// An answer that is neither the switch nor an error.
    #[error("invalid upgrade response: status code {}", .0.as_u16())]
    Refused(StatusCode),
    #[error("invalid upgrade response: the backend switched to another protocol")]
    OtherProtocol,
}

/// A backend's connection that has switched protocols, and its answer.
pub(crate) struct Switched {
    pub io: Upgraded,
    pub head: http::response::Parts,
}

/// Asks a backend to switch to `protocol`. `Ok(Err(…))` is its own error, to be passed on whole, with the connection closed.
pub(crate) async fn ask<S>(
    stream: S,
    outgoing: Request<Attempt>,
    protocol: &[u8],
) -> Result<Result<Switched, Response<Body>>, NotSwitched>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| NotSwitched::Setup(http1_text(&error)))?;
    let driver = spawn("backend upgrade connection", async move {
        drop(connection.with_upgrades().await)
    });
    let _driver = Aborting(driver);
    let mut response = sender
        .send_request(outgoing)
        .await
        .map_err(|error| NotSwitched::Unanswered(http1_text(&error)))?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return match status.as_u16() {
            ..400 => Err(NotSwitched::Refused(status)),
            _ => Ok(Err(refused(response).await)),
        };
    }
    let agreed = response
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(protocol.trim_ascii()));
    if !agreed {
        return Err(NotSwitched::OtherProtocol);
    }
    let io = hyper::upgrade::on(&mut response)
        .await
        .map_err(|error| NotSwitched::Unanswered(http1_text(&error)))?;
    let (head, _) = response.into_parts();
    Ok(Ok(Switched { io, head }))
}

/// Asks a backend to switch to `protocol`, and tunnels between it and the client once it has.
pub(crate) async fn switch<S>(
    stream: S,
    outgoing: Request<Attempt>,
    client: OnUpgrade,
    companion: Option<Companion>,
    protocol: &[u8],
) -> Result<Response<Body>, NotSwitched>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let switched = match ask(stream, outgoing, protocol).await? {
        Ok(switched) => switched,
        Err(refusal) => return Ok(refusal),
    };
    let Switched { io, mut head } = switched;
    drop(spawn("upgrade tunnel", async move {
        if let Ok(client) = client.await {
            tunnel(client, io).await;
        }
        drop(companion);
    }));
    headers::strip_response(&mut head.headers);
    set_upgrade(&mut head.headers, protocol);
    Ok(Response::from_parts(head, full("")))
}

/// Says to which protocol a connection is, or is to be, switched.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: &[u8]) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(protocol) = HeaderValue::from_bytes(protocol) {
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Ends the task of a connection when it is no longer needed; one that has switched protocols has ended by itself.
pub(crate) struct Aborting(pub JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Copies both ways. The end of one side is passed on to the other, and the tunnel ends when both have.
async fn tunnel(client: Upgraded, server: Upgraded) {
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    // Either side may break off at any time: that is how these protocols end.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// An error of the backend, whole; the connections end with it.
async fn refused(response: Response<hyper::body::Incoming>) -> Response<Body> {
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
