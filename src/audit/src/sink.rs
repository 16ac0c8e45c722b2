//! [`Sink`]: a bounded queue in front of a place where events go. Its other end is a [`Collector`].
//!
//! In batch mode nothing ever waits: what finds no room is lost, and counted. In the blocking modes a request waits until
//! its event is written, as its task and not as a thread; so a slow disk or webhook holds up audited requests and no
//! others. In every mode a sink holds [`ROOM`] bytes at most.
// PERFORMANCE: per-request path

use crate::batch::{Batch, Collector};
use crate::event::{self, Event, Wanted};
use crate::level::Level;
use crate::metrics::Metrics;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// How many bytes of events one sink holds.
pub const ROOM: usize = 64 << 20;
/// Room is counted in these.
const UNIT: usize = 1 << 10;

/// Whether requests wait for their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They do not.
    Batch,
    /// They wait, and are answered whatever becomes of the events.
    Blocking,
    /// They wait, and are refused where the first event cannot be stored.
    BlockingStrict,
}

/// What events look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Legacy,
}

/// How large events may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    pub max_event: usize,
    pub max_batch: usize,
}

/// What an operator can set of a sink.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    pub form: Form,
    pub mode: Mode,
    pub truncation: Option<Truncation>,
    /// How many events wait at most, in batch mode.
    pub buffer: usize,
    pub batch: Batch,
}

pub struct Sink {
    form: Form,
    mode: Mode,
    truncation: Option<Truncation>,
    sender: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
    stop: Arc<Notify>,
    metrics: Metrics,
    /// Told when the other end has written everything.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// An event on its way.
pub struct Item {
    pub text: Bytes,
    /// Who waits for it, if anybody does.
    waiting: Option<oneshot::Sender<bool>>,
    _room: OwnedSemaphorePermit,
}

/// All sinks of a server.
pub struct Sinks {
    sinks: Vec<Sink>,
    wanted: Wanted,
}

// === impl Sink ===

impl Sink {
    /// A sink, and the end that its events come out of. `ended` resolves when all are written.
    pub fn new(config: SinkConfig, metrics: &Metrics, ended: oneshot::Receiver<()>) -> (Sink, Collector) {
        let (sender, receiver) = mpsc::channel(config.buffer.max(1));
        let stop = Arc::new(Notify::new());
        let mut batch = config.batch;
        if let Some(truncation) = config.truncation {
            batch.max_bytes = batch.max_bytes.min(truncation.max_batch);
        }
        if config.mode != Mode::Batch {
            // Who waits is not made to wait for others.
            batch.max_wait = Duration::ZERO;
            batch.throttle = None;
        }
        let sink = Sink {
            form: config.form,
            mode: config.mode,
            truncation: config.truncation,
            sender,
            room: Arc::new(Semaphore::new(ROOM / UNIT)),
            stop: stop.clone(),
            metrics: metrics.clone(),
            ended: Mutex::new(Some(ended)),
        };
        (sink, Collector::new(receiver, stop, batch))
    }

    /// `false` where the event is lost and the request must not be served.
    async fn put(&self, event: &Event) -> bool {
        if self.mode == Mode::Batch {
            self.put_now(event);
            return true;
        }
        let Some(text) = self.text(event) else {
            return true;
        };
        let stored = self.store(text).await;
        stored || self.mode != Mode::BlockingStrict
    }

    async fn store(&self, text: Bytes) -> bool {
        let Ok(room) = self.room.clone().acquire_many_owned(units(&text)).await else {
            return false;
        };
        let (waiting, written) = oneshot::channel();
        let item = Item {
            text,
            waiting: Some(waiting),
            _room: room,
        };
        if self.sender.send(item).await.is_err() {
            self.metrics.lost("buffered", 1, &SHUT_DOWN);
            return false;
        }
        written.await.unwrap_or(false)
    }

    fn put_now(&self, event: &Event) {
        let Some(text) = self.text(event) else { return };
        let Ok(room) = self.room.clone().try_acquire_many_owned(units(&text)) else {
            self.metrics.lost("buffered", 1, &BLOCKED);
            return;
        };
        let item = Item {
            text,
            waiting: None,
            _room: room,
        };
        match self.sender.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.metrics.lost("buffered", 1, &BLOCKED),
            Err(TrySendError::Closed(_)) => self.metrics.lost("buffered", 1, &SHUT_DOWN),
        }
    }

    /// The event in this sink's form; `None` where it is too large even without its objects.
    fn text(&self, event: &Event) -> Option<Bytes> {
        if let Some(truncation) = self.truncation
            && event::size(&event.json) > truncation.max_event
        {
            let bare = event.bare.as_ref().filter(|_| event.level >= Level::Request);
            let Some(bare) = bare.filter(|bare| event::size(bare) <= truncation.max_event) else {
                self.metrics
                    .lost("truncate", 1, &"event is too large even after truncating");
                return None;
            };
            if self.form == Form::Json {
                return Some(bare.clone());
            }
        }
        match self.form {
            Form::Json => Some(event.json.clone()),
            Form::Legacy => event.line.clone(),
        }
    }

    async fn close(&self) {
        self.stop.notify_one();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // An end that died has nothing to write.
            _ = ended.await;
        }
    }
}

const BLOCKED: &str = "audit buffer queue blocked";
const SHUT_DOWN: &str = "audit backend shut down";

