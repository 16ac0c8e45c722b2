//! [`Feed`]: hands committed changes of an in-process store to its watches, in commit order.

use crate::store::{Batch, Change, Error, Result, Revision, Watch};
use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

/// A watch that is further behind than this reads from the store's history again.
const QUEUE_BYTES: usize = 32 << 20;
/// What a change costs besides its value.
const CHANGE_BYTES: usize = 160;
/// Changes in one batch.
const BATCH: usize = 1024;

/// The live end of a store: what has been committed, and who is told.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// The last published revision. Changes are queued before it moves.
    revision: AtomicU64,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    /// By prefix. A change looks its prefixes up at every slash; `odd` are those that do not end with one.
    by_prefix: HashMap<Box<str>, Vec<Weak<Subscription>>>,
    odd: Vec<(Box<str>, Weak<Subscription>)>,
    closed: Option<Error>,
}

#[derive(Debug)]
struct Subscription {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Queue {
    changes: VecDeque<Change>,
    bytes: usize,
    /// The queue has every change above this one. Moves when it overflows.
    complete_after: u64,
    /// The last change's revision, and the revision up to which changes were taken from here.
    newest: u64,
    delivered: u64,
    closed: Option<Error>,
}

/// Reads changes that are no longer, or were never, in a watch's queue.
pub(crate) trait History: Send + Sync + 'static {
    /// Changes under `prefix` above `after` and not above `to`: as many as make a batch, and the revision they reach.
    fn changes(self: Arc<Self>, prefix: &str, after: u64, to: u64) -> BoxFuture<'static, Result<Batch>>;
}

/// Those to whom something was published.
#[must_use]
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<Arc<Subscription>>);

impl Told {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn join(&mut self, more: Told) {
        self.0.extend(more.0);
    }

    /// Wakes those who have not taken it yet.
    pub fn wake(self) {
        for subscription in self.0 {
            if !lock(&subscription.queue).is_taken() {
                subscription.waker.wake();
            }
        }
    }
}

impl Feed {
    pub fn new(revision: u64) -> Feed {
        Feed {
            revision: AtomicU64::new(revision),
            subscriptions: Mutex::default(),
        }
    }

    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Queues committed changes, then moves the revision. One caller at a time, in commit order, who then has to
    /// [`Told::wake`].
    pub fn publish(&self, changes: &[Change], revision: u64) -> Told {
        let mut woken: Vec<Arc<Subscription>> = Vec::new();
        {
            let mut subscriptions = lock(&self.subscriptions);
            for change in changes {
                subscriptions.each(&change.key, |subscription| {
                    let mut queue = lock(&subscription.queue);
                    queue.push(change);
                    // Whoever has looked since saw changes that it may not take before the revision moves.
                    if woken.last().is_none_or(|last| !Arc::ptr_eq(last, subscription)) {
                        woken.push(subscription.clone());
                    }
                });
            }
            // Under the lock, so that who subscribes knows exactly where its queue begins.
            self.revision.store(revision, Ordering::Release);
        }
        Told(woken)
    }

    /// Ends all watches with `error`.
    pub fn close(&self, error: Error) {
        let mut subscriptions = lock(&self.subscriptions);
        subscriptions.closed = Some(error.clone());
        let odd = subscriptions.odd.iter().map(|(_, weak)| weak);
        for subscription in subscriptions
            .by_prefix
            .values()
            .flatten()
            .chain(odd)
            .filter_map(Weak::upgrade)
        {
            lock(&subscription.queue).closed = Some(error.clone());
            subscription.waker.wake();
        }
    }

    /// A watch for changes under `prefix` above `after`, which the caller has checked against compaction.
    pub fn watch(self: &Arc<Self>, prefix: &str, after: u64, history: Arc<dyn History>) -> FeedWatch {
        let mut subscriptions = lock(&self.subscriptions);
        let subscription = Arc::new(Subscription {
            queue: Mutex::new(Queue {
                changes: VecDeque::new(),
                bytes: 0,
                complete_after: self.revision(),
                newest: 0,
                delivered: 0,
                closed: subscriptions.closed.clone(),
            }),
            waker: AtomicWaker::new(),
        });
        subscriptions.add(prefix, Arc::downgrade(&subscription));
        FeedWatch {
            feed: self.clone(),
            subscription,
            prefix: prefix.into(),
            after,
            history,
            reading: None,
        }
    }
}

