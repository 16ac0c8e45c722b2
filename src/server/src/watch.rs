//! A watch as a body: frames of events, several in a write where several are ready.
// PERFORMANCE: per-request path

use crate::body::{Body, BoxError, Response};
use crate::drain::Drain;
use crate::encode;
use crate::metrics::Metrics;
use crate::request_info::RequestInfo;
use crate::streams::move_in;
use bytes::Bytes;
use fairlead_api::{Status, json};
use fairlead_codec::protobuf::{self as codec, Protobuf, envelope};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::piece::Writer;
use fairlead_resource::request::{EventKind, WatchEvent, WatchStream};
use fairlead_storage::Cached;
use fairlead_telemetry::metrics::{Histogram, IntCounter};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How a watch ends and what counts its events.
pub struct Watching {
    pub drain: Drain,
    /// After which the watch ends; `None` leaves the end to the stream.
    pub timeout: Option<Duration>,
    pub events: Events,
}

/// Counts a watch's events; the series are looked up once a watch.
pub struct Events {
    count: IntCounter,
    sizes: Histogram,
}

impl Events {
    pub fn of(metrics: &Metrics, info: &RequestInfo) -> Events {
        let labels = [info.group.as_str(), info.version.as_str(), info.resource.as_str()];
        Events {
            count: metrics.watch_events.with(&labels),
            sizes: metrics.watch_event_sizes.with(&labels),
        }
    }

    pub fn sent(&self, size: usize) {
        self.count.inc();
        self.sizes.observe(size as f64);
    }

    /// Counts the events of a piece.
    fn sent_all(&self, sizes: &[u32]) {
        self.count.inc_by(sizes.len() as u64);
        match sizes {
            [size] => self.sizes.observe(f64::from(*size)),
            sizes => {
                let local = self.sizes.local();
                sizes.iter().for_each(|size| local.observe(f64::from(*size)));
            }
        }
    }
}

/// How events are written.
pub enum Form {
    /// One a line.
    Json,
    /// Each behind its length, objects of one resource.
    Protobuf {
        protobuf: Arc<Protobuf>,
        definition: Arc<ResourceDefinition>,
    },
}

/// Serves a watch as frames.
pub fn frames(stream: Box<dyn WatchStream>, form: Form, watching: Watching) -> Response {
    let Watching { drain, timeout, events } = watching;
    let deadline = timeout.map(|t| Instant::now() + t);
    let media_type = match form {
        Form::Json => "application/json",
        Form::Protobuf { .. } => "application/vnd.kubernetes.protobuf;stream=watch",
    };
    let frames = Frames {
        stream,
        form,
        events,
        end: Box::pin(async move {
            tokio::select! {
                () = drain.wait() => {}
                () = until(deadline) => {}
            }
        }),
    };
    let mut response = Response::new(Body::stream(Box::pin(frames), None));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

struct Frames {
    form: Form,
    stream: Box<dyn WatchStream>,
    events: Events,
    /// When the watch ends in any case.
    end: BoxFuture<'static, ()>,
}

impl Stream for Frames {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Frames {
            form,
            stream,
            events,
            end,
        } = &mut *self;
        move_in();
        if end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let piece = ready!(stream.poll_piece(context, form));
        Poll::Ready(piece.map(|piece| {
            events.sent_all(&piece.sizes);
            Ok(piece.bytes)
        }))
    }
}

impl Writer for Form {
    fn name(&self) -> &'static str {
        match self {
            Form::Json => "json",
            Form::Protobuf { .. } => "protobuf",
        }
    }

    fn frame(&self, event: &WatchEvent) -> Bytes {
        frame(event, self)
    }

    fn write(&self, event: &WatchEvent, out: &mut Vec<u8>) {
        match self {
            Form::Json => write_frame(event, out),
            form => out.extend_from_slice(&frame(event, form)),
        }
    }
}

/// Waits for a moment, or for ever.
pub async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// An event by itself, where something else says how long it is.
pub fn message(event: &WatchEvent, form: &Form) -> Bytes {
    let mut frame = frame(event, form);
    match form {
        Form::Json => frame,
        Form::Protobuf { .. } => frame.split_off(envelope::FRAME_HEAD),
    }
}

