//! Watches over WebSockets, for browsers: a message an event. Nothing is expected from the client but pings and its end.
//!
//! Source of behaviour: kubernetes/apiserver pkg/endpoints/handlers/watch.go (HandleWS) and golang.org/x/net/websocket.

use crate::body::{Body, Response};
use crate::request::{header, joined};
use crate::watch::{self, Form, Watching};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_gateway::upgrade::Companion;
use fairlead_resource::request::WatchStream;
use fairlead_telemetry::task;
use http::header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, Instant, timeout_at};

/// Whether the client asks for a WebSocket.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    header(headers, UPGRADE).eq_ignore_ascii_case("websocket")
        && joined(headers, CONNECTION)
            .split(',')
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Switches protocols and serves a watch there.
pub fn serve(stream: Box<dyn WatchStream>, form: Form, watching: Watching, parts: &mut Parts) -> Response {
    let accepted = match accept(&parts.headers) {
        Ok(accepted) => accepted,
        Err((code, why)) => return refusal(code, why),
    };
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return refusal(StatusCode::BAD_REQUEST, "not websocket protocol");
    };
    let companion = parts.extensions.remove::<Companion>();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    if let Some(protocol) = parts.headers.get(SEC_WEBSOCKET_PROTOCOL).filter(|p| !p.is_empty()) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    task::spawn("websocket watch", async move {
        if let Ok(upgraded) = upgrade.await {
            run(TokioIo::new(upgraded), stream, form, watching).await;
        }
        drop(companion);
    });
    response
}

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The proof that the key has been read, where the handshake is in order.
fn accept(headers: &HeaderMap) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let bad = |why| (StatusCode::BAD_REQUEST, why);
    let key = header(headers, SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err(bad("mismatch challenge/response"));
    }
    if header(headers, SEC_WEBSOCKET_VERSION) != "13" {
        return Err(bad("missing or bad WebSocket Version"));
    }
    // COMPAT: browsers always have an origin, and which one does not matter.
    let origin = header(headers, ORIGIN);
    if origin.is_empty() {
        return Err((StatusCode::FORBIDDEN, ""));
    }
    // COMPAT: nothing is chosen among several protocols.
    if header(headers, SEC_WEBSOCKET_PROTOCOL).contains(',') {
        return Err(bad(""));
    }
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    HeaderValue::from_str(&STANDARD.encode(digest)).map_err(|_| bad("mismatch challenge/response"))
}

fn refusal(code: StatusCode, why: &'static str) -> Response {
    let mut response = Response::new(Body::full(why));
    *response.status_mut() = code;
    response
}

/// How long a client may take for one event or for the farewell.
const PATIENCE: Duration = Duration::from_secs(30);

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Status 1000: it ended as it should.
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();

async fn run(mut io: TokioIo<Upgraded>, mut stream: Box<dyn WatchStream>, form: Form, watching: Watching) {
    let deadline = watching.timeout.map(|timeout| Instant::now() + timeout);
    let opcode = if matches!(form, Form::Json) { TEXT } else { BINARY };
    let mut incoming = Incoming::default();
    let mut buffer = [0u8; 1024];
    loop {
        let frame = tokio::select! {
            event = stream.next() => match event {
                Some(event) => {
                    let payload = watch::message(&event, &form);
                    watching.events.sent(payload.len());
                    frame(opcode, &payload)
                }
                None => break,
            },
            read = io.read(&mut buffer) => match read {
                Ok(length @ 1..) => match incoming.take(&buffer[..length]) {
                    Some(answer) => answer,
                    None => break,
                },
                Ok(0) | Err(_) => return,
            },
            () = watching.drain.wait() => break,
            () = watch::until(deadline) => break,
        };
        if !frame.is_empty()
            && !matches!(
                timeout_at(Instant::now() + PATIENCE, io.write_all(&frame)).await,
                Ok(Ok(()))
            )
        {
            return;
        }
    }
    let farewell = async {
        io.write_all(&frame(CLOSE, &NORMAL)).await?;
        io.shutdown().await
    };
    // Whoever does not listen any more misses nothing.
    drop(timeout_at(Instant::now() + PATIENCE, farewell).await);
}

/// One whole, unmasked frame.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// Frames of the client, in whatever pieces they come.
#[derive(Default)]
struct Incoming {
    /// The start of a frame, never longer than a head and the content of a control frame.
    pending: Vec<u8>,
    /// How much content of a data frame is still to be passed over.
    skip: u64,
}

