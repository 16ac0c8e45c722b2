//! How a cache is loaded and fed: the first load, the task that follows the store, and applying changes.

use crate::cache::ring::Event;
use crate::cache::stats::add;
use crate::cache::tree::Tree;
use crate::cache::waves::Pace;
use crate::cache::{Cache, Inner, Load, Snapshot, read, write};
use crate::cached::Cached;
use crate::feed::lock;
use crate::store::{Batch, Change, Error, Range, Result, Revision};
use bytes::Bytes;
use fairlead_telemetry::task;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Entries read at once while loading.
const PAGE: usize = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a cache makes sure by itself that it still hears of everything.
const LOOK_ABOUT: Duration = Duration::from_secs(30);

/// Loads a cache, follows its store and wakes its watchers until the cache is dropped.
pub(super) async fn run(cache: Weak<Inner>, pace: Arc<Pace>) {
    tokio::select! {
        () = feed(cache.clone()) => {}
        () = wake(cache, pace) => {}
    }
}

/// Wakes watchers whose events came too soon after the last ones.
async fn wake(cache: Weak<Inner>, pace: Arc<Pace>) {
    loop {
        let due = pace.due().await;
        let Some(inner) = cache.upgrade() else { return };
        let ring = read(&inner.ring);
        ring.wake(&due, pace.moment(ring.revision));
    }
}

