//! One address of a backend: its connections, its load and its health.
// PERFORMANCE: per-request path

use crate::body::Attempt;
use crate::connect::{ConnectError, Connector};
use crate::metrics::{BackendMetrics, EndpointMetrics};
use crate::outlier::Health;
use crate::patient::PatientTimer;
use crate::resolve::Target;
use fairlead_telemetry::task::spawn;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

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
    http2: Vec<Http2>,
    http1: Vec<(http1::SendRequest<Attempt>, Instant)>,
    /// What the backend chose last.
    speaks_http1: bool,
}

struct Http2 {
    sender: http2::SendRequest<Attempt>,
    streams: Arc<AtomicUsize>,
    /// How many streams the backend allows at once.
    allowed: Arc<AtomicUsize>,
}

/// Until the backend says how many streams it allows.
const INITIAL_STREAMS: usize = 100;

/// A connection, for one request.
pub struct Lease {
    sender: Sender,
    /// Whether the connection has carried requests before, so that it may have died unnoticed.
    pub reused: bool,
}

enum Sender {
    Http1(http1::SendRequest<Attempt>),
    Http2(http2::SendRequest<Attempt>, Stream),
}

/// Counts as a request under way until it is dropped.
pub struct Load(Arc<Endpoint>);

struct Stream(Arc<AtomicUsize>);

/// Gives an HTTP/1.1 connection back when its answer has been read, and ends the request's share of the load.
pub struct Release {
    endpoint: Arc<Endpoint>,
    http1: Option<http1::SendRequest<Attempt>>,
    _stream: Option<Stream>,
    _load: Load,
    max_idle: usize,
}

impl Endpoint {
    pub fn new(target: Target, metrics: &BackendMetrics) -> Endpoint {
        let authority = target.to_string();
        Endpoint {
            metrics: metrics.endpoint(&authority),
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
        let refused = |error: hyper::Error| ConnectError::plain(crate::pool::hyper_text(&error));
        if is_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(PatientTimer)
                .keep_alive_interval(tuning.ping_interval)
                .keep_alive_timeout(tuning.ping_timeout)
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(16 << 20)
                .max_header_list_size(1 << 20);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(refused)?;
            let allowed = Arc::new(AtomicUsize::new(INITIAL_STREAMS));
            let (limit, open) = (allowed.clone(), self.metrics.connection());
            // The connection ends by itself, when its last sender is dropped or its peer is gone.
            drop(spawn("backend connection", async move {
                drive(connection, limit).await;
                drop(open);
            }));
            let streams = Arc::new(AtomicUsize::new(0));
            let lease = Lease {
                sender: Sender::Http2(sender.clone(), Stream::new(&streams)),
                reused: false,
            };
            let mut connections = self.lock();
            connections.speaks_http1 = false;
            connections.http2.push(Http2 {
                sender,
                streams,
                allowed,
            });
            Ok(lease)
        } else {
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
        connections.http2.retain(|c| !c.sender.is_closed());
        let count = connections.http2.len();
        if let Some(least) = connections
            .http2
            .iter()
            .min_by_key(|c| c.streams.load(Ordering::Relaxed))
        {
            let has_room = least.streams.load(Ordering::Relaxed) < least.allowed.load(Ordering::Relaxed);
            if has_room || count >= tuning.max_http2_connections {
                let stream = Stream::new(&least.streams);
                return Some(Lease {
                    sender: Sender::Http2(least.sender.clone(), stream),
                    reused: true,
                });
            }
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
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender, _) => sender.ready().await,
        };
        ready.ok().map(|()| self)
    }

    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Sends the request. On an error, the flag says that nothing of it was sent.
    pub async fn send(
        self,
        request: Request<Attempt>,
        endpoint: &Arc<Endpoint>,
        load: Load,
        max_idle: usize,
    ) -> Result<(Response<Incoming>, Release), (hyper::Error, bool)> {
        let release = |http1, stream| Release {
            endpoint: endpoint.clone(),
            http1,
            _stream: stream,
            _load: load,
            max_idle,
        };
        match self.sender {
            Sender::Http1(mut sender) => match sender.try_send_request(request).await {
                Ok(response) => Ok((response, release(Some(sender), None))),
                Err(error) => Err(unsent(error)),
            },
            Sender::Http2(mut sender, stream) => match sender.try_send_request(request).await {
                Ok(response) => Ok((response, release(None, Some(stream)))),
                Err(error) => Err(unsent(error)),
            },
        }
    }
}

/// Runs a connection to its end, and passes on how many streams it may have.
async fn drive<T>(connection: http2::Connection<T, Attempt, TokioExecutor>, allowed: Arc<AtomicUsize>)
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let mut connection = std::pin::pin!(connection);
    let driven = std::future::poll_fn(|context| {
        let state = connection.as_mut().poll(context);
        if state.is_pending() {
            allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
        }
        state
    });
    // How it ended is told to the requests that were under way.
    drop(driven.await);
}

fn unsent<T>(error: hyper::client::conn::TrySendError<T>) -> (hyper::Error, bool) {
    let unsent = error.message().is_some();
    (error.into_error(), unsent)
}

impl Stream {
    fn new(streams: &Arc<AtomicUsize>) -> Stream {
        streams.fetch_add(1, Ordering::Relaxed);
        Stream(streams.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
            let mut connections = self.endpoint.lock();
            if connections.http1.len() < self.max_idle {
                connections.http1.push((sender, Instant::now()));
            }
        }
    }
}
