//! [`Embedded`]: a durable store in this process, in one directory.
//!
//! One SQLite file holds an append-only table of revisions. One thread writes; writes that arrive while it waits for
//! the disk are made durable together. The keys and their revisions are in memory (`index`), values only in
//! the file. Why SQLite, and why so: `docs/decisions/001-embedded-store.md`.
//!
//! - `file`: opening and describing the file. - `check`, with `rows`, `guard`, `log` and `mark`: how damage is found.
//! - `reader`: reads, on connections of their own.
//! - `backup`: copies of a store in use, and stores made of copies.
//! - `writer`: the writing thread; `upkeep`: what it does besides.

mod backup;
mod check;
mod file;
mod guard;
mod log;
mod mark;
mod reader;
mod rows;
mod space;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

pub use backup::{BUMP, Backup, Summary, restore, verify};

use crate::feed::Feed;
use crate::memory::expiry;
use crate::store::{Entry, Error, Expect, Past, Range, Result, Revision, Store, StoreObserver, Watch};
use bytes::Bytes;
use fairlead_api::Clock;
use futures_util::future::BoxFuture;
use reader::Reader;
use std::future::ready;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;
use writer::{Job, Write};

/// How an embedded store is set up.
#[derive(Clone)]
pub struct EmbeddedConfig {
    /// Lifetimes are measured by it.
    pub clock: Arc<dyn Clock>,
    pub observer: Option<Arc<dyn StoreObserver>>,
    /// Above this many bytes in the file, writes fail as on a full disk.
    pub max_bytes: Option<u64>,
}

/// A durable store in one directory. Cheap to clone; clones share.
#[derive(Clone)]
pub struct Embedded(Arc<Shared>);

struct Shared {
    jobs: mpsc::Sender<Job>,
    feed: Arc<Feed>,
    reader: Arc<Reader>,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn StoreObserver>>,
    /// Why nothing can be written any more.
    failed: Arc<OnceLock<String>>,
    /// Writes that have been sent to the thread and not yet received there.
    queued: Arc<AtomicUsize>,
}

impl EmbeddedConfig {
    pub fn new(clock: Arc<dyn Clock>) -> EmbeddedConfig {
        EmbeddedConfig {
            clock,
            observer: None,
            max_bytes: None,
        }
    }
}

impl Embedded {
    /// Opens the store in `dir`, making both where there is none. Blocks while it reads and checks all of the file:
    /// about a second for each gigabyte.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged or foreign file; [`Error::Unavailable`] where the directory cannot be used, or
    /// is used by another process.
    pub fn open(dir: &Path, config: EmbeddedConfig) -> Result<Embedded> {
        let opened = file::open(dir, config.max_bytes)?;
        let feed = Arc::new(Feed::new(opened.contents.index.revision));
        let reader = Arc::new(Reader::new(opened.path.clone(), opened.contents.index));
        let failed = Arc::new(OnceLock::new());
        let queued = Arc::new(AtomicUsize::new(0));
        let jobs = writer::start(writer::Parts {
            connection: opened.connection,
            lock: opened.lock,
            mark: opened.mark,
            expiring: opened.contents.expiring,
            guard: opened.contents.guard,
            reader: reader.clone(),
            feed: feed.clone(),
            failed: failed.clone(),
            queued: queued.clone(),
            clock: config.clock.clone(),
            observer: config.observer.clone(),
        })?;
        let (clock, observer) = (config.clock, config.observer);
        Ok(Embedded(Arc::new(Shared {
            jobs,
            feed,
            reader,
            clock,
            observer,
            failed,
            queued,
        })))
    }

    /// Finishes the writes that have been asked for, ends all watches and lets go of the directory.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.0.jobs.send(Job::Close(done)).is_ok() {
            _ = closed.await;
        }
    }

    /// Bytes the store's files take on the disk, the log included.
    pub fn size(&self) -> u64 {
        let path = self.0.reader.path();
        let length = |path: &Path| path.metadata().map_or(0, |file| file.len());
        length(path) + length(&file::log_of(path))
    }

    /// Deletes what has outlived its lifetime, without waiting for the next look at the clock.
    pub async fn expire(&self) {
        let (done, expired) = oneshot::channel();
        if self.0.jobs.send(Job::Expire(done)).is_ok() {
            _ = expired.await;
        }
    }

    async fn write(&self, key: &str, value: Option<Bytes>, expect: Expect, expires: u64) -> Result<Revision> {
        let (reply, answer) = oneshot::channel();
        let write = Write {
            key: key.into(),
            value,
            expect,
            expires,
            reply: Some(reply),
        };
        self.0.queued.fetch_add(1, Ordering::Relaxed);
        if self.0.jobs.send(Job::Write(write)).is_err() {
            return Err(Error::Unavailable("the store is closed".into()));
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Indeterminate("the store ended before it answered".into())))
    }
}

impl Store for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>> {
        let key = key.to_owned();
        Box::pin(self.0.reader.clone().blocking(move |reader| reader.get(&key)))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>> {
        if let Some(nothing) = self.0.reader.nothing_at(prefix, start, at) {
            return Box::pin(ready(nothing));
        }
        let (prefix, start) = (prefix.to_owned(), start.to_owned());
        Box::pin(
            self.0
                .reader
                .clone()
                .blocking(move |reader| reader.range(&prefix, &start, limit, at)),
        )
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>> {
        let expires = lifetime.map_or(0, |lifetime| expiry(&*self.0.clock, lifetime));
        Box::pin(self.write(key, Some(value), expect, expires))
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(self.write(key, None, expect, 0))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        let compacted = self.0.reader.index().compacted;
        if after.0 < compacted {
            return Box::pin(ready(Err(Error::Compacted {
                oldest: Revision(compacted),
            })));
        }
        let watch: Box<dyn Watch> = Box::new(self.0.feed.watch(prefix, after.0, self.0.reader.clone()));
        Box::pin(ready(Ok(watch)))
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        Box::pin(ready(Ok(Revision(self.0.feed.revision()))))
    }

    fn last_change(&self, prefix: &str) -> Option<Revision> {
        Some(Revision(self.0.reader.index().last_change(prefix)))
    }

    fn past<'a>(&'a self, prefix: &'a str, to: Revision, bytes: usize) -> BoxFuture<'a, Result<Option<Past>>> {
        let prefix = prefix.to_owned();
        let read = self
            .0
            .reader
            .clone()
            .blocking(move |reader| reader.past(&prefix, to.0, bytes).map(Some));
        Box::pin(read)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            if self.0.jobs.send(Job::Compact(revision.0, reply)).is_err() {
                return Err(Error::Unavailable("the store is closed".into()));
            }
            answer
                .await
                .unwrap_or_else(|_| Err(Error::Indeterminate("the store ended before it answered".into())))
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(match self.0.failed.get() {
            Some(reason) => Err(Error::Unavailable(reason.clone())),
            None => Ok(()),
        }))
    }

    fn observer(&self) -> Option<&dyn StoreObserver> {
        self.0.observer.as_deref()
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("revision", &self.0.feed.revision())
            .finish_non_exhaustive()
    }
}
