//! [`Watcher`]: follows a cache's event ring with a cursor.
// PERFORMANCE: per-request path

use crate::cache::ring::{Cursor, Next};
use crate::cache::runs::{Form, Known, RUN_BYTES};
use crate::cache::stats::add;
use crate::cache::waves::Waiters;
use crate::cache::{Cache, read, write};
use crate::cached::Cached;
use crate::store::{Error, Result, Revision};
use compact_str::CompactString;
use futures_util::task::AtomicWaker;
use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How soon a watcher that has become idle hears how far the store has got; then after twice the time, and so on.
const PROGRESS: Duration = Duration::from_secs(1);
const RARELY: Duration = Duration::from_secs(16);

/// Which objects a watcher wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WatchScope {
    All,
    Namespace(CompactString),
    /// One object, by its key relative to the cache's prefix.
    Key(CompactString),
    /// Objects whose selectable field has a value, or had it before the change; in one namespace, or, where that is
    /// empty, in all.
    Field {
        namespace: CompactString,
        field: CompactString,
        value: CompactString,
    },
}

/// What a watcher sees.
#[derive(Clone, Debug)]
pub enum CacheEvent {
    Put {
        object: Arc<Cached>,
        previous: Option<Arc<Cached>>,
    },
    /// `object` is the last state at the revision of the delete.
    Delete { object: Arc<Cached>, previous: Arc<Cached> },
    /// Everything up to this revision has been delivered. After a second without anything else, then less and less often:
    /// [`Watcher::reached`] tells at any time.
    Progress(Revision),
}

/// What a watcher comes to when it takes several events at once.
#[derive(Debug)]
pub enum Step {
    /// What was made of them, and the revision up to which everything has been seen.
    Run(Made, Revision),
    /// Events that have to be taken one by one.
    Singly,
    /// As [`CacheEvent::Progress`].
    Progress(Revision),
}

/// What runs of events are made into.
pub type Made = Arc<dyn Any + Send + Sync>;

/// How far a watcher looks.
#[derive(Clone, Copy)]
enum Sight {
    Shown,
    All,
}

/// One reader of a cache's events. Costs no memory for events it has not read; one that falls behind the ring is
/// told so, and disturbs nobody.
pub struct Watcher {
    cache: Cache,
    scope: WatchScope,
    /// Everything up to here has been delivered.
    cursor: Cursor,
    id: u64,
    waker: Arc<AtomicWaker>,
    tick: Option<Pin<Box<Sleep>>>,
    period: Duration,
    hurries: bool,
}

impl Watcher {
    pub(super) fn new(cache: Cache, after: Option<Revision>, scope: WatchScope) -> Result<Watcher> {
        let waker = Arc::new(AtomicWaker::new());
        let (id, cursor) = {
            let mut ring = write(&cache.0.ring);
            let cursor = after.map_or(ring.revision, |after| after.0);
            let subscribed = ring.subscribe(&scope, cursor, waker.clone());
            (
                subscribed.map_err(|floor| Error::Compacted {
                    oldest: Revision(floor),
                })?,
                Cursor::after(cursor),
            )
        };
        Ok(Watcher {
            cache,
            scope,
            cursor,
            id,
            waker,
            tick: None,
            period: PROGRESS,
            hurries: false,
        })
    }

    /// From now on sees every event as soon as it has happened, though others are not shown it yet. It is still woken with
    /// them.
    pub fn hurry(&mut self) {
        self.hurries = true;
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Compacted`]: events this watcher has not seen are gone. [`Error::Unavailable`]: it has seen all there
    /// will be. Either way it is of no further use.
    pub async fn next(&mut self) -> Result<CacheEvent> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Watcher::next`]. Nothing is lost when a pending poll is not followed up.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<CacheEvent>> {
        self.poll_with(context, Watcher::take, CacheEvent::Progress)
    }

    /// The next events at once, as `make` makes them into something: once for all watchers that use the same `form` and
    /// stand at the same place, where there are many. Events that `make` makes nothing of are left to
    /// [`Watcher::poll_next`].
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub fn poll_run(
        &mut self,
        context: &mut Context<'_>,
        form: &mut dyn FnMut() -> Form,
        make: &mut dyn FnMut(&[CacheEvent]) -> Option<Made>,
    ) -> Poll<Result<Step>> {
        self.poll_with(
            context,
            |watcher, sight| watcher.take_run(form, sight, make),
            Step::Progress,
        )
    }