/// An event larger than all room takes all of it.
fn units(text: &[u8]) -> u32 {
    text.len().div_ceil(UNIT).clamp(1, ROOM / UNIT) as u32
}

// === impl Item ===

impl Item {
    /// Tells who waits, and makes room.
    pub fn done(self, stored: bool) {
        if let Some(waiting) = self.waiting {
            // Who does not wait any longer need not know.
            _ = waiting.send(stored);
        }
    }
}

// === impl Sinks ===

impl Sinks {
    pub fn new(sinks: Vec<Sink>) -> Sinks {
        let limits = sinks.iter().filter_map(|sink| sink.truncation).map(|t| t.max_event);
        let wanted = Wanted {
            json: sinks
                .iter()
                .any(|sink| sink.form == Form::Json || sink.truncation.is_some()),
            line: sinks.iter().any(|sink| sink.form == Form::Legacy),
            bare_above: limits.min(),
        };
        Sinks { sinks, wanted }
    }

    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    pub(crate) async fn put(&self, event: &Event) -> bool {
        let mut stored = true;
        for sink in &self.sinks {
            stored &= sink.put(event).await;
        }
        stored
    }

    pub(crate) fn put_now(&self, event: &Event) {
        self.sinks.iter().for_each(|sink| sink.put_now(event));
    }

    pub(crate) async fn close(&self, patience: Duration) {
        let all = futures_util::future::join_all(self.sinks.iter().map(Sink::close));
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("audit events were not written in time");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::level::Stage;
    use fairlead_api::{Node, json};
    use fairlead_telemetry::Families;

    /// The other end of a sink, for tests.
    pub(crate) struct Kept(pub Collector);

    impl Kept {
        /// What has been put so far.
        pub(crate) fn events(&mut self) -> Vec<Node> {
            let items = self.0.waiting();
            let parse = |item: &Item| json::parse(&[b"{", &item.text[..]].concat()).unwrap();
            items.iter().map(parse).collect()
        }
    }

    pub(crate) fn kept(form: Form, mode: Mode, truncation: Option<Truncation>, metrics: &Metrics) -> (Sink, Kept) {
        let config = SinkConfig {
            form,
            mode,
            truncation,
            buffer: 4,
            batch: Batch::default(),
        };
        let (_, ended) = oneshot::channel();
        let (sink, collector) = Sink::new(config, metrics, ended);
        (sink, Kept(collector))
    }

    fn event(length: usize, bare: Option<usize>) -> Event {
        Event {
            stage: Stage::ResponseComplete,
            level: Level::Request,
            json: vec![b'x'; length].into(),
            bare: bare.map(|length| vec![b'y'; length].into()),
            line: Some(Bytes::from_static(b"line")),
        }
    }

    fn lost(families: &Families, plugin: &str) -> String {
        let mut text = String::new();
        fairlead_telemetry::text::write(&families.gather(), &mut text);
        let prefix = format!("apiserver_audit_error_total{{plugin=\"{plugin}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or("0")
            .to_owned()
    }

    #[tokio::test]
    async fn what_finds_no_room_is_lost_and_counted() {
        let families = Families::default();
        let (sink, mut kept) = kept(Form::Json, Mode::Batch, None, &Metrics::register(&families));
        for _ in 0..7 {
            assert!(sink.put(&event(10, None)).await);
        }
        assert_eq!(
            (kept.0.waiting().len(), lost(&families, "buffered")),
            (4, "3".to_owned())
        );
        // Bytes are bounded as well as events.
        for _ in 0..3 {
            sink.put_now(&event(ROOM / 2, None));
        }
        assert_eq!(
            (kept.0.waiting().len(), lost(&families, "buffered")),
            (2, "4".to_owned())
        );
        sink.put_now(&event(ROOM, None));
        assert_eq!(kept.0.waiting().len(), 1);
    }

    #[tokio::test]
    async fn who_waits_learns_how_it_ended() {
        for (mode, stored, served) in [
            (Mode::Blocking, true, true),
            (Mode::Blocking, false, true),
            (Mode::BlockingStrict, true, true),
            (Mode::BlockingStrict, false, false),
        ] {
            let (sink, mut kept) = kept(Form::Json, mode, None, &Metrics::register(&Families::default()));
            let event = event(1, None);
            let writing = async {
                for item in kept.0.next().await.unwrap() {
                    item.done(stored);
                }
            };
            let (answer, ()) = tokio::join!(sink.put(&event), writing);
            assert_eq!(answer, served, "{mode:?} {stored}");
        }
    }

    #[tokio::test]
    async fn large_events_lose_their_objects_or_are_lost() {
        let families = Families::default();
        let truncation = Truncation {
            max_event: 1000,
            max_batch: 10_000,
        };
        let metrics = Metrics::register(&families);
        let (sink, mut kept) = kept(Form::Json, Mode::Batch, Some(truncation), &metrics);
        let sinks = Sinks::new(vec![sink]);
        assert_eq!(sinks.wanted().bare_above, Some(1000));
        for (length, bare) in [(900, None), (2000, Some(100)), (2000, Some(1001)), (2000, None)] {
            assert!(sinks.put(&event(length, bare)).await);
        }
        let lengths: Vec<usize> = kept.0.waiting().iter().map(|item| item.text.len()).collect();
        assert_eq!((lengths, lost(&families, "truncate")), (vec![900, 100], "2".to_owned()));
    }
}
