//! Bodies: one that can be sent again as long as it is small, one that gives a connection back, one that unzips.
// PERFORMANCE: per-request path

use bytes::{Bytes, BytesMut};
use flate2::write::GzDecoder;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What goes to clients.
pub struct Body(Kind);

enum Kind {
    /// All of it is here. Its length is told only if the backend told it.
    Whole {
        bytes: Bytes,
        has_length: bool,
    },
    Coming(UnsyncBoxBody<Bytes, BoxError>),
}

/// Request bodies up to this size are kept until their request is answered, so that it can be sent again.
const REPLAY_LIMIT: usize = 64 << 10;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Body::whole(bytes.into(), true)
}

/// All of a body, if it is not longer than `limit`.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, BoxError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if all.len() + data.len() > limit {
            return Err("the body is too large".into());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// The first bytes of a body, up to `limit` of them.
pub async fn read_start(mut body: Body, limit: usize) -> Result<Bytes, BoxError> {
    let mut all = BytesMut::new();
    while all.len() < limit
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    all.truncate(limit);
    Ok(all.freeze())
}

/// A request body for several attempts, one after the other.
#[derive(Clone)]
pub struct Replay(Option<Arc<Mutex<Source>>>);

struct Source {
    rest: Body,
    chunks: Vec<Bytes>,
    kept: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// More has passed than is kept: this attempt is the last.
    overflow: bool,
}

/// The body of one attempt.
pub struct Attempt {
    source: Option<Arc<Mutex<Source>>>,
    position: usize,
    sent_trailers: bool,
}

// === impl Body ===

impl Body {
    pub fn new<B>(body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Body(Kind::Coming(body.map_err(Into::into).boxed_unsync()))
    }

    /// All of a body; `has_length` where its length may be told to clients.
    pub fn whole(bytes: Bytes, has_length: bool) -> Body {
        Body(Kind::Whole { bytes, has_length })
    }

    /// All of it with its length, if that is so.
    ///
    /// # Errors
    /// The body as it was.
    pub fn into_whole(self) -> Result<Bytes, Body> {
        match self.0 {
            Kind::Whole {
                bytes,
                has_length: true,
            } => Ok(bytes),
            kind => Err(Body(kind)),
        }
    }

    /// Whether nothing more has to come for it.
    pub fn is_whole(&self) -> bool {
        matches!(self.0, Kind::Whole { .. })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole { bytes, .. } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Coming(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole { bytes, .. } => bytes.is_empty(),
            Kind::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole {
                bytes,
                has_length: true,
            } => SizeHint::with_exact(bytes.len() as u64),
            Kind::Whole { .. } => SizeHint::default(),
            Kind::Coming(body) => body.size_hint(),
        }
    }
}

// === impl Replay ===

impl Replay {
    pub fn new<B>(body: B) -> Replay
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Replay(None);
        }
        let source = Source {
            rest: Body::new(body),
            chunks: Vec::new(),
            kept: 0,
            trailers: None,
            ended: false,
            overflow: false,
        };
        Replay(Some(Arc::new(Mutex::new(source))))
    }

    pub fn empty() -> Replay {
        Replay(None)
    }

    /// Whether there is no body at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn attempt(&self) -> Attempt {
        Attempt {
            source: self.0.clone(),
            position: 0,
            sent_trailers: false,
        }
    }

    /// Whether another attempt would send the whole body.
    pub fn can_repeat(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|s| !s.lock().unwrap_or_else(PoisonError::into_inner).overflow)
    }
}

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(source) = &this.source else {
            return Poll::Ready(None);
        };
        let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = source.chunks.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if source.ended {
            if this.sent_trailers {
                return Poll::Ready(None);
            }
            this.sent_trailers = true;
            return Poll::Ready(source.trailers.clone().map(|t| Ok(Frame::trailers(t))));
        }
        let frame = match ready!(Pin::new(&mut source.rest).poll_frame(context)) {
            None => {
                source.ended = true;
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                // The client broke off: what came of it so far must not be sent as if it were all.
                source.overflow = true;
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(chunk) => {
                source.keep(&chunk);
                this.position = source.chunks.len();
                source.ended = source.rest.is_end_stream();
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                source.trailers = Some(trailers.clone());
                source.ended = true;
                this.sent_trailers = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(source) = &self.source else { return true };
        let source = source.lock().unwrap_or_else(PoisonError::into_inner);
        source.ended && self.position >= source.chunks.len() && (self.sent_trailers || source.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else {
            return SizeHint::with_exact(0);
        };
        let source = source.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = source.chunks.iter().skip(self.position).map(Bytes::len).sum();
        let kept = kept as u64;
        if source.ended {
            return SizeHint::with_exact(kept);
        }
        let rest = source.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + kept);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + kept);
        }
        hint
    }
}

