//! An HTTP/2 connection to a backend.
//!
//! It is spoken with h2 itself. Between the task that asks and the one that owns the connection there is no dispatcher,
//! no channel and no task of the request's own: an answer wakes the one who waits for it. What has come whole by then is
//! handed on whole.
// PERFORMANCE: per-request path

use super::keepalive::{KeepAlive, Readers};
use super::{Release, Tuning};
use crate::body::{Attempt, Body, Guarded};
use crate::lost::Lost;
use bytes::Bytes;
use fairlead_telemetry::task::spawn;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Until the backend says how many streams it allows.
const INITIAL_STREAMS: usize = 100;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const MAX_HEADERS: u32 = 1 << 20;
const SEND_BUFFER: usize = 1 << 20;
/// As many finished streams are let go later than they could be.
const MAX_SPENT: usize = 64;

/// One open connection.
pub struct Connection {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    spent: Arc<Spent>,
}

/// What is known of a connection.
pub(super) struct State {
    /// Requests under way, answers being read included.
    pub streams: AtomicUsize,
    /// Those of them whose answer has not begun.
    pub unanswered: AtomicUsize,
    /// How many the backend allows at once.
    allowed: AtomicUsize,
    /// Something has been read since this was last looked at.
    pub heard: AtomicBool,
    /// It takes no more requests.
    closed: AtomicBool,
    /// It was closed because nothing was heard.
    silent: AtomicBool,
}

/// Streams that have ended. To let one go wakes the connection: so it is done when that is awake anyway.
#[derive(Default)]
struct Spent(Mutex<Vec<RecvStream>>);

/// A connection, for one request.
pub struct Lease {
    sender: SendRequest<Bytes>,
    stream: Stream,
    spent: Arc<Spent>,
}

/// One request of a connection's count.
pub struct Stream(Arc<State>);

/// Somebody waits for an answer until this is dropped.
struct Unanswered(Arc<State>);

impl Unanswered {
    fn new(state: &Arc<State>) -> Unanswered {
        state.unanswered.fetch_add(1, Ordering::Relaxed);
        Unanswered(state.clone())
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The transport, which says that something was read.
struct Listening<T> {
    io: T,
    state: Arc<State>,
}

/// The body of an answer that is not here yet.
struct Answer {
    recv: RecvStream,
    first: Option<Bytes>,
    data_ended: bool,
    /// How much is to come, where the backend said so.
    left: Option<u64>,
}

impl Connection {
    /// The connection, and what has to run for as long as it lives.
    ///
    /// # Errors
    /// The other side does not speak HTTP/2.
    pub async fn open<T>(
        io: T,
        tuning: &Tuning,
        readers: &Readers,
    ) -> Result<(Connection, impl Future<Output = ()> + use<T>), h2::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            allowed: AtomicUsize::new(INITIAL_STREAMS),
            heard: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        });
        let io = Listening {
            io,
            state: state.clone(),
        };
        let (sender, mut connection) = Builder::new()
            .initial_max_send_streams(INITIAL_STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(io)
            .await?;
        let keepalive = connection
            .ping_pong()
            .map(|pings| KeepAlive::new(pings, readers.clone(), tuning.ping_interval, tuning.ping_timeout));
        let driving = drive(connection, keepalive, state.clone());
        let connection = Connection {
            sender,
            state,
            spent: Arc::default(),
        };
        Ok((connection, driving))
    }

    pub fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    pub fn streams(&self) -> usize {
        self.state.streams.load(Ordering::Relaxed)
    }

    pub fn has_room(&self) -> bool {
        self.streams() < self.state.allowed.load(Ordering::Relaxed)
    }

    pub fn lease(&self) -> Lease {
        self.state.streams.fetch_add(1, Ordering::Relaxed);
        Lease {
            sender: self.sender.clone(),
            stream: Stream(self.state.clone()),
            spent: self.spent.clone(),
        }
    }
}

impl Lease {
    /// Whether the connection still takes requests.
    pub async fn ready(&mut self) -> bool {
        let ready = poll_fn(|context| self.sender.poll_ready(context)).await;
        if ready.is_err() {
            self.stream.0.closed.store(true, Ordering::Release);
        }
        ready.is_ok()
    }

    /// Sends the request and waits until its answer begins; `release` is kept until that has been read.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(
        self,
        request: Request<Attempt>,
        release: impl FnOnce(Stream) -> Release,
    ) -> Result<Response<Body>, Lost> {
        let Lease {
            mut sender,
            stream,
            spent,
        } = self;
        let (mut parts, body) = request.into_parts();
        set_length(&mut parts.headers, &parts.method, &body);
        let ended = body.is_end_stream();
        let lost = |error: &h2::Error, state: &State| match state.silent.load(Ordering::Acquire) {
            true => Lost::silent(),
            false => Lost::http2(error),
        };
        let unanswered = Unanswered::new(&stream.0);
        let sent = sender.send_request(Request::from_parts(parts, ()), ended);
        spent.let_go();
        let (answering, sending) = sent.map_err(|error| Lost {
            sent: false,
            ..lost(&error, &stream.0)
        })?;
        drop(sender);
        let answer = match ended {
            true => {
                drop(sending);
                answering.await
            }
            false => with_body(answering, body, sending).await?,
        };
        drop(unanswered);
        let (parts, recv) = answer.map_err(|error| lost(&error, &stream.0))?.into_parts();
        let body = received(recv, &parts.headers, release(stream), &spent).await;
        Ok(Response::from_parts(parts, body))
    }
}

