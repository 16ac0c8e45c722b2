//! [`Cache`]: the watch cache. Every object under one prefix of a store in memory, every read from there.
//!
//! - `tree`: the objects, persistent, so that a [`Snapshot`] costs one reference count.
//! - `ring`: the newest events; `lanes`: who wants which; `watcher`: readers of them; `waves`: when they are woken;
//!   `runs`: what they share.
//! - `feeder`: how changes get from the store in here; `refill`: changes from before the cache.
//! - `history`: states of the past. - `terms`: objects by label and field. - `stats`: for metrics.
//! - `turns`: writers of one object.
//!
//! Whoever needs a change first applies it: a writer that has been acknowledged, a reader that wants the latest state,
//! or the cache's own task. Against an in-process store nobody ever waits for another task.
// PERFORMANCE: per-request path

mod feeder;
mod history;
mod lanes;
mod refill;
mod ring;
mod runs;
mod stats;
mod terms;
#[cfg(test)]
mod tests;
mod tree;
mod turns;
mod watcher;
mod waves;

pub use runs::Form;
pub use stats::{Listed, Stats};
pub use terms::Term;
pub use turns::Turn;
pub use watcher::{CacheEvent, Made, Step, WatchScope, Watcher};

use crate::cached::{Cached, Decode};
use crate::feed::lock;
use crate::store::{Error, Expect, Result, Revision, Store, Watch};
use bytes::Bytes;
use history::Kept;
use refill::Refilled;
use ring::Ring;
use runs::Runs;
use stats::Counts;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use terms::Terms;
use tokio::sync::Notify;
use tree::Tree;
use turns::Turns;
use waves::Pace;

/// How long a read waits for a revision that lies ahead.
const AHEAD: Duration = Duration::from_secs(3);
/// How long a read waits for the first load.
const LOADING: Duration = Duration::from_secs(10);
/// How often a waiting read looks again, besides being told.
const LOOK: Duration = Duration::from_millis(20);
/// How long the watch below may withhold a revision that the store has before it is given up for a new one.
const SILENCE: Duration = Duration::from_secs(1);

/// One prefix of a store in memory. Cheap to clone; the last clone ends its task.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

/// What a cache is of.
pub struct CacheConfig {
    /// With slashes at both ends: `/configmaps/`.
    pub prefix: String,
    pub decode: Arc<dyn Decode>,
    /// How much of the past is kept for watchers and for reads at a revision.
    pub ring_bytes: usize,
}

/// All objects at one revision. Immutable; cheap to take, to clone and to hold for a while.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub revision: Revision,
    tree: Tree,
}

struct Inner {
    store: Arc<dyn Store>,
    prefix: Box<str>,
    decode: Arc<dyn Decode>,
    /// The latest state. Changed only with `feed` held, after `ring`.
    published: RwLock<Snapshot>,
    ring: RwLock<Ring>,
    /// Where changes come from; `None` until loaded. Who holds it applies.
    feed: Mutex<Option<Box<dyn Watch>>>,
    applied: Notify,
    /// Told when the watch below seems to have fallen silent.
    silent: Arc<Notify>,
    load: Mutex<Load>,
    /// Objects that could not be decoded, and why.
    undecodable: Mutex<BTreeMap<Box<str>, String>>,
    kept: Mutex<Kept>,
    refilled: Mutex<Refilled>,
    /// Changed only with `feed` held, before `published`.
    terms: RwLock<Terms>,
    turns: Turns,
    pace: Arc<Pace>,
    runs: Runs,
    counts: Counts,
    retired: AtomicBool,
    task: OnceLock<tokio::task::AbortHandle>,
}

/// What a write was.
enum Written<'a> {
    Put(&'a Bytes),
    /// The object as it was, where this cache had it.
    Delete(Option<Arc<Cached>>),
}

/// How the first load is getting on.
enum Load {
    Running(Option<Error>),
    Done,
}

impl Cache {
    /// Loads in the background, again and again until it works. Needs a tokio runtime.
    pub fn start(store: Arc<dyn Store>, config: CacheConfig) -> Cache {
        let cache = Cache(Arc::new(Inner {
            store,
            prefix: config.prefix.into(),
            decode: config.decode,
            published: RwLock::default(),
            ring: RwLock::new(Ring::new(config.ring_bytes)),
            feed: Mutex::new(None),
            applied: Notify::new(),
            silent: Arc::default(),
            load: Mutex::new(Load::Running(None)),
            undecodable: Mutex::default(),
            kept: Mutex::default(),
            refilled: Mutex::default(),
            terms: RwLock::default(),
            turns: Turns::default(),
            pace: Arc::new(Pace::new()),
            runs: Runs::default(),
            counts: Counts::default(),
            retired: AtomicBool::new(false),
            task: OnceLock::new(),
        }));
        let task = fairlead_telemetry::task::spawn(
            "storage-cache",
            feeder::run(Arc::downgrade(&cache.0), cache.0.pace.clone()),
        );
        _ = cache.0.task.set(task.abort_handle());
        cache
    }

