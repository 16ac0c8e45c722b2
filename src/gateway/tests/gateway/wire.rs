//! What goes over the wire to a backend: one record with one frame for a reading request, and nothing besides.

use crate::common::{World, body, echo};
use bytes::Bytes;
use fairlead_telemetry::task::spawn;
use http::{Method, Request};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;

const THING: &str = "/apis/shipping.example.com/v1alpha1/namespaces/default/parcels/one";

/// Hands on what is read and notes it.
struct Noting<T> {
    io: T,
    read: Arc<Mutex<Vec<u8>>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Noting<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        self.read.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noting<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A backend that takes one connection and notes what is on it.
struct Backend {
    address: SocketAddr,
    encrypted: Arc<Mutex<Vec<u8>>>,
    plain: Arc<Mutex<Vec<u8>>>,
    /// How many connections have ended.
    ended: watch::Receiver<usize>,
}

async fn backend(world: &mut World) -> Backend {
    let (encrypted, plain) = (Arc::default(), Arc::default());
    let acceptor = world.acceptor(world.serving_certificate(), &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = watch::channel(0);
    let (raw, opened): (Arc<Mutex<Vec<u8>>>, Arc<Mutex<Vec<u8>>>) = (Arc::clone(&encrypted), Arc::clone(&plain));
    world.tasks.spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let (acceptor, raw, opened, end) = (acceptor.clone(), raw.clone(), opened.clone(), end.clone());
            drop(spawn("test backend", async move {
                let Ok(io) = acceptor.accept(Noting { io, read: raw }).await else {
                    return;
                };
                let io = TokioIo::new(Noting { io, read: opened });
                let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request).await) });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(io, service).await);
                end.send_modify(|n| *n += 1);
            }));
        }
    });
    Backend {
        address,
        encrypted,
        plain,
        ended,
    }
}

/// The types of all frames (RFC 9113 §4.1).
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        types.push(kind);
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    types
}

/// How many records carry data (RFC 8446 §5.1).
fn records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [kind, _, _, a, b, ..] = *bytes {
        count += usize::from(kind == 23);
        bytes = bytes
            .get(5 + (usize::from(a) << 8 | usize::from(b))..)
            .unwrap_or_default();
    }
    count
}

#[tokio::test]
async fn a_reading_request_is_one_record_with_one_frame() {
    let mut world = World::new();
    let backend = backend(&mut world).await;
    world.register(&[backend.address], true);
    // The connection is made, and its settings are agreed on.
    for _ in 0..3 {
        assert_eq!(world.get(THING).await.status(), 200);
    }
    backend.plain.lock().unwrap().clear();
    backend.encrypted.lock().unwrap().clear();
    for _ in 0..50 {
        let response = world.get(THING).await;
        assert!(response.body().is_whole(), "nobody has to wait for the rest");
        assert!(body(response).await.starts_with("GET "));
    }
    let (headers, data) = (1, 0);
    assert_eq!(frames(&backend.plain.lock().unwrap()), [headers; 50]);
    assert_eq!(records(&backend.encrypted.lock().unwrap()), 50);
    backend.plain.lock().unwrap().clear();
    let post = Request::builder().method(Method::POST).uri(THING);
    let answer = world.send(post.body(Full::new(Bytes::from("x"))).unwrap()).await;
    assert!(body(answer).await.contains(" x\n"));
    assert_eq!(frames(&backend.plain.lock().unwrap()), [headers, data]);
}

/// Whatever is kept of finished requests keeps no connection open.
#[tokio::test]
async fn connections_to_an_endpoint_that_is_gone_end() {
    let mut world = World::new();
    let (mut first, second) = (backend(&mut world).await, backend(&mut world).await);
    world.register(&[first.address], true);
    for _ in 0..5 {
        assert_eq!(world.get(THING).await.status(), 200);
    }
    assert_eq!(*first.ended.borrow_and_update(), 0);
    world.put_slice(&[second.address]);
    assert_eq!(world.get(THING).await.status(), 200);
    first.ended.changed().await.unwrap();
    assert_eq!(*second.ended.borrow(), 0);
}