impl Source {
    fn keep(&mut self, chunk: &Bytes) {
        self.kept += chunk.len();
        if self.kept > REPLAY_LIMIT {
            self.overflow = true;
            self.chunks = Vec::new();
        } else {
            self.chunks.push(chunk.clone());
        }
    }
}

/// A body that drops `guard` when it ends or is dropped.
pub struct Guarded<B, G> {
    pub body: B,
    pub guard: Option<G>,
}

impl<B, G> HttpBody for Guarded<B, G>
where
    B: HttpBody<Data = Bytes> + Unpin,
    G: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
            self.guard = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Unzips what was zipped because the gateway, and not the client, asked for it.
pub struct Gunzip<B> {
    body: B,
    decoder: Option<GzDecoder<Vec<u8>>>,
}

impl<B> Gunzip<B> {
    pub fn new(body: B) -> Gunzip<B> {
        Gunzip {
            body,
            decoder: Some(GzDecoder::new(Vec::new())),
        }
    }
}

impl<B> HttpBody for Gunzip<B>
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let Some(decoder) = &mut this.decoder else {
                return Poll::Ready(None);
            };
            let unzipped = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => decoder.write_all(&data).and_then(|()| decoder.flush()),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let Some(decoder) = this.decoder.take() else {
                        return Poll::Ready(None);
                    };
                    return match decoder.finish() {
                        Ok(rest) if rest.is_empty() => Poll::Ready(None),
                        Ok(rest) => Poll::Ready(Some(Ok(Frame::data(rest.into())))),
                        Err(error) => Poll::Ready(Some(Err(error.into()))),
                    };
                }
            };
            if let Err(error) = unzipped {
                this.decoder = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            let out = std::mem::take(decoder.get_mut());
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::StreamBody;

    fn chunks(parts: &[&str]) -> Body {
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = parts
            .iter()
            .map(|p| Ok(Frame::data(Bytes::copy_from_slice(p.as_bytes()))))
            .collect();
        Body::new(StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn text(body: impl HttpBody<Data = Bytes, Error = BoxError>) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_small_body_is_sent_again_from_its_beginning() {
        let replay = Replay::new(chunks(&["a", "b", "c"]));
        let mut first = replay.attempt();
        first.frame().await.unwrap().unwrap();
        drop(first);
        assert!(replay.can_repeat());
        assert_eq!(text(replay.attempt()).await, "abc");
        assert_eq!(text(replay.attempt()).await, "abc");
        assert_eq!(replay.attempt().size_hint().exact(), Some(3));
    }

    #[tokio::test]
    async fn a_large_body_is_not_kept() {
        let large = "x".repeat(REPLAY_LIMIT);
        let replay = Replay::new(chunks(&["a", &large, "z"]));
        assert_eq!(text(replay.attempt()).await.len(), REPLAY_LIMIT + 2);
        assert!(!replay.can_repeat());
    }

    #[test]
    fn an_empty_body_is_at_its_end() {
        assert!(Replay::new(full("")).attempt().is_end_stream());
        assert_eq!(Replay::empty().attempt().size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn zipped_data_is_unzipped_as_it_comes() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"hello ").unwrap();
        encoder.flush().unwrap();
        let first = encoder.get_ref().clone();
        encoder.write_all(b"world").unwrap();
        let all = encoder.finish().unwrap();
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = vec![
            Ok(Frame::data(first.clone().into())),
            Ok(Frame::data(Bytes::copy_from_slice(&all[first.len()..]))),
        ];
        let mut body = Gunzip::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))));
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, "hello ");
        assert_eq!(text(body).await, "world");
    }
}
