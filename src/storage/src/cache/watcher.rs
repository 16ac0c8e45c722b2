//! [`Watcher`]: follows a cache's event ring with a cursor.
// PERFORMANCE: per-request path

use crate::cache::ring::{Cursor, Next};
use crate::cache::stats::add;
use crate::cache::{Cache, read, write};
use crate::cached::Cached;
use crate::store::{Error, Result, Revision};
use compact_str::CompactString;
use futures_util::task::AtomicWaker;
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
        })
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
        self.waker.register(context.waker());
        loop {
            // Looked at before the ring: what happened before the end is delivered.
            let retired = self.cache.0.retired.load(Ordering::Acquire);
            if let Some(found) = self.take() {
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
            if let Some(progress) = self.progress() {
                return Poll::Ready(progress);
            }
        }
    }

    /// What the ring has after the cursor.
    fn take(&mut self) -> Option<Result<CacheEvent>> {
        match read(&self.cache.0.ring).next(&self.scope, self.cursor) {
            Next::Event(behind, event) => {
                self.cursor = behind;
                self.period = PROGRESS;
                add(&self.cache.0.counts.events_dispatched, 1);
                Some(Ok(event))
            }
            Next::Lost(floor) => {
                add(&self.cache.0.counts.terminated_watchers, 1);
                Some(Err(Error::Compacted {
                    oldest: Revision(floor),
                }))
            }
            Next::Idle(_) => None,
        }
    }

    /// The revision up to which everything has been delivered, as of now.
    pub fn reached(&mut self) -> Revision {
        _ = self.progress();
        Revision(self.cursor.reached())
    }

    fn progress(&mut self) -> Option<Result<CacheEvent>> {
        self.cache.catch_up();
        match read(&self.cache.0.ring).next(&self.scope, self.cursor) {
            Next::Idle(revision) if revision >= self.cursor.reached() => {
                self.cursor = Cursor::after(revision);
                Some(Ok(CacheEvent::Progress(Revision(revision))))
            }
            _ => None,
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