    fn poll_with<T>(
        &mut self,
        context: &mut Context<'_>,
        mut take: impl FnMut(&mut Watcher, Sight) -> Option<Result<T>>,
        progress: impl FnOnce(Revision) -> T,
    ) -> Poll<Result<T>> {
        self.waker.register(context.waker());
        loop {
            // Looked at before the ring: what happened before the end is delivered.
            let retired = self.cache.0.retired.load(Ordering::Acquire);
            let sight = if retired || self.hurries {
                Sight::All
            } else {
                Sight::Shown
            };
            if let Some(found) = take(self, sight) {
                return Poll::Ready(found);
            }
            if retired {
                return Poll::Ready(Err(Error::Unavailable("the cache has been replaced".into())));
            }
            let tick = self.tick.get_or_insert_with(|| Box::pin(tokio::time::sleep(PROGRESS)));
            if tick.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.period = (self.period * 2).min(RARELY);
            tick.as_mut().reset(Instant::now() + self.period);
            if let Some(reached) = self.progress() {
                return Poll::Ready(Ok(progress(reached)));
            }
        }
    }

    /// What the ring has after the cursor.
    fn take(&mut self, sight: Sight) -> Option<Result<CacheEvent>> {
        match self.look(self.cursor, sight).0 {
            Next::Event(behind, event) => {
                self.went(behind, 1);
                Some(Ok(event))
            }
            Next::Lost(floor) => Some(Err(self.lost(floor))),
            Next::Idle(_) => None,
        }
    }

    fn take_run(
        &mut self,
        form: &mut dyn FnMut() -> Form,
        sight: Sight,
        make: &mut dyn FnMut(&[CacheEvent]) -> Option<Made>,
    ) -> Option<Result<Step>> {
        let from = self.cursor;
        let shared = match self.look(from, sight) {
            (Next::Idle(_), _) => return None,
            (Next::Lost(floor), _) => return Some(Err(self.lost(floor))),
            (Next::Event(..), many) => many.then(form),
        };
        if let Some(known) = shared.as_ref().and_then(|form| self.cache.0.runs.find(form, from)) {
            return Some(Ok(self.seen(known)));
        }
        let (mut to, mut events, mut bytes) = (from, Vec::new(), 0);
        while bytes < RUN_BYTES
            && let (Next::Event(behind, event), _) = self.look(to, sight)
        {
            to = behind;
            bytes += event.bytes();
            events.push(event);
        }
        let Some(made) = make(&events) else {
            return Some(Ok(Step::Singly));
        };
        let known = Known {
            made,
            to,
            events: events.len(),
        };
        if let Some(form) = shared {
            self.cache.0.runs.keep(form, from, known.clone());
        }
        Some(Ok(self.seen(known)))
    }

    /// What follows a cursor, and whether there are many who want to know.
    fn look(&self, from: Cursor, sight: Sight) -> (Next, bool) {
        let ring = read(&self.cache.0.ring);
        let waiters = ring.waiters(&self.scope);
        let next = match sight {
            Sight::Shown => ring.next_shown(&self.scope, from),
            Sight::All => ring.next(&self.scope, from),
        };
        (next, waiters.is_some_and(Waiters::are_many))
    }

    fn seen(&mut self, known: Known) -> Step {
        self.went(known.to, known.events);
        Step::Run(known.made, Revision(self.cursor.reached()))
    }

    fn went(&mut self, behind: Cursor, events: usize) {
        self.cursor = behind;
        self.period = PROGRESS;
        add(&self.cache.0.counts.events_dispatched, events);
    }

    fn lost(&self, floor: u64) -> Error {
        add(&self.cache.0.counts.terminated_watchers, 1);
        Error::Compacted {
            oldest: Revision(floor),
        }
    }

    /// The revision up to which everything has been delivered, as of now.
    pub fn reached(&mut self) -> Revision {
        _ = self.progress();
        Revision(self.cursor.reached())
    }

    fn progress(&mut self) -> Option<Revision> {
        self.cache.catch_up();
        match read(&self.cache.0.ring).next(&self.scope, self.cursor) {
            Next::Idle(revision) if revision >= self.cursor.reached() => {
                self.cursor = Cursor::after(revision);
                Some(Revision(revision))
            }
            _ => None,
        }
    }
}

impl CacheEvent {
    fn bytes(&self) -> usize {
        match self {
            CacheEvent::Put { object, .. } | CacheEvent::Delete { object, .. } => object.json.len(),
            CacheEvent::Progress(_) => 0,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        write(&self.cache.0.ring).unsubscribe(&self.scope, self.id);
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("scope", &self.scope)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
