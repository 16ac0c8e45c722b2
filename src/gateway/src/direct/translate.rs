//! Commands over a WebSocket, for kubelets that know only SPDY: channels become streams.
//!
//! Source of behaviour: kubernetes/apiserver pkg/util/proxy/streamtranslator.go, kubernetes/client-go tools/remotecommand.

mod outcome;

use super::tunnel::{SPDY, STREAM_PROTOCOL};
use super::websocket::{self, V5, accepted, farewell};
use super::{Direct, Location, Peer};
use crate::body::{Body, Replay, read_start};
use crate::spdy::{self, Frame, Reader, Writer};
use crate::upgrade::{self, Companion, NotSwitched, Switched, set_upgrade};
use bytes::{BufMut, Bytes, BytesMut};
use fairlead_api::Status;
use fairlead_telemetry::task::spawn;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, Uri};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use outcome::Outcome;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Which streams a command has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Told how it went, as an HTTP status.
pub type Told = Box<dyn FnOnce(u16) + Send>;

/// Channels of the WebSocket: the first byte of a message.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Read at once from a kubelet.
const PIECE: usize = 32 << 10;
/// Frames that may wait for a kubelet to take them.
const WAITING: usize = 8;
/// How much of a kubelet's refusal, or of what it says last, is passed on.
const LAST_WORDS: usize = 64 << 10;
/// How long a client may take for the last words.
const PATIENCE: Duration = Duration::from_secs(10);
/// What SPDY may carry, most wanted first.
const PROTOCOLS: [&str; 5] = [
    V5,
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

impl Direct {
    /// Accepts the client's WebSocket, and then asks the kubelet: what goes wrong there is told by the WebSocket.
    ///
    /// # Errors
    /// The client's side of the handshake is not in order.
    pub fn translate<B>(
        &self,
        peer: Peer,
        location: Location,
        mut request: Request<B>,
        streams: Streams,
        told: Told,
    ) -> Result<Response<Body>, Status> {
        let key = match websocket::key(request.headers()) {
            Ok(key) => key,
            Err(status) => {
                told(status.code());
                return Err(status);
            }
        };
        let (upgrade, direct) = (hyper::upgrade::on(&mut request), self.clone());
        let companion = request.extensions_mut().remove::<Companion>();
        drop(spawn("exec translation", async move {
            if let Ok(client) = upgrade.await {
                let config = Some(websocket::config());
                let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, config).await;
                if socket.send(message(streams.first(), b"")).await.is_ok() {
                    told(translate(direct, peer, location, streams, socket).await);
                }
            }
            drop(companion);
        }));
        Ok(accepted(&key, Some(V5)))
    }

    /// A connection with a kubelet that has switched to SPDY.
    async fn switched(&self, peer: Peer, location: &Location) -> Result<Switched, Outcome> {
        let sending = |why: &str| Outcome::error(format!("error sending request: Post \"{}\": {why}", location.url()));
        let stream = self
            .connect(peer, location)
            .await
            .map_err(|error| sending(&error.text))?;
        let mut outgoing = Request::new(Replay::empty().attempt());
        *outgoing.method_mut() = Method::POST;
        *outgoing.uri_mut() = Uri::from(location.path_and_query());
        let headers = outgoing.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&location.authority()) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static("Go-http-client/1.1"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        set_upgrade(headers, SPDY);
        for protocol in PROTOCOLS {
            headers.append(&STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        }
        match upgrade::ask(stream, outgoing, SPDY).await {
            Ok(Ok(switched)) => Ok(switched),
            Ok(Err(refusal)) => {
                let text = read_start(refusal.into_body(), LAST_WORDS).await.unwrap_or_default();
                Err(Outcome::refused(&text))
            }
            Err(NotSwitched::Setup(why) | NotSwitched::Unanswered(why)) => Err(sending(&why)),
            Err(error) => Err(Outcome::error(format!("unable to upgrade connection: {error}"))),
        }
    }
}

/// Leads the whole conversation, and answers how it went.
async fn translate(
    direct: Direct,
    peer: Peer,
    location: Location,
    streams: Streams,
    socket: WebSocketStream<TokioIo<Upgraded>>,
) -> u16 {
    let (mut to_client, from_client) = socket.split();
    let outcome = match direct.switched(peer, &location).await {
        Ok(switched) => converse(switched, streams, &mut to_client, from_client).await,
        Err(outcome) => Some(outcome),
    };
    // A client that has left hears nothing.
    let Some(outcome) = outcome else { return 200 };
    let last = async {
        to_client.send(message(ERROR, &outcome.text())).await?;
        to_client.send(farewell()).await
    };
    drop(timeout(PATIENCE, last).await);
    outcome.code()
}

/// Carries channels and streams until the command is over; `None` where the client left before.
async fn converse(
    switched: Switched,
    streams: Streams,
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
    from_client: impl Stream<Item = Result<Message, Error>> + Unpin,
) -> Option<Outcome> {
    let Switched { io, head } = switched;
    let protocol = head
        .headers
        .get(&STREAM_PROTOCOL)
        .and_then(|p| p.to_str().ok())
        .unwrap_or_default();
    let speaks_status = matches!(protocol.trim(), V5 | "v4.channel.k8s.io");
    let (from_kubelet, to_kubelet) = tokio::io::split(TokioIo::new(io));
    let opened = Opened::new(streams);
    let (frames, waiting) = mpsc::channel(WAITING);
    frames.try_send(opened.frames.clone()).ok()?;
    // Neither direction waits for the other: a command that does not read may well write.
    tokio::select! {
        said = hear(from_kubelet, &opened, frames.clone(), to_client) => {
            Some(Outcome::of(said, speaks_status))
        }
        () = listen(from_client, &opened, frames) => None,
        () = send(waiting, to_kubelet) => Some(Outcome::error("the connection to the kubelet broke".into())),
    }
}

/// The numbers of a command's streams; 0 for those it does not have.
struct Opened {
    stdin: u32,
    stdout: u32,
    stderr: u32,
    resize: u32,
    /// The frames that open them.
    frames: Bytes,
}

const ERROR_STREAM: u32 = 1;

impl Opened {
    fn new(streams: Streams) -> Opened {
        let mut writer = Writer::default();
        let mut frames = BytesMut::new();
        let mut next = ERROR_STREAM;
        let mut open = |wanted: bool, kind: &str| {
            if !wanted {
                return 0;
            }
            let stream = next;
            next += 2;
            frames.put(writer.open(stream, &[("streamtype", kind)]));
            stream
        };
        open(true, "error");
        Opened {
            stdin: open(streams.stdin, "stdin"),
            stdout: open(streams.stdout, "stdout"),
            stderr: open(streams.stderr && !streams.tty, "stderr"),
            resize: open(streams.tty, "resize"),
            frames: frames.freeze(),
        }
    }
}

impl Streams {
    /// The channel whose first, empty message tells the client that it is connected.
    fn first(self) -> u8 {
        match (self.stdout, self.stderr) {
            (true, _) => STDOUT,
            (_, true) => STDERR,
            _ => ERROR,
        }
    }
}

/// What the kubelet said on the error stream, once the command is over.
async fn hear(
    mut from_kubelet: ReadHalf<TokioIo<Upgraded>>,
    opened: &Opened,
    frames: mpsc::Sender<Bytes>,
    to_client: &mut (impl Sink<Message, Error = Error> + Unpin),
) -> Vec<u8> {
    let (mut reader, mut said) = (Reader::default(), Vec::new());
    let mut running: Vec<u32> = [ERROR_STREAM, opened.stdout, opened.stderr]
        .into_iter()
        .filter(|s| *s != 0)
        .collect();
    let mut buffer = vec![0; PIECE];
    while !running.is_empty() {
        let frame = match reader.frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => match from_kubelet.read(&mut buffer).await {
                Ok(length @ 1..) => {
                    reader.take(&buffer[..length]);
                    continue;
                }
                Ok(0) | Err(_) => break,
            },
            Err(error) => {
                tracing::warn!(%error, "a kubelet does not speak SPDY");
                break;
            }
        };
        match frame {
            Frame::Data { stream, bytes, last } => {
                if stream == ERROR_STREAM {
                    said.extend_from_slice(&bytes[..bytes.len().min(LAST_WORDS - said.len().min(LAST_WORDS))]);
                } else if !bytes.is_empty() && (stream == opened.stdout || stream == opened.stderr) {
                    let channel = if stream == opened.stdout { STDOUT } else { STDERR };
                    if to_client.send(message(channel, &bytes)).await.is_err() {
                        break;
                    }
                }
                if last {
                    running.retain(|s| *s != stream);
                }
            }
            Frame::Reset { stream } | Frame::Reply { stream, last: true } => running.retain(|s| *s != stream),
            // A kubelet that hears nothing of its ping for a moment hears something else.
            Frame::Ping(id) => _ = frames.try_send(spdy::ping(id)),
            Frame::GoAway => break,
            Frame::Open { .. } | Frame::Reply { .. } | Frame::Other => {}
        }
    }
    said
}

