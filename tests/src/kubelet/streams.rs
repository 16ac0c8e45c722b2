//! Commands in containers that do not exist: `cat` and `fail`, over WebSockets (KEP-4006) and over SPDY.

use super::{Body, spdy, text};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

const V5: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const CLOSE: u8 = 255;

/// Answers `/exec` and `/attach`.
pub(super) fn command(mut request: Request<Incoming>, websockets: bool) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let header = |name: http::HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok());
    let key = header(SEC_WEBSOCKET_KEY).map(str::to_owned);
    let is_v5 = header(SEC_WEBSOCKET_PROTOCOL).is_some_and(|p| p.split(',').any(|p| p.trim() == V5));
    match (websockets && is_v5, key) {
        (true, Some(key)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            background(async move { run_v5(TokioIo::new(upgrade.await?), &query).await });
            let mut response = switching("websocket");
            let headers = response.headers_mut();
            let accept = derive_accept_key(key.as_bytes());
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept.parse().expect("a header"));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(V5));
            response
        }
        (_, None) => {
            let upgrade = hyper::upgrade::on(&mut request);
            background(async move { spdy::run(upgrade.await?, &query).await });
            switching_to_spdy("v4.channel.k8s.io")
        }
        _ => text(400, "unable to upgrade: only some protocols are known here"),
    }
}

fn switching_to_spdy(protocol: &'static str) -> Response<Body> {
    let mut response = switching("SPDY/3.1");
    let protocol = HeaderValue::from_static(protocol);
    response.headers_mut().insert("x-stream-protocol-version", protocol);
    response
}

/// Answers `/portForward`.
pub(super) fn forward(mut request: Request<Incoming>) -> Response<Body> {
    if request.headers().contains_key(SEC_WEBSOCKET_KEY) {
        return text(400, "unable to upgrade: only SPDY is known here");
    }
    let upgrade = hyper::upgrade::on(&mut request);
    background(async move { spdy::forward(upgrade.await?).await });
    switching_to_spdy("portforward.k8s.io")
}

async fn run_v5(io: TokioIo<Upgraded>, query: &str) -> Result<()> {
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    let send = |channel: u8, data: &[u8]| Message::Binary(Bytes::from([&[channel], data].concat()));
    if query.contains("command=fail") {
        socket.send(send(STDERR, b"it failed\n")).await?;
        socket.send(send(ERROR, failure(3).as_bytes())).await?;
        return Ok(socket.close(Some(NORMAL)).await?);
    }
    if !query.contains("input=1") {
        socket.send(send(STDOUT, format!("asked {query}\n").as_bytes())).await?;
    }
    while query.contains("input=1") {
        let Message::Binary(message) = socket.next().await.context("the client left")?? else {
            continue;
        };
        match message.split_first() {
            Some((&STDIN, data)) => socket.send(send(STDOUT, data)).await?,
            Some((&CLOSE, [STDIN])) => break,
            Some((4, _)) | None => {}
            other => bail!("unexpected {other:?}"),
        }
    }
    socket.send(send(ERROR, SUCCESS.as_bytes())).await?;
    Ok(socket.close(Some(NORMAL)).await?)
}

const NORMAL: CloseFrame = CloseFrame {
    code: CloseCode::Normal,
    reason: Utf8Bytes::from_static(""),
};
pub(super) const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;

pub(super) fn failure(code: u8) -> String {
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit code {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
    .to_string()
}

fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

#[allow(clippy::disallowed_methods, reason = "it ends with the kubelet's runtime")]
fn background(conversation: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = conversation.await {
            eprintln!("kubelet: {error:#}");
        }
    });
}
