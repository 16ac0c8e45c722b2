//! The WebSockets of kubectl, for kubelets that do not know them: the handshake, and which protocol is meant.

use crate::body::{Body, full};
use crate::upgrade::set_upgrade;
use fairlead_api::Status;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Commands, with an end of standard input.
pub(super) const V5: &str = "v5.channel.k8s.io";
/// Ports: all of a SPDY connection inside of messages. What follows is SPDY's own protocol.
const TUNNELLED: &str = "SPDY/3.1+";
const KUBERNETES: &str = ".k8s.io";
/// As upstream's server has it.
const MAX_MESSAGE: usize = 32 << 20;

/// How kubelets of before 1.36 have to be asked instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Channels become streams.
    Channels,
    /// Messages are unpacked; these are SPDY's protocols.
    Tunnel(Vec<String>),
}

/// What a request over a WebSocket has to be translated to, if it has to be.
pub fn translation(headers: &HeaderMap, subresource: &str) -> Option<Translation> {
    let is_websocket = crate::headers::upgrade(headers).is_some_and(|u| u.eq_ignore_ascii_case(b"websocket"));
    if !is_websocket {
        return None;
    }
    if subresource != "portforward" {
        return protocols(headers).any(|p| p == V5).then_some(Translation::Channels);
    }
    let inner: Vec<String> = protocols(headers)
        .filter(|p| p.ends_with(KUBERNETES))
        .filter_map(|p| p.strip_prefix(TUNNELLED).map(str::to_owned))
        .collect();
    (!inner.is_empty()).then_some(Translation::Tunnel(inner))
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    values
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

/// The client's key, where its side of the handshake is in order.
pub(super) fn key(headers: &HeaderMap) -> Result<HeaderValue, Status> {
    let bad = |why| Err(Status::bad_request(why));
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|k| !k.is_empty()) else {
        return bad("mismatch challenge/response");
    };
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|v| v.as_bytes() != b"13")
    {
        return bad("missing or bad WebSocket Version");
    }
    Ok(key.clone())
}

/// Our side of it.
pub(super) fn accepted(key: &HeaderValue, protocol: Option<&str>) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    set_upgrade(headers, b"websocket");
    if let Ok(proof) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, proof);
    }
    if let Some(protocol) = protocol.and_then(|p| HeaderValue::from_str(p).ok()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// The WebSocket protocol that stands for one of SPDY's.
pub(super) fn tunnelled(inner: &str) -> String {
    format!("{TUNNELLED}{inner}")
}

pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

pub(super) fn farewell() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::from_static(""),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: &'static str, subresource: &str) -> Option<Translation> {
        let mut headers = HeaderMap::new();
        set_upgrade(&mut headers, b"websocket");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        translation(&headers, subresource)
    }

    #[test]
    fn only_the_protocols_of_newer_kubelets_are_translated() {
        assert_eq!(
            asked("v4.channel.k8s.io, v5.channel.k8s.io", "exec"),
            Some(Translation::Channels)
        );
        assert_eq!(asked("v4.channel.k8s.io", "attach"), None);
        let tunnel = Translation::Tunnel(vec!["portforward.k8s.io".into()]);
        assert_eq!(asked("SPDY/3.1+portforward.k8s.io", "portforward"), Some(tunnel));
        assert_eq!(asked("v4.channel.k8s.io", "portforward"), None);
        assert_eq!(translation(&HeaderMap::new(), "exec"), None);
    }
}