/// Takes what the client sends until it leaves.
async fn listen(
    mut from_client: impl Stream<Item = Result<Message, Error>> + Unpin,
    opened: &Opened,
    frames: mpsc::Sender<Bytes>,
) {
    while let Some(Ok(message)) = from_client.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            _ => continue,
        };
        let frame = match bytes.split_first() {
            Some((&STDIN, content)) if opened.stdin != 0 => spdy::data(opened.stdin, content, false),
            Some((&RESIZE, content)) if opened.resize != 0 => spdy::data(opened.resize, content, false),
            Some((&CLOSE, [STDIN])) if opened.stdin != 0 => spdy::data(opened.stdin, b"", true),
            _ => continue,
        };
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

/// Writes frames until there is nobody to take them; whoever still listens hears the rest.
async fn send(mut frames: mpsc::Receiver<Bytes>, mut to_kubelet: WriteHalf<TokioIo<Upgraded>>) {
    while let Some(frame) = frames.recv().await {
        if to_kubelet.write_all(&frame).await.is_err() || to_kubelet.flush().await.is_err() {
            // What the kubelet has said until then is still to be read.
            return std::future::pending().await;
        }
    }
}

fn message(channel: u8, content: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(1 + content.len());
    bytes.put_u8(channel);
    bytes.extend_from_slice(content);
    Message::Binary(bytes.freeze())
}