    /// Waits until the first load has finished.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Transform`], or whatever has kept the load from finishing for ten seconds.
    pub async fn ready(&self) -> Result<()> {
        let loaded = tokio::time::timeout(LOADING, async {
            loop {
                let mut told = std::pin::pin!(self.0.applied.notified());
                told.as_mut().enable();
                match &*lock(&self.0.load) {
                    Load::Done => return Ok(()),
                    Load::Running(Some(error @ (Error::Corrupt(_) | Error::Transform { passing: false, .. }))) => {
                        return Err(error.clone());
                    }
                    Load::Running(_) => {}
                }
                told.await;
            }
        });
        match loaded.await {
            Ok(result) => result,
            Err(_) => Err(match &*lock(&self.0.load) {
                Load::Running(Some(error)) => error.clone(),
                _ => Error::Unavailable(format!("{} is still being loaded", self.0.prefix)),
            }),
        }
    }

    /// Whether all objects could be read; the error names the first that could not.
    pub fn health(&self) -> Result<()> {
        match lock(&self.0.undecodable).first_key_value() {
            None => Ok(()),
            Some((key, error)) => Err(Error::Corrupt(format!("{}{key}: {error}", self.0.prefix))),
        }
    }

    /// A state that includes every write acknowledged before the call, by whomever.
    pub async fn fresh(&self) -> Result<Snapshot> {
        let revision = self.0.store.revision().await?;
        self.at_least(revision).await
    }

    /// Whatever is there; empty and at revision 0 before the first load.
    pub fn latest(&self) -> Snapshot {
        read(&self.0.published).clone()
    }

    /// A state at `revision` or later. Waits up to three seconds for it.
    ///
    /// # Errors
    /// [`Error::Future`] when it does not come.
    pub async fn at_least(&self, revision: Revision) -> Result<Snapshot> {
        if let Some(snapshot) = self.current(revision) {
            return Ok(snapshot);
        }
        self.ready().await?;
        match tokio::time::timeout(AHEAD, self.reach(revision)).await {
            Ok(snapshot) => Ok(snapshot),
            Err(_) => Err(Error::Future {
                current: self.latest().revision,
            }),
        }
    }

    /// Follows the objects in `scope` from behind `after`, or from now on, with the events in memory
    /// ([`Cache::watch_from`] has more). After a restart, objects that have been left alone since `after` can still be
    /// followed. Nothing can be followed before [`Cache::ready`].
    ///
    /// # Errors
    /// [`Error::Compacted`].
    pub fn watch(&self, after: Option<Revision>, scope: WatchScope) -> Result<Watcher> {
        if after.is_none() {
            self.catch_up();
        }
        Watcher::new(self.clone(), after, scope)
    }

    /// Ends all watches, behind what has happened up to now: another cache takes over, or none does. Reads and writes that
    /// are under way still work.
    pub fn retire(&self) {
        self.catch_up();
        self.0.retired.store(true, Ordering::Release);
        read(&self.0.ring).wake_everyone();
    }

    /// Writes an object that does not exist. Answers it as every reader sees it from now on.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it exists; those of [`Store::put`].
    pub async fn create(&self, key: &str, value: Bytes, lifetime: Option<Duration>) -> Result<Arc<Cached>> {
        let started = std::time::Instant::now();
        let result = self.put(key, value, Expect::Absent, lifetime).await;
        self.report("create", started, result.is_ok());
        result
    }

    /// Replaces the object last written at `expect`.
    ///
    /// # Errors
    /// [`Error::Conflict`] where that is not the last write; those of [`Store::put`].
    pub async fn update(
        &self,
        key: &str,
        value: Bytes,
        expect: Revision,
        lifetime: Option<Duration>,
    ) -> Result<Arc<Cached>> {
        let started = std::time::Instant::now();
        let result = self.put(key, value, Expect::Unchanged(expect), lifetime).await;
        self.report("update", started, result.is_ok());
        result
    }

    /// Writes an object again, as it is, where its bytes in the store are not what would be written now: another key
    /// encrypts. Answers the object as it then is; the same one where there was nothing to do, or where somebody else
    /// has written meanwhile.
    ///
    /// # Errors
    /// Those of [`Store::outdated`] and [`Store::put`].
    pub async fn freshen(&self, object: &Arc<Cached>, lifetime: Option<Duration>) -> Result<Arc<Cached>> {
        let stored = self.stored_key(&object.key);
        let outdated = self.0.store.outdated(&stored).await?;
        let Some(entry) = outdated.filter(|entry| entry.mod_revision == object.revision) else {
            return Ok(object.clone());
        };
        match self.update(&object.key, entry.value, object.revision, lifetime).await {
            Err(Error::Conflict { .. }) => Ok(object.clone()),
            result => result,
        }
    }