async fn feed(cache: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    let mut loaded = false;
    loop {
        let Some(inner) = cache.upgrade().map(Cache) else {
            return;
        };
        let attached = if loaded {
            inner.resume().await
        } else {
            inner.load().await
        };
        let from = inner.latest().revision;
        drop(inner);
        let error = match attached {
            Ok(()) => {
                loaded = true;
                let Some(error) = follow(&cache).await else { return };
                // A watch that delivered something is worth opening again soon.
                if cache
                    .upgrade()
                    .is_some_and(|inner| read(&inner.published).revision > from)
                {
                    pause = FIRST_PAUSE;
                }
                error
            }
            Err(error) => error,
        };
        let Some(inner) = cache.upgrade() else { return };
        if pause == FIRST_PAUSE {
            tracing::warn!(prefix = %inner.prefix, %error, "the cache has lost its store");
        } else {
            tracing::debug!(prefix = %inner.prefix, %error, "the cache still has no store");
        }
        // Behind a compaction nothing can be resumed.
        loaded &= !matches!(error, Error::Compacted { .. });
        // Who catches up meanwhile must not take from the old watch what the next one will deliver.
        *lock(&inner.feed) = None;
        if let Load::Running(last) = &mut *lock(&inner.load) {
            *last = Some(error);
        }
        inner.applied.notify_waiters();
        drop(inner);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Applies changes as they come. Answers the error that ended the watch, or `None` once the cache is gone.
async fn follow(cache: &Weak<Inner>) -> Option<Error> {
    let silent = cache.upgrade()?.silent.clone();
    tokio::select! {
        error = apply_all(cache) => error,
        () = look_about(cache) => None,
        () = silent.notified() => Some(Error::Unavailable("the watch has fallen silent".into())),
    }
}

async fn apply_all(cache: &Weak<Inner>) -> Option<Error> {
    loop {
        let step = std::future::poll_fn(|context| {
            let Some(inner) = cache.upgrade() else {
                return std::task::Poll::Ready(None);
            };
            let mut feed = lock(&inner.feed);
            let Some(watch) = feed.as_mut() else {
                return std::task::Poll::Ready(None);
            };
            watch
                .poll_next(context)
                .map(|batch| Some(batch.map(|batch| inner.apply(batch))))
        });
        if let Err(error) = step.await? {
            return Some(error);
        }
    }
}

/// Wants to know the latest state now and then, so that a watch that has fallen silent is noticed where nobody else
/// reads. Ends with the cache.
async fn look_about(cache: &Weak<Inner>) {
    loop {
        tokio::time::sleep(LOOK_ABOUT).await;
        let Some(cache) = cache.upgrade().map(Cache) else {
            return;
        };
        cache.0.runs.forget();
        // Whether it can be had is for those to tell who need it.
        _ = cache.fresh().await;
    }
}

impl Cache {
    /// Applies what the store has ready. Anybody may; the task does when nobody else came first.
    pub(super) fn catch_up(&self) {
        let mut feed = lock(&self.0.feed);
        // An error is left to the task, which sees it too.
        while let Some(Ok(Some(batch))) = feed.as_mut().map(|watch| watch.ready()) {
            self.0.apply(batch);
        }
    }

    async fn load(&self) -> Result<()> {
        let started = Instant::now();
        let read_all = self.0.read_all(None).await;
        self.report("list", started, read_all.is_ok());
        let snapshot = read_all?;
        add(&self.0.counts.initializations, 1);
        add(&self.0.counts.init_events, snapshot.len());
        let bytes: usize = snapshot.range("", "").map(|object| object.json.len()).sum();
        let watch = self.0.store.watch(&self.0.prefix, snapshot.revision).await?;
        let mut feed = lock(&self.0.feed);
        *feed = Some(watch);
        self.0.counts.object_bytes.store(bytes as u64, Ordering::Relaxed);
        // Asked after the read: what has changed since then lies above its revision.
        let last_change = self.0.store.last_change(&self.0.prefix).unwrap_or(snapshot.revision);
        write(&self.0.ring).reset(snapshot.revision.0, last_change.min(snapshot.revision).0);
        *lock(&self.0.refilled) = Arc::default();
        write(&self.0.terms).clear();
        self.0.publish(snapshot);
        *lock(&self.0.load) = Load::Done;
        self.0.applied.notify_waiters();
        read(&self.0.ring).wake_everyone();
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        let watch = self.0.store.watch(&self.0.prefix, self.latest().revision).await?;
        *lock(&self.0.feed) = Some(watch);
        Ok(())
    }
}

impl Inner {
    /// Everything under the prefix, from the store, at `at` or the latest revision.
    pub(super) async fn read_all(&self, at: Option<Revision>) -> Result<Snapshot> {
        let mut tree = Tree::default();
        let latest = at.is_none();
        let mut page = self.store.range(&self.prefix, "", PAGE, at).await?;
        loop {
            // The next page is read while this one is decoded.
            let last = page.entries.last().filter(|_| page.more);
            let next = last.map(|last| self.read_page(format!("{}\0", last.key), page.revision));
            for entry in page.entries {
                let key = &entry.key[self.prefix.len()..];
                match self.decode.decode(key, &entry.value, entry.mod_revision) {
                    Ok(object) => _ = tree.insert(Arc::new(object)),
                    Err(error) if latest => self.left_out(key, error),
                    Err(_) => {}
                }
            }
            let Some(next) = next else {
                return Ok(Snapshot {
                    revision: page.revision,
                    tree,
                });
            };
            page = next
                .await
                .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))?;
        }
    }

    fn read_page(&self, start: String, at: Revision) -> JoinHandle<Result<Range>> {
        let (store, prefix) = (self.store.clone(), self.prefix.clone());
        task::spawn("storage-load", async move {
            store.range(&prefix, &start, PAGE, Some(at)).await
        })
    }

    /// Takes a batch in. Called with `feed` held: that makes it the only one.
    fn apply(&self, batch: Batch) {
        let revision = batch.revision.0;
        let mut tree = read(&self.published).tree.clone();
        let events: Vec<Event> = batch
            .changes
            .into_iter()
            .filter_map(|change| self.apply_change(&mut tree, change))
            .collect();
        add(&self.counts.events_received, events.len());
        for event in &events {
            let now = if event.deleted { 0 } else { event.object.json.len() };
            let before = event.previous.as_ref().map_or(0, |previous| previous.json.len());
            add(&self.counts.object_bytes, now);
            self.counts.object_bytes.fetch_sub(before as u64, Ordering::Relaxed);
        }
        let changed: Vec<_> = events
            .iter()
            .map(|event| (event.object.clone(), event.previous.clone()))
            .collect();
        if !read(&self.terms).is_empty() {
            let floor = read(&self.ring).floor();
            write(&self.terms).apply(&events, floor);
        }
        write(&self.ring).append(events, revision);
        self.publish(Snapshot {
            revision: Revision(revision),
            tree,
        });
        self.applied.notify_waiters();
        if !changed.is_empty() {
            let (owed, floor) = {
                let ring = read(&self.ring);
                (ring.tell(&changed, self.pace.moment(ring.revision)), ring.floor())
            };
            self.pace.owe(owed);
            lock(&self.kept).expire(floor);
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        // Nodes nobody needs any more are freed after the lock.
        let old = std::mem::replace(&mut *write(&self.published), snapshot);
        drop(old);
    }

    fn apply_change(&self, tree: &mut Tree, change: Change) -> Option<Event> {
        let key = &change.key[self.prefix.len()..];
        let revision = change.revision.0;
        if let Some(value) = &change.value {
            match self.decode.decode(key, value, change.revision) {
                Ok(object) => {
                    self.read_again(key);
                    let object = Arc::new(object);
                    let previous = tree.insert(object.clone());
                    return Some(Event {
                        revision,
                        object,
                        previous,
                        deleted: false,
                    });
                }
                Err(error) => self.left_out(key, error),
            }
        } else {
            self.read_again(key);
        }
        // Gone, or no longer readable: for watchers that is the same.
        let previous = tree.remove(key)?;
        let last = change.previous.as_ref().map(|entry| &entry.value);
        let object = Arc::new(self.last_state(&previous, last, change.revision));
        Some(Event {
            revision,
            object,
            previous: Some(previous),
            deleted: true,
        })
    }

    /// A deleted object, of the value the delete told, or else as it was.
    pub(super) fn last_state(&self, previous: &Cached, value: Option<&Bytes>, revision: Revision) -> Cached {
        value
            .and_then(|value| self.decode.decode(&previous.key, value, revision).ok())
            .unwrap_or_else(|| self.decode.at_revision(previous, revision))
    }

    fn left_out(&self, key: &str, error: String) {
        tracing::error!(prefix = %self.prefix, key, error, "a stored object cannot be read");
        lock(&self.undecodable).insert(key.into(), error);
    }

    fn read_again(&self, key: &str) {
        let mut undecodable = lock(&self.undecodable);
        if !undecodable.is_empty() {
            undecodable.remove(key);
        }
    }
}