impl Incoming {
    /// Takes bytes in; answers what is to be sent for them, `None` where the client says goodbye or does not make sense.
    fn take(&mut self, mut bytes: &[u8]) -> Option<Vec<u8>> {
        let mut answer = Vec::new();
        loop {
            let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= passed as u64;
            bytes = &bytes[passed..];
            self.pending.extend_from_slice(bytes);
            bytes = &[];
            let Some(head) = Head::read(&self.pending)? else {
                return Some(answer);
            };
            let end = head.length.saturating_add(head.size as u64);
            if head.opcode < CLOSE {
                let here = usize::try_from(end).unwrap_or(usize::MAX).min(self.pending.len());
                self.skip = end - here as u64;
                self.pending.drain(..here);
                continue;
            }
            let end = usize::try_from(end).ok()?;
            let Some(content) = self.pending.get(head.size..end) else {
                return Some(answer);
            };
            match head.opcode {
                PING => {
                    let content: Vec<u8> = content
                        .iter()
                        .zip(head.mask.iter().cycle())
                        .map(|(b, m)| b ^ m)
                        .collect();
                    answer.extend(frame(PONG, &content));
                }
                PONG => {}
                _ => return None,
            }
            self.pending.drain(..end);
        }
    }
}

/// The head of a frame.
struct Head {
    opcode: u8,
    length: u64,
    mask: [u8; 4],
    /// Of the head itself.
    size: usize,
}

impl Head {
    /// `Some(None)` where more is needed, `None` where it is no frame of a client.
    fn read(bytes: &[u8]) -> Option<Option<Head>> {
        let [first, second, rest @ ..] = bytes else {
            return Some(None);
        };
        let opcode = first & 0x0f;
        let masked = second & 0x80 != 0;
        let short = second & 0x7f;
        if !masked || (opcode >= CLOSE && short > 125) {
            return None;
        }
        let (length, width) = match short {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (u16::from_be_bytes(*length).into(), 2),
                None => return Some(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Some(None),
            },
            short => (short.into(), 0),
        };
        let Some(mask) = rest[width..].first_chunk::<4>() else {
            return Some(None);
        };
        Some(Some(Head {
            opcode,
            length,
            mask: *mask,
            size: 2 + width + 4,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(opcode: u8, content: &[u8]) -> Vec<u8> {
        let mut out = frame(opcode, content);
        out[1] |= 0x80;
        let at = out.len() - content.len();
        out.splice(at..at, [1, 2, 3, 4]);
        for (i, byte) in out[at + 4..].iter_mut().enumerate() {
            *byte ^= [1, 2, 3, 4][i % 4];
        }
        out
    }

    #[test]
    fn pings_are_answered_and_data_is_passed_over() {
        let mut bytes = client(TEXT, &[b'x'; 70_000]);
        bytes.extend(client(PING, b"hello"));
        for piece in [1, 7, 1000, bytes.len()] {
            let mut incoming = Incoming::default();
            let mut answers = Vec::new();
            for chunk in bytes.chunks(piece) {
                answers.extend(incoming.take(chunk).unwrap());
            }
            assert_eq!(answers, frame(PONG, b"hello"), "in pieces of {piece}");
            assert_eq!(incoming.pending.len(), 0);
        }
    }

    #[test]
    fn goodbyes_and_nonsense_end_it() {
        assert_eq!(Incoming::default().take(&client(CLOSE, &NORMAL)), None);
        assert_eq!(Incoming::default().take(&frame(TEXT, b"not masked")), None);
        assert_eq!(Incoming::default().take(&client(PING, &[0; 126])), None);
        // A length that no memory has is passed over, not kept.
        let mut incoming = Incoming::default();
        let endless = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(incoming.take(&endless), Some(Vec::new()));
        assert_eq!(incoming.take(&[0; 100]), Some(Vec::new()));
        assert_eq!(incoming.pending.len(), 0);
    }

    #[test]
    fn a_handshake_needs_key_version_and_origin() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        headers.insert(SEC_WEBSOCKET_VERSION, "13".parse().unwrap());
        assert_eq!(accept(&headers).unwrap_err().0, StatusCode::FORBIDDEN);
        headers.insert(ORIGIN, "http://localhost".parse().unwrap());
        // The example of RFC 6455.
        assert_eq!(accept(&headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, "a, b".parse().unwrap());
        assert_eq!(accept(&headers).unwrap_err().0, StatusCode::BAD_REQUEST);
        headers.insert(SEC_WEBSOCKET_VERSION, "8".parse().unwrap());
        assert!(accept(&headers).is_err());
    }
}