    /// Deletes the object last written at `expect`. Answers its last state, at the revision of the delete.
    ///
    /// # Errors
    /// [`Error::Conflict`] where that is not the last write; those of [`Store::delete`].
    pub async fn delete(&self, key: &str, expect: Revision) -> Result<Arc<Cached>> {
        let started = std::time::Instant::now();
        let stored = self.stored_key(key);
        let before = self
            .latest()
            .get(key)
            .filter(|object| object.revision == expect)
            .cloned();
        let result = match self.0.store.delete(&stored, Expect::Unchanged(expect)).await {
            Ok(revision) => self.written(key, revision, Written::Delete(before)).await,
            Err(error) => Err(error),
        };
        self.report("delete", started, result.is_ok());
        result
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, lifetime: Option<Duration>) -> Result<Arc<Cached>> {
        let stored = self.stored_key(key);
        let revision = self.0.store.put(&stored, value.clone(), expect, lifetime).await?;
        self.written(key, revision, Written::Put(&value)).await
    }

    /// The object as the write at `revision` left it, or as it was deleted, once this cache has it.
    async fn written(&self, key: &str, revision: Revision, what: Written<'_>) -> Result<Arc<Cached>> {
        if self.current(revision).is_none() {
            // Whatever keeps it from being read, the write has happened.
            if let Err(error) = self.ready().await {
                let text = format!("{}{key} was written and cannot be read yet: {error}", self.0.prefix);
                return Err(Error::Indeterminate(text));
            }
            self.reach(revision).await;
        }
        let deleted = matches!(what, Written::Delete(_));
        // A put that cannot be decoded is a delete in the ring.
        if let Some(event) = read(&self.0.ring)
            .at(revision.0)
            .filter(|event| event.deleted == deleted)
        {
            return Ok(event.object.clone());
        }
        if let Some(object) = self.latest().get(key).filter(|object| object.revision == revision) {
            return Ok(object.clone());
        }
        // So much has happened since that nobody remembers, or the watch that had it has been lost; or it is not to be read.
        let object = match what {
            Written::Put(value) => self.0.decode.decode(key, value, revision).ok(),
            Written::Delete(before) => before.map(|before| self.0.last_state(&before, None, revision)),
        };
        if let Some(object) = object {
            return Ok(Arc::new(object));
        }
        let reason = lock(&self.0.undecodable).get(key).cloned();
        Err(match reason {
            Some(reason) => Error::Corrupt(format!(
                "{}{key} was written but cannot be read: {reason}",
                self.0.prefix
            )),
            None => Error::Indeterminate(format!("{}{key} was written and has changed since", self.0.prefix)),
        })
    }

    /// The state at `revision` or later, however long it takes.
    async fn reach(&self, revision: Revision) -> Snapshot {
        let mut patience = tokio::time::Instant::now() + SILENCE;
        loop {
            let mut told = std::pin::pin!(self.0.applied.notified());
            told.as_mut().enable();
            if let Some(snapshot) = self.current(revision) {
                return snapshot;
            }
            if let Some(feed) = &mut *lock(&self.0.feed) {
                feed.hurry();
            }
            // Writes below other prefixes move the revision without telling anybody here.
            _ = tokio::time::timeout(LOOK, told).await;
            if tokio::time::Instant::now() >= patience {
                let there = tokio::time::timeout(SILENCE, self.0.store.revision()).await;
                // Otherwise nobody has written it yet, or the store is not there: a new watch would change nothing.
                if matches!(there, Ok(Ok(there)) if there >= revision) {
                    self.0.silent.notify_one();
                }
                patience = tokio::time::Instant::now() + SILENCE;
            }
        }
    }

    /// The latest state where it is not older than `revision`, after taking in what is there to be taken.
    fn current(&self, revision: Revision) -> Option<Snapshot> {
        let recent = || Some(self.latest()).filter(|snapshot| snapshot.revision >= revision);
        recent().or_else(|| {
            self.catch_up();
            recent()
        })
    }

    fn stored_key(&self, key: &str) -> String {
        let mut stored = String::with_capacity(self.0.prefix.len() + key.len());
        stored.push_str(&self.0.prefix);
        stored.push_str(key);
        stored
    }

    fn report(&self, operation: &'static str, started: std::time::Instant, ok: bool) {
        if let Some(observer) = self.0.store.observer() {
            observer.operation(operation, &self.0.prefix, started.elapsed().as_secs_f64(), ok);
        }
    }
}

impl Snapshot {
    /// O(log n).
    pub fn get(&self, key: &str) -> Option<&Arc<Cached>> {
        self.tree.get(key)
    }

    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects whose keys begin with `prefix`, from `start` on, in key order. O(log n) to begin.
    pub fn range<'a>(&'a self, prefix: &str, start: &str) -> impl Iterator<Item = &'a Arc<Cached>> + use<'a> {
        let from = if start > prefix { start } else { prefix };
        let end = self.end_of(prefix);
        let count = end.saturating_sub(self.tree.rank(|key| key < from));
        self.tree.from(from).take(count)
    }

    /// How many keys begin with `prefix`. O(log n).
    pub fn count(&self, prefix: &str) -> usize {
        self.end_of(prefix) - self.tree.rank(|key| key < prefix)
    }

    fn end_of(&self, prefix: &str) -> usize {
        self.tree.rank(|key| key < prefix || key.starts_with(prefix))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let latest = self.latest();
        f.debug_struct("Cache")
            .field("prefix", &self.0.prefix)
            .field("revision", &latest.revision)
            .field("objects", &latest.len())
            .finish_non_exhaustive()
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
