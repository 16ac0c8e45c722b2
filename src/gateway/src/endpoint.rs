//! One address of a backend: its connections, its load and its health.
// PERFORMANCE: per-request path

use crate::body::{Attempt, Body, Guarded};
use crate::connect::{ConnectError, Connector};
use crate::health::outlier::Health;
use crate::lost::{self, Lost};
use crate::metrics::{BackendMetrics, EndpointMetrics};
use crate::resolve::Target;
use fairlead_telemetry::task::spawn;
use http::uri::Authority;
use http::{HeaderValue, Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

pub mod http2;
mod keepalive;

pub use keepalive::Readers;

/// Bounds and times of a pool. The defaults notice a dead connection within a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    pub dial_timeout: Duration,
    pub handshake_timeout: Duration,
    /// How often a connection with requests under way is pinged, and how long it may take to answer.
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    /// Connections in one endpoint, once all have as many streams as the backend allows.
    pub max_http2_connections: usize,
    pub max_idle_http1: usize,
    pub idle_timeout: Duration,
    /// A request without an answer after this long is a reason to see whether the backend is well.
    pub suspicion: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            dial_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_millis(250),
            ping_timeout: Duration::from_millis(750),
            max_http2_connections: 8,
            max_idle_http1: 64,
            idle_timeout: Duration::from_secs(90),
            suspicion: Duration::from_secs(1),
        }
    }
}

pub struct Endpoint {
    pub target: Target,
    /// Host and port, as in the `Host` header.
    pub authority: String,
    pub host: Option<HeaderValue>,
    pub uri_authority: Option<Authority>,
    pub metrics: EndpointMetrics,
    connections: Mutex<Connections>,
    /// Held while the first connection is made, so that a burst makes one and not hundreds.
    dialing: tokio::sync::Mutex<()>,
    dials: AtomicU64,
    dial_error: Mutex<Option<ConnectError>>,
    load: AtomicUsize,
    pub health: Health,
    /// Told when requests under way here should not be waited for any longer.
    abandoned: tokio::sync::Notify,
}

#[derive(Default)]
struct Connections {
    http2: Vec<http2::Connection>,
    http1: Vec<(http1::SendRequest<Attempt>, Instant)>,
    /// What the backend chose last.
    speaks_http1: bool,
}

/// A connection, for one request.
pub struct Lease {
    sender: Sender,
    /// Whether the connection has carried requests before, so that it may have died unnoticed.
    pub reused: bool,
}

enum Sender {
    Http1(http1::SendRequest<Attempt>),
    Http2(http2::Lease),
}

/// Counts as a request under way until it is dropped.
pub struct Load(Arc<Endpoint>);

/// Gives an HTTP/1.1 connection back when its answer has been read, and ends the request's share of the load.
pub struct Release {
    endpoint: Arc<Endpoint>,
    http1: Option<http1::SendRequest<Attempt>>,
    _stream: Option<http2::Stream>,
    _load: Load,
    max_idle: usize,
    idle_timeout: Duration,
}

impl Endpoint {
    pub fn new(target: Target, metrics: &BackendMetrics) -> Endpoint {
        let authority = target.to_string();
        Endpoint {
            metrics: metrics.endpoint(&authority),
            host: HeaderValue::from_str(&authority).ok(),
            uri_authority: authority.parse().ok(),
            authority,
            target,
            connections: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            dials: AtomicU64::new(0),
            dial_error: Mutex::default(),
            load: AtomicUsize::new(0),
            health: Health::default(),
            abandoned: tokio::sync::Notify::new(),
        }
    }

    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub fn begin(self: &Arc<Self>) -> Load {
        self.load.fetch_add(1, Ordering::Relaxed);
        Load(self.clone())
    }

    /// An open connection with room, or a new one.
    pub async fn lease(&self, connector: &Connector, tuning: &Tuning) -> Result<Lease, ConnectError> {
        while let Some(lease) = self.open_lease(tuning) {
            if let Some(lease) = lease.ready().await {
                return Ok(lease);
            }
        }
        // In a box: a future that may become a handshake is large, and most requests need none.
        Box::pin(self.new_lease(connector, tuning)).await
    }

