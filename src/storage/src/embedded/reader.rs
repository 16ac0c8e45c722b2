//! [`Reader`]: reads of an embedded store, on connections of their own, beside the writing thread.

use crate::embedded::file::{connect_reader, in_file, reading};
use crate::embedded::rows::{change, links, prepare, row, whole};
use crate::feed::{History, lock};
use crate::index::{Index, version_at};
use crate::store::{Batch, Entry, Error, Past, Range, Result, Revision};
use futures_util::future::BoxFuture;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Connections kept for the next read.
const IDLE: usize = 2;
/// Changes and bytes read from history for one batch.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// Keys resolved between two looks at the index.
const CHUNK: usize = 512;

/// The index, and connections to the rows behind it. Rows never change, so that reads need no transaction: what the
/// index names is there until it has been compacted.
pub(super) struct Reader {
    path: PathBuf,
    index: RwLock<Index>,
    idle: Mutex<Vec<Connection>>,
}

impl Reader {
    pub fn new(path: PathBuf, index: Index) -> Reader {
        Reader {
            path,
            index: RwLock::new(index),
            idle: Mutex::default(),
        }
    }

    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the writing thread only.
    pub fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` where it may block.
    pub async fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(move || read(&self)).await;
        done.unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// The answer to a range without any keys, which needs no disk.
    pub fn nothing_at(&self, prefix: &str, start: &str, at: Option<Revision>) -> Option<Result<Range>> {
        let index = self.index();
        let revision = at.map_or(index.revision, |at| at.0);
        if let Err(error) = index.check(revision) {
            return Some(Err(error));
        }
        let nothing = Range {
            revision: Revision(revision),
            ..Range::default()
        };
        index.range(prefix, start).next().is_none().then_some(Ok(nothing))
    }

    pub fn get(&self, key: &str) -> Result<(Option<Entry>, Revision)> {
        self.with(|connection| {
            loop {
                let (slot, revision) = {
                    let index = self.index();
                    (index.slot(key).filter(|slot| slot.is_live()), Revision(index.revision))
                };
                let Some(slot) = slot else { return Ok((None, revision)) };
                // Gone only if it was overwritten and compacted just now.
                if let Some(row) = row(connection, slot.modified)? {
                    return Ok((Some(row.entry()), revision));
                }
            }
        })
    }

    pub fn range(&self, prefix: &str, start: &str, limit: usize, at: Option<Revision>) -> Result<Range> {
        self.with(|connection| {
            loop {
                let revision = at.map_or_else(|| self.index().revision, |at| at.0);
                match self.range_at(connection, prefix, start, limit, revision) {
                    // The latest revision was overtaken by a compaction: there is a later one.
                    Err(Error::Compacted { .. }) if at.is_none() => {}
                    result => return result,
                }
            }
        })
    }

    fn range_at(&self, connection: &Connection, prefix: &str, start: &str, limit: usize, at: u64) -> Result<Range> {
        let mut range = Range {
            revision: Revision(at),
            ..Range::default()
        };
        let mut from = start.to_owned();
        loop {
            let slots: Vec<_> = {
                let index = self.index();
                index.check(at)?;
                let wanted = index
                    .range(prefix, &from)
                    .filter(|(_, slot)| slot.is_live() || slot.modified > at);
                let count = (limit - range.entries.len()).saturating_add(1).min(CHUNK);
                wanted.take(count).map(|(key, slot)| (key.clone(), slot)).collect()
            };
            let Some((last, _)) = slots.last() else {
                return Ok(range);
            };
            from = format!("{last}\0");
            let transaction = connection.unchecked_transaction().map_err(|error| reading(&error))?;
            for (_, slot) in slots {
                let Some(version) = version_at(slot, at, |row| links(connection, row))? else {
                    continue;
                };
                if range.entries.len() == limit {
                    range.more = true;
                    return Ok(range);
                }
                match row(connection, version)? {
                    Some(row) => range.entries.push(row.entry()),
                    None => {
                        return Err(Error::Compacted {
                            oldest: Revision(self.index().compacted),
                        });
                    }
                }
            }
            drop(transaction);
        }
    }

    /// Copies everything that is durable now into a new file.
    pub fn copy(&self, to: &Path) -> Result<()> {
        self.with(|connection| {
            let copied = connection.execute("VACUUM INTO ?1", [&to.to_string_lossy()]);
            copied.map(drop).map_err(|error| reading(&error))
        })
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn changes_between(&self, prefix: &str, after: u64, to: u64) -> Result<Batch> {
        self.with(|connection| {
            let mut batch = Batch {
                changes: Vec::new(),
                revision: Revision(to),
            };
            let mut bytes = 0;
            let mut statement = prepare(connection, AFTER)?;
            let mut rows = statement.query((after, to)).map_err(|error| reading(&error))?;
            while let Some(found) = rows.next().map_err(|error| reading(&error))? {
                let row = whole(found)?;
                if !row.key.starts_with(prefix) {
                    continue;
                }
                bytes += row.value.len();
                batch.changes.push(change(connection, &row)?);
                if batch.changes.len() == BATCH || bytes > BATCH_BYTES {
                    batch.revision = Revision(row.revision);
                    break;
                }
            }
            let compacted = self.index().compacted;
            if after < compacted {
                return Err(Error::Compacted {
                    oldest: Revision(compacted),
                });
            }
            Ok(batch)
        })
    }

    pub fn past(&self, prefix: &str, to: u64, bytes: usize) -> Result<Past> {
        self.with(|connection| {
            let (newest, compacted) = {
                let index = self.index();
                (index.recent(prefix), index.compacted)
            };
            let past = crate::past::walk(newest, compacted, to, bytes, |revision| row(connection, revision))?;
            Ok(past.since(self.index().compacted))
        })
    }

    /// Lets go of the file, as far as no read is under way.
    pub fn close_idle(&self) {
        lock(&self.idle).clear();
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = lock(&self.idle).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect_reader(&self.path).map_err(|error| in_file(&self.path, reading(&error)))?,
        };
        let result = read(&connection).map_err(|error| in_file(&self.path, error));
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE && connection.is_autocommit() {
            idle.push(connection);
        }
        result
    }
}

impl History for Reader {
    fn changes(self: Arc<Self>, prefix: &str, after: u64, to: u64) -> BoxFuture<'static, Result<Batch>> {
        let prefix = prefix.to_owned();
        Box::pin(self.blocking(move |reader| reader.changes_between(&prefix, after, to)))
    }
}

const AFTER: &str = "SELECT revision, key, created, before, expires, sum, seal, value FROM revisions \
     WHERE revision > ?1 AND revision <= ?2 ORDER BY revision";
