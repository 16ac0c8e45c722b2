//! The listener: accepts connections, speaks TLS and HTTP, and drains.
// PERFORMANCE: per-request path

use crate::body::{Body, Payload};
use crate::chain::Chain;
use crate::connection::Connection;
use crate::cork::cork;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::request::Received;
use crate::streams::{Driver, Streams};
use crate::tls::{self, Certificates, TlsConfig, TlsError};
use fairlead_auth::authentication::peer::PeerCertificates;
use fairlead_telemetry::task;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

/// What an operator can set of connections.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    pub tls: TlsConfig,
    /// Streams a client may have open on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long running requests may take once draining has begun.
    pub drain_timeout: Duration,
}

/// How many streams a client gets where nothing is configured; upstream's bound against rapid resets.
pub const DEFAULT_MAX_STREAMS: u32 = 100;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
const MAX_HEADER_BYTES: usize = 1 << 20;
/// One connection may have this many bytes under way to us.
const CONNECTION_WINDOW: u32 = 4 << 20;
const STREAM_WINDOW: u32 = 256 << 10;

/// A bound port.
pub struct Listener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    certificates: Certificates,
    config: ListenerConfig,
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", reason(cause))]
pub struct BindError {
    pub address: SocketAddr,
    cause: std::io::Error,
}

/// Takes a port; port 0 is any that is free.
///
/// # Errors
/// It is taken, or not ours to take.
pub async fn take_port(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| BindError { address, cause })
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use".into(),
        std::io::ErrorKind::PermissionDenied => "not permitted (ports below 1024 need privileges)".into(),
        std::io::ErrorKind::AddrNotAvailable => "the address is not one of this machine's".into(),
        _ => error.to_string(),
    }
}

impl Listener {
    /// Serves a port with the configured certificates. Nobody is accepted before [`Listener::run`].
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(listener: TcpListener, config: ListenerConfig) -> Result<Listener, TlsError> {
        let certificates = Certificates::load(&config.tls)?;
        let acceptor = TlsAcceptor::from(tls::server_config(&config.tls, certificates.clone())?);
        Ok(Listener {
            listener,
            acceptor,
            certificates,
            config,
        })
    }

    /// To reload the certificates with.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// Serves until `drain` begins and the running requests have ended, or have had their time.
    pub async fn run(self, chain: Chain, drain: Drain, metrics: Metrics) {
        let open = Arc::new(Open::default());
        let shared = Arc::new(Shared {
            chain,
            drain: drain.clone(),
            metrics,
            max_streams: self.config.max_streams,
        });
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = drain.wait() => break,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let guard = open.enter();
                    let acceptor = self.acceptor.clone();
                    let shared = shared.clone();
                    task::spawn("connection", async move {
                        connection(socket, peer, acceptor, shared).await;
                        drop(guard);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: the connections that end will free some.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        if timeout(self.config.drain_timeout, open.all_left()).await.is_err() {
            tracing::warn!(
                connections = open.count(),
                "connections were cut, requests did not end in time"
            );
        }
    }
}

struct Shared {
    chain: Chain,
    drain: Drain,
    metrics: Metrics,
    max_streams: u32,
}

async fn connection(socket: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shared.metrics.tls_errors.with(&[]).inc();
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            shared.metrics.tls_errors.with(&[]).inc();
            return;
        }
    };
    let (_, session) = stream.get_ref();
    let chain = session
        .peer_certificates()
        .map(|c| c.iter().map(|d| d.clone().into_owned()).collect());
    let http2 = session.alpn_protocol() == Some(b"h2");
    let connection = Connection::new(peer, PeerCertificates::new(chain.unwrap_or_default()), http2);
    serve(stream, Arc::new(connection), shared).await;
}

/// Speaks HTTP on a stream until the client goes, the server drains, or the connection is told to close.
async fn serve<S>(stream: S, connection: Arc<Connection>, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = {
        let (chain, connection) = (shared.chain.clone(), connection.clone());
        service_fn(move |request| answer(request, chain.clone(), connection.clone()))
    };
    let result = if connection.http2 {
        let streams = Streams::default();
        let (corked, cork) = cork(stream);
        let mut driver = Driver::new(streams.clone(), cork);
        let mut http = hyper::server::conn::http2::Builder::new(streams);
        http.timer(TokioTimer::new())
            .max_concurrent_streams(shared.max_streams)
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(30));
        let mut http = pin!(http.serve_connection(TokioIo::new(corked), service));
        tokio::select! {
            result = driver.drive(http.as_mut()) => result,
            () = leaving(&connection, &shared.drain) => {
                http.as_mut().graceful_shutdown();
                driver.drive(http).await
            }
        }
    } else {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES);
        let mut http = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        tokio::select! {
            result = http.as_mut() => result,
            () = leaving(&connection, &shared.drain) => {
                http.as_mut().graceful_shutdown();
                http.await
            }
        }
    };
    if let Err(error) = result {
        tracing::trace!(peer = %connection.peer, %error, "connection ended");
    }
}

async fn leaving(connection: &Connection, drain: &Drain) {
    tokio::select! {
        () = connection.goaway.notified() => {}
        () = drain.wait() => {}
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    chain: Chain,
    connection: Arc<Connection>,
) -> Result<http::Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let audit_id = chain.audit_id(&parts.headers);
    let payload = if hyper::body::Body::is_end_stream(&body) {
        Payload::Empty
    } else {
        Payload::Incoming(body)
    };
    let received = Received {
        parts,
        payload,
        connection,
        at: Instant::now(),
        audit_id,
    };
    Ok(chain.serve(received).await)
}

/// Counts open connections, to wait for the last one.
#[derive(Default)]
struct Open {
    count: AtomicUsize,
    left: Notify,
}

struct Guard(Arc<Open>);

impl Open {
    fn enter(self: &Arc<Open>) -> Guard {
        self.count.fetch_add(1, Ordering::AcqRel);
        Guard(self.clone())
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_one();
    }
}