    /// A new connection, or the one somebody else has made meanwhile.
    async fn new_lease(&self, connector: &Connector, tuning: &Tuning) -> Result<Lease, ConnectError> {
        let seen = self.dials.load(Ordering::Acquire);
        let speaks_http1 = self.lock().speaks_http1;
        let _turn = if speaks_http1 {
            None
        } else {
            Some(self.dialing.lock().await)
        };
        // Somebody may have dialed while this request waited for its turn.
        while let Some(lease) = self.open_lease(tuning) {
            if let Some(lease) = lease.ready().await {
                return Ok(lease);
            }
        }
        if self.dials.load(Ordering::Acquire) != seen
            && let Some(error) = self.dial_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
        {
            return Err(error);
        }
        let started = Instant::now();
        let dialed = self.dial(connector, tuning).await;
        self.metrics.connected(started.elapsed(), dialed.as_ref().err());
        *self.dial_error.lock().unwrap_or_else(PoisonError::into_inner) = dialed.as_ref().err().cloned();
        self.dials.fetch_add(1, Ordering::Release);
        dialed
    }

    async fn dial(&self, connector: &Connector, tuning: &Tuning) -> Result<Lease, ConnectError> {
        let stream = connector.connect(&self.target, tuning).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if is_http2 {
            let refused = |error| ConnectError::plain(lost::http2_text(&error));
            let (connection, driving) = http2::Connection::open(stream, tuning, &connector.readers)
                .await
                .map_err(refused)?;
            let open = self.metrics.connection();
            // The connection ends by itself, when its last sender is dropped or its peer is gone.
            drop(spawn("backend connection", async move {
                driving.await;
                drop(open);
            }));
            let lease = Lease {
                sender: Sender::Http2(connection.lease()),
                reused: false,
            };
            let mut connections = self.lock();
            connections.speaks_http1 = false;
            connections.http2.push(connection);
            Ok(lease)
        } else {
            let refused = |error| ConnectError::plain(lost::http1_text(&error));
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(refused)?;
            let open = self.metrics.connection();
            drop(spawn("backend connection", async move {
                drop(connection.await);
                drop(open);
            }));
            self.lock().speaks_http1 = true;
            Ok(Lease {
                sender: Sender::Http1(sender),
                reused: false,
            })
        }
    }

    fn open_lease(&self, tuning: &Tuning) -> Option<Lease> {
        let mut connections = self.lock();
        connections.http2.retain(|c| !c.is_closed());
        let count = connections.http2.len();
        if let Some(least) = connections.http2.iter().min_by_key(|c| c.streams())
            && (least.has_room() || count >= tuning.max_http2_connections)
        {
            return Some(Lease {
                sender: Sender::Http2(least.lease()),
                reused: true,
            });
        }
        while let Some((sender, since)) = connections.http1.pop() {
            if !sender.is_closed() && since.elapsed() < tuning.idle_timeout {
                return Some(Lease {
                    sender: Sender::Http1(sender),
                    reused: true,
                });
            }
        }
        None
    }

    /// Closes idle connections and forgets the others, so that new requests make new ones; gives up what has no answer.
    pub fn abandon(&self) {
        *self.lock() = Connections::default();
        self.abandoned.notify_waiters();
    }

    /// Resolves when requests under way here should not be waited for any longer.
    pub async fn abandoned(&self) {
        self.abandoned.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// `None` when the connection died before it could be used.
    async fn ready(mut self) -> Option<Lease> {
        let ready = match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(lease) => lease.ready().await,
        };
        ready.then_some(self)
    }

    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Sends the request and waits until its answer begins.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(
        self,
        request: Request<Attempt>,
        endpoint: &Arc<Endpoint>,
        load: Load,
        tuning: &Tuning,
    ) -> Result<Response<Body>, Lost> {
        let release = |http1, stream| Release {
            endpoint: endpoint.clone(),
            http1,
            _stream: stream,
            _load: load,
            max_idle: tuning.max_idle_http1,
            idle_timeout: tuning.idle_timeout,
        };
        match self.sender {
            Sender::Http1(mut sender) => match Box::pin(sender.try_send_request(request)).await {
                Ok(response) => {
                    let guard = Some(release(Some(sender), None));
                    Ok(response.map(|body| Body::new(Guarded { body, guard })))
                }
                Err(error) => {
                    let unsent = error.message().is_some();
                    Err(Lost::http1(&error.into_error(), unsent))
                }
            },
            Sender::Http2(lease) => lease.send(request, |stream| release(None, Some(stream))).await,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(sender) = self.http1.take()
            && !sender.is_closed()
        {
            let (mut connections, now) = (self.endpoint.lock(), Instant::now());
            // The last one is used first: those that a burst has left at the other end would stay for ever.
            let idle = self.idle_timeout;
            connections
                .http1
                .retain(|(sender, since)| !sender.is_closed() && now - *since < idle);
            if connections.http1.len() < self.max_idle {
                connections.http1.push((sender, now));
            }
        }
    }
}