/// COMPAT: as hyper's client does, so that backends see the length of what has one.
fn set_length(headers: &mut HeaderMap, method: &Method, body: &Attempt) {
    let Some(length) = body.size_hint().exact() else { return };
    let means_something = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if (length != 0 || means_something) && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// Sends the body while waiting for the answer. What is left of it when that has begun is sent by a task of its own.
async fn with_body(
    answering: ResponseFuture,
    body: Attempt,
    sending: SendStream<Bytes>,
) -> Result<Result<Response<RecvStream>, h2::Error>, Lost> {
    let mut answering = answering;
    let mut piping = Box::pin(pipe(body, sending));
    let mut piped = false;
    let answer = poll_fn(|context| {
        if !piped && let Poll::Ready(done) = piping.as_mut().poll(context) {
            piped = true;
            if let Err(lost) = done {
                return Poll::Ready(Err(lost));
            }
        }
        Pin::new(&mut answering).poll(context).map(Ok)
    })
    .await?;
    if !piped {
        drop(spawn("backend request body", async move {
            // Whether the rest was wanted shows in the answer.
            drop(piping.await);
        }));
    }
    Ok(answer)
}

/// Sends a body to its end, or until the backend wants no more of it.
async fn pipe(mut body: Attempt, mut sending: SendStream<Bytes>) -> Result<(), Lost> {
    loop {
        let frame = tokio::select! {
            biased;
            _ = poll_fn(|context| sending.poll_reset(context)) => return Ok(()),
            frame = body.frame() => frame,
        };
        let frame = match frame {
            None => {
                drop(sending.send_data(Bytes::new(), true));
                return Ok(());
            }
            Some(Err(error)) => {
                sending.send_reset(Reason::CANCEL);
                return Err(Lost::by_client(error.to_string()));
            }
            Some(Ok(frame)) => frame,
        };
        let chunk = match frame.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => {
                drop(sending.send_trailers(frame.into_trailers().unwrap_or_default()));
                return Ok(());
            }
        };
        if !chunk.is_empty() && !has_capacity(&mut sending).await {
            return Ok(());
        }
        let is_last = body.is_end_stream();
        if sending.send_data(chunk, is_last).is_err() || is_last {
            return Ok(());
        }
    }
}

/// Waits until something may be sent; not for more, so that streams do not keep from each other what they do not use yet.
async fn has_capacity(sending: &mut SendStream<Bytes>) -> bool {
    sending.reserve_capacity(1);
    while sending.capacity() == 0 {
        match poll_fn(|context| sending.poll_capacity(context)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return false,
        }
    }
    true
}

/// The body of an answer; what has come with its head is taken at once.
async fn received(mut recv: RecvStream, headers: &HeaderMap, release: Release, spent: &Spent) -> Body {
    let told = length(headers);
    if recv.is_end_stream() {
        spent.keep(recv);
        return Body::whole(Bytes::new(), true);
    }
    let first = poll_fn(|context| Poll::Ready(recv.poll_data(context))).await;
    let first = match first {
        Poll::Ready(Some(Ok(data))) => {
            // It fails only where more is given back than was taken.
            let _ = recv.flow_control().release_capacity(data.len());
            Some(data)
        }
        // Whatever it is, it is told again.
        Poll::Ready(Some(Err(error))) => return Body::new(Failing(Some(error))),
        Poll::Ready(None) | Poll::Pending => None,
    };
    match first {
        Some(data) if recv.is_end_stream() => {
            spent.keep(recv);
            Body::whole(data, told.is_some())
        }
        first => Body::new(Guarded {
            body: Answer {
                recv,
                first,
                data_ended: false,
                left: told,
            },
            guard: Some(release),
        }),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Runs a connection to its end. How it ended is told to the requests that were under way.
async fn drive<T>(connection: h2::client::Connection<T, Bytes>, keepalive: Option<KeepAlive>, state: Arc<State>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut connection, mut keepalive) = (pin!(connection), keepalive);
    poll_fn(|context| {
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let allowed = connection.max_concurrent_send_streams();
        state.allowed.store(allowed, Ordering::Relaxed);
        let Some(keepalive) = &mut keepalive else {
            return Poll::Pending;
        };
        ready!(keepalive.poll(context, &state));
        state.silent.store(true, Ordering::Release);
        Poll::Ready(())
    })
    .await;
    state.closed.store(true, Ordering::Release);
}

// === impl Spent ===

impl Spent {
    fn keep(&self, stream: RecvStream) {
        let mut spent = self.lock();
        if spent.len() < MAX_SPENT {
            spent.push(stream);
        }
    }

    fn let_go(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RecvStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Stream ===

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Answer ===

impl Answer {
    fn took(&mut self, data: &Bytes) {
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            this.took(&first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if !this.data_ended {
            match ready!(this.recv.poll_data(context)) {
                Some(Ok(data)) => {
                    // It fails only where more is given back than was taken.
                    let _ = this.recv.flow_control().release_capacity(data.len());
                    this.took(&data);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(unless_early(error)),
                None => this.data_ended = true,
            }
        }
        Poll::Ready(match ready!(this.recv.poll_trailers(context)) {
            Ok(trailers) => trailers.map(|t| Ok(Frame::trailers(t))),
            Err(error) => unless_early(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.recv.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map(SizeHint::with_exact).unwrap_or_default()
    }
}

/// A server that has answered may say that it wants nothing more, which is no error (RFC 9113 §8.1).
fn unless_early(error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
    (error.reason() != Some(Reason::NO_ERROR)).then_some(Err(error))
}

/// A body that broke off before anything of it was read.
struct Failing(Option<h2::Error>);

impl HttpBody for Failing {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Poll::Ready(self.0.take().and_then(unless_early))
    }
}

// === impl Listening ===

impl<T: AsyncRead + Unpin> AsyncRead for Listening<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.state.heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Listening<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        slices: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
