//! Port-forward over a WebSocket, for kubelets that know only SPDY: its bytes are the content of the messages.
//!
//! Source of behaviour: kubernetes/apiserver pkg/util/proxy/streamtunnel.go.

use super::websocket::{self, accepted, farewell, tunnelled};
use super::{Direct, Location, Peer, dialing, dress, not_switched};
use crate::body::{Body, BoxError, Replay};
use crate::upgrade::{self, Companion, Switched};
use bytes::Bytes;
use fairlead_api::Status;
use fairlead_telemetry::task::spawn;
use futures_util::{SinkExt, StreamExt};
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Which protocol is spoken inside of SPDY.
pub(super) static STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
pub(super) const SPDY: &[u8] = b"SPDY/3.1";
/// Read at once from a kubelet.
const PIECE: usize = 32 << 10;

impl Direct {
    /// Switches to SPDY with the kubelet and to a WebSocket with the client, and tunnels the one through the other.
    ///
    /// # Errors
    /// What the client is told where there is no tunnel.
    pub async fn tunnel<B>(
        &self,
        peer: Peer,
        location: &Location,
        mut request: Request<B>,
        protocols: &[String],
        client: Option<IpAddr>,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let key = websocket::key(request.headers())?;
        let upgrade = hyper::upgrade::on(&mut request);
        let companion = request.extensions_mut().remove();
        let (mut parts, _) = request.into_parts();
        dress(&mut parts, client);
        for name in [
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_PROTOCOL,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
        ] {
            parts.headers.remove(name);
        }
        parts.headers.remove(&STREAM_PROTOCOL);
        for protocol in protocols.iter().filter_map(|p| HeaderValue::from_str(p).ok()) {
            parts.headers.append(&STREAM_PROTOCOL, protocol);
        }
        upgrade::set_upgrade(&mut parts.headers, SPDY);
        let stream = self.connect(peer, location).await.map_err(|error| dialing(&error))?;
        let mut outgoing = Request::new(Replay::empty().attempt());
        *outgoing.method_mut() = Method::POST;
        *outgoing.uri_mut() = Uri::from(location.path_and_query());
        *outgoing.headers_mut() = parts.headers;
        match upgrade::ask(stream, outgoing, SPDY)
            .await
            .map_err(|error| not_switched(&error))?
        {
            Err(refusal) => Ok(refusal),
            Ok(switched) => Ok(tunnelling(&key, upgrade, companion, switched)),
        }
    }
}

fn tunnelling(
    key: &HeaderValue,
    upgrade: OnUpgrade,
    companion: Option<Companion>,
    switched: Switched,
) -> Response<Body> {
    let Switched { io, head } = switched;
    let chosen = head.headers.get(&STREAM_PROTOCOL).and_then(|p| p.to_str().ok());
    let protocol = chosen.map(|chosen| tunnelled(chosen.trim()));
    drop(spawn("port-forward tunnel", async move {
        if let Ok(client) = upgrade.await {
            carry(client, io).await;
        }
        drop(companion);
    }));
    accepted(key, protocol.as_deref())
}

/// Carries bytes both ways until either side ends, which ends both.
async fn carry(client: Upgraded, kubelet: Upgraded) {
    let config = Some(websocket::config());
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, config).await;
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_kubelet, mut to_kubelet) = tokio::io::split(TokioIo::new(kubelet));
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            let sent = match message {
                Message::Binary(bytes) => to_kubelet.write_all(&bytes).await,
                // Answered by the library, or nothing to be carried.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
                Message::Text(_) | Message::Close(_) => return,
            };
            if sent.is_err() || to_kubelet.flush().await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = from_kubelet.read(&mut buffer).await {
            let message = Message::Binary(Bytes::copy_from_slice(&buffer[..length]));
            if to_client.send(message).await.is_err() {
                return;
            }
        }
        // Whoever does not listen any more misses nothing.
        let _ = to_client.send(farewell()).await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