/// `{"type":…,"object":…}` and a line break; of cached objects one for all watchers that send it at the same time.
fn frame(event: &WatchEvent, form: &Form) -> Bytes {
    if let Form::Protobuf { protobuf, definition } = form {
        return protobuf_frame(event, definition, protobuf).into();
    }
    if let WatchEvent::Object { kind, object } = event {
        let shared = match kind {
            EventKind::Added => Some(0),
            EventKind::Modified => Some(1),
            EventKind::Deleted => Some(2),
            EventKind::Bookmark | EventKind::Error => None,
        };
        if let Some(shared) = shared {
            return object.forms.frame(shared, || compose(*kind, object));
        }
    }
    let mut out = Vec::with_capacity(512);
    write_frame(event, &mut out);
    out.into()
}

fn protobuf_frame(event: &WatchEvent, definition: &ResourceDefinition, protobuf: &Protobuf) -> Vec<u8> {
    match event {
        WatchEvent::Object { kind, object } => {
            match encode::protobuf::message(object, definition.schema.root, protobuf) {
                Ok(message) => {
                    let api_version = definition.group_version().to_string();
                    envelope::frame(kind.as_str(), &api_version, &definition.kind, &message)
                }
                Err(failed) => envelope::frame_document(EventKind::Error.as_str(), &codec::status(&failed.to_node())),
            }
        }
        WatchEvent::Node { kind, node } => match protobuf.document(node) {
            Some(document) => envelope::frame_document(kind.as_str(), &document),
            None => {
                let failed = Status::internal("the object has no protobuf form");
                envelope::frame_document(EventKind::Error.as_str(), &codec::status(&failed.to_node()))
            }
        },
    }
}

fn compose(kind: EventKind, object: &Cached) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.json.len() + 40);
    open(kind, &mut out);
    object.json.write(0, &mut out);
    out.extend_from_slice(b"}\n");
    out
}

fn write_frame(event: &WatchEvent, out: &mut Vec<u8>) {
    match event {
        WatchEvent::Object { kind, object } => {
            open(*kind, out);
            object.json.write(0, out);
        }
        WatchEvent::Node { kind, node } => {
            open(*kind, out);
            json::write(node, out);
        }
    }
    out.extend_from_slice(b"}\n");
}

fn open(kind: EventKind, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use fairlead_telemetry::Families;
    use futures_util::future::BoxFuture;
    use http_body_util::BodyExt;

    /// Events that are ready at once; then the end, or silence.
    struct Script {
        events: std::vec::IntoIter<WatchEvent>,
        ends: bool,
    }

    impl WatchStream for Script {
        fn next(&mut self) -> BoxFuture<'_, Option<WatchEvent>> {
            match self.events.next() {
                Some(event) => Box::pin(std::future::ready(Some(event))),
                None if self.ends => Box::pin(std::future::ready(None)),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    fn event(name: &str) -> WatchEvent {
        WatchEvent::Node {
            kind: EventKind::Added,
            node: node!({"name": name}),
        }
    }

    fn watching(drain: Drain, timeout: Option<Duration>) -> Watching {
        let metrics = Metrics::register(&Families::default());
        Watching {
            drain,
            timeout,
            events: Events::of(&metrics, &RequestInfo::default()),
        }
    }

    fn serve(names: &[&str], ends: bool, watching: Watching) -> Response {
        let events = names.iter().map(|n| event(n)).collect::<Vec<_>>().into_iter();
        frames(Box::new(Script { events, ends }), Form::Json, watching)
    }

    #[tokio::test]
    async fn what_is_ready_goes_in_one_write() {
        let mut body = serve(&["a", "b"], true, watching(Drain::default(), None)).into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(
            first,
            "{\"type\":\"ADDED\",\"object\":{\"name\":\"a\"}}\n{\"type\":\"ADDED\",\"object\":{\"name\":\"b\"}}\n"
        );
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_ends_with_its_time_and_with_the_server() {
        let body = serve(&["a"], false, watching(Drain::default(), Some(Duration::from_secs(30)))).into_body();
        assert!(body.collect().await.unwrap().to_bytes().ends_with(b"}\n"));
        let drain = Drain::default();
        drain.begin();
        let body = serve(&[], false, watching(drain, None)).into_body();
        assert!(body.collect().await.unwrap().to_bytes().is_empty());
    }
}