impl Subscriptions {
    fn add(&mut self, prefix: &str, subscription: Weak<Subscription>) {
        if !prefix.is_empty() && !prefix.ends_with('/') {
            self.odd.retain(|(_, weak)| weak.strong_count() > 0);
            self.odd.push((prefix.into(), subscription));
            return;
        }
        let list = self.by_prefix.entry(prefix.into()).or_default();
        list.retain(|weak| weak.strong_count() > 0);
        list.push(subscription);
    }

    fn each(&mut self, key: &str, mut tell: impl FnMut(&Arc<Subscription>)) {
        let slashes = key
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'/')
            .map(|(at, _)| at + 1);
        for end in std::iter::once(0).chain(slashes) {
            let Some(list) = self.by_prefix.get(&key[..end]) else {
                continue;
            };
            let mut alive = 0;
            for subscription in list.iter().filter_map(Weak::upgrade) {
                tell(&subscription);
                alive += 1;
            }
            if alive == 0 {
                self.by_prefix.remove(&key[..end]);
            }
        }
        for (_, weak) in self.odd.iter().filter(|(prefix, _)| key.starts_with(&**prefix)) {
            if let Some(subscription) = weak.upgrade() {
                tell(&subscription);
            }
        }
    }
}

impl Queue {
    /// Whether nobody need be told of anything any more.
    fn is_taken(&self) -> bool {
        self.delivered >= self.newest
    }

    fn push(&mut self, change: &Change) {
        self.newest = change.revision.0;
        let bytes = CHANGE_BYTES + change.value.as_ref().map_or(0, |value| value.len());
        if self.bytes + bytes > QUEUE_BYTES {
            self.changes.clear();
            self.bytes = 0;
            self.complete_after = change.revision.0;
            return;
        }
        self.bytes += bytes;
        self.changes.push_back(change.clone());
    }
}

/// A watch on a [`Feed`]: history until it meets the queue, then the queue.
pub(crate) struct FeedWatch {
    feed: Arc<Feed>,
    subscription: Arc<Subscription>,
    prefix: Box<str>,
    /// Everything up to here has been delivered.
    after: u64,
    history: Arc<dyn History>,
    reading: Option<BoxFuture<'static, Result<Batch>>>,
}

impl FeedWatch {
    /// What is in the queue; `Err(revision)` where history must be read up to that revision first.
    fn queued(&mut self) -> Result<Result<Option<Batch>, u64>> {
        // Read before the queue is looked at: everything up to it is in the queue.
        let published = self.feed.revision();
        let mut queue = lock(&self.subscription.queue);
        if let Some(error) = &queue.closed {
            return Err(error.clone());
        }
        if self.after < queue.complete_after {
            return Ok(Err(queue.complete_after));
        }
        let mut changes: Vec<Change> = Vec::with_capacity(queue.changes.len().min(BATCH));
        let mut last = 0;
        // A revision may have several changes: none is cut in two, nor taken while it is still being queued.
        let next = |count: usize, last: u64| {
            move |change: &mut Change| change.revision.0 <= published && (count < BATCH || change.revision.0 == last)
        };
        while let Some(change) = queue.changes.pop_front_if(next(changes.len(), last)) {
            last = change.revision.0;
            queue.bytes -= CHANGE_BYTES + change.value.as_ref().map_or(0, |value| value.len());
            if change.revision.0 > self.after {
                changes.push(change);
            }
        }
        let last = last.max(self.after);
        let reached = if queue.changes.front().is_none_or(|next| next.revision.0 > published) {
            published.max(last)
        } else {
            last
        };
        if changes.is_empty() && reached <= self.after {
            return Ok(Ok(None));
        }
        self.after = reached;
        queue.delivered = reached;
        Ok(Ok(Some(Batch {
            changes,
            revision: Revision(reached),
        })))
    }
}

impl Watch for FeedWatch {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let Poll::Ready(batch) = reading.as_mut().poll(context) else {
                    return Poll::Pending;
                };
                self.reading = None;
                let batch = batch?;
                // Without changes, too: how far it is may be what somebody waits for.
                if batch.revision.0 > self.after {
                    self.after = batch.revision.0;
                    return Poll::Ready(Ok(batch));
                }
                continue;
            }
            self.subscription.waker.register(context.waker());
            match self.queued()? {
                Ok(Some(batch)) => return Poll::Ready(Ok(batch)),
                Ok(None) => return Poll::Pending,
                Err(to) => self.reading = Some(self.history.clone().changes(&self.prefix, self.after, to)),
            }
        }
    }

    fn ready(&mut self) -> Result<Option<Batch>> {
        if self.reading.is_some() {
            return Ok(None);
        }
        Ok(self.queued()?.unwrap_or(None))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
