//! [`Body`]: the body of an answer, and [`Payload`], the body of a request.
// PERFORMANCE: per-request path

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll};

pub type Response = http::Response<Body>;
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// The body of an answer. What it holds (permits, observers) is released when it has been sent or given up.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    held: Vec<Box<dyn Hold>>,
    sent: u64,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream {
        bytes: ByteStream,
        length: Option<u64>,
    },
    Other(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

/// Something that lives as long as an answer is being sent.
pub trait Hold: Send {
    /// Called once, with the number of bytes that were handed to the connection.
    fn released(&mut self, sent: u64);
}

/// Permits have nothing to be told: dropping them is enough.
pub struct Kept<T>(pub T);

impl<T: Send> Hold for Kept<T> {
    fn released(&mut self, _: u64) {}
}

// === impl Body ===

impl Body {
    pub fn empty() -> Body {
        Body::default()
    }

    pub fn full(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        let kind = if bytes.is_empty() {
            Kind::Empty
        } else {
            Kind::Full(bytes)
        };
        Body::of(kind)
    }

    /// Pieces as they come. `length` is their sum where it is known.
    pub fn stream(bytes: ByteStream, length: Option<u64>) -> Body {
        Body::of(Kind::Stream { bytes, length })
    }

    /// Any other body, trailers included.
    pub fn other<B>(body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Body::of(Kind::Other(Box::pin(body.map_err(Into::into))))
    }

    fn of(kind: Kind) -> Body {
        Body {
            kind,
            held: Vec::new(),
            sent: 0,
        }
    }

    /// Keeps `hold` until this body is dropped.
    pub fn hold(&mut self, hold: impl Hold + 'static) {
        self.held.push(Box::new(hold));
    }

    /// Whether all of it is here already.
    pub fn is_whole(&self) -> bool {
        matches!(self.kind, Kind::Empty | Kind::Full(_))
    }

    /// The length, where it is known.
    pub fn len(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    /// Drops the content, as for HEAD.
    pub fn cut(&mut self) {
        self.kind = Kind::Empty;
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        for mut hold in self.held.drain(..) {
            hold.released(self.sent);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Stream { bytes, .. } => match bytes.as_mut().poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece.map(|p| p.map(Frame::data)),
            },
            Kind::Other(body) => match body.as_mut().poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame,
            },
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.sent += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) | Kind::Stream { .. } => false,
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream {
                length: Some(length), ..
            } => SizeHint::with_exact(*length),
            Kind::Stream { length: None, .. } => SizeHint::default(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}

/// The body of a request.
#[derive(Default)]
pub enum Payload {
    #[default]
    Empty,
    Bytes(Bytes),
    Incoming(hyper::body::Incoming),
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("limit is {0}")]
    TooLarge(usize),
    #[error("the connection broke while the body was read")]
    Broken(#[source] hyper::Error),
}

impl Payload {
    /// All of it, up to `limit` bytes.
    ///
    /// # Errors
    /// The body is longer, or the client went away.
    pub async fn read(self, limit: usize) -> Result<Bytes, ReadError> {
        let mut incoming = match self {
            Payload::Empty => return Ok(Bytes::new()),
            Payload::Bytes(bytes) if bytes.len() > limit => return Err(ReadError::TooLarge(limit)),
            Payload::Bytes(bytes) => return Ok(bytes),
            Payload::Incoming(incoming) => incoming,
        };
        if incoming.size_hint().lower() > limit as u64 {
            return Err(ReadError::TooLarge(limit));
        }
        let mut first: Option<Bytes> = None;
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else {
                continue;
            };
            let so_far = first.as_ref().map_or(0, Bytes::len) + rest.len();
            if so_far + data.len() > limit {
                return Err(ReadError::TooLarge(limit));
            }
            // One frame is the rule: it is passed on without a copy.
            match &first {
                None => first = Some(data),
                Some(_) => rest.extend_from_slice(&data),
            }
        }
        let first = first.unwrap_or_default();
        if rest.is_empty() {
            return Ok(first);
        }
        let mut whole = Vec::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok(whole.into())
    }
}

impl HttpBody for Payload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Payload::Empty => Poll::Ready(None),
            Payload::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Payload::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Payload::Incoming(incoming) => Pin::new(incoming).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Empty => true,
            Payload::Bytes(bytes) => bytes.is_empty(),
            Payload::Incoming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Empty => SizeHint::with_exact(0),
            Payload::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Payload::Incoming(incoming) => incoming.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Told(Arc<AtomicU64>);

    impl Hold for Told {
        fn released(&mut self, sent: u64) {
            self.0.store(sent + 1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn what_a_body_holds_learns_what_was_sent() {
        let told = Arc::new(AtomicU64::new(0));
        let mut body = Body::full("hello");
        body.hold(Told(told.clone()));
        let collected = (&mut body).collect().await.unwrap().to_bytes();
        assert_eq!(collected, "hello");
        drop(body);
        assert_eq!(told.load(Ordering::SeqCst), 6);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let error = Payload::Bytes("12345".into()).read(4).await.unwrap_err();
        assert_eq!(error.to_string(), "limit is 4");
    }
}
