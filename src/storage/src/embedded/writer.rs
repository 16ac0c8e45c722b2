//! The writing thread of an embedded store: group commit. What it does besides is in [`super::upkeep`].
//!
//! Nothing becomes visible before it is durable: a batch is committed, then enters the index, then the feed, and then
//! its writers are answered.

use crate::embedded::file::{PAGE_BYTES, is_damage};
use crate::embedded::guard::Guard;
use crate::embedded::mark::Mark;
use crate::embedded::reader::Reader;
use crate::embedded::rows::{self, row};
use crate::embedded::space::Space;
use crate::embedded::upkeep::{BESIDE, delete_obsolete};
use crate::feed::{Feed, Told};
use crate::index::{Row, Slot};
use crate::store::{Change, Entry, Error, Expect, Result, Revision, StoreKey, StoreObserver};
use bytes::Bytes;
use fairlead_api::Clock;
use rusqlite::{Connection, ErrorCode};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bounds of one commit.
pub(super) const BATCH: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;
/// How long a commit waits for writers that have just been answered, to take them along: this share of what the last
/// commit took, but not longer.
const GATHER_SHARE: u32 = 10;
const GATHER: Duration = Duration::from_micros(500);
/// How long nothing must have been written to be idle.
const IDLE: Duration = Duration::from_millis(200);
/// How long it then takes to look for more to tidy up.
const TIDY: Duration = Duration::from_millis(20);
/// How long watches are left to writers that were just answered.
const TELL: Duration = Duration::from_micros(300);
/// How often the clock is looked at while something can expire.
const LOOK: Duration = Duration::from_secs(1);

pub(super) enum Job {
    Write(Write),
    Compact(u64, oneshot::Sender<Result<()>>),
    Expire(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

pub(super) struct Write {
    pub key: StoreKey,
    /// `None` deletes.
    pub value: Option<Bytes>,
    pub expect: Expect,
    /// Unix seconds; 0 for never.
    pub expires: u64,
    /// `None` for expiry.
    pub reply: Option<oneshot::Sender<Result<Revision>>>,
}

/// What the thread works with.
pub(super) struct Parts {
    pub connection: Connection,
    pub lock: File,
    pub mark: Mark,
    pub expiring: BTreeSet<(u64, StoreKey, u64)>,
    /// Counts all rows, whether the file's own has them or not.
    pub guard: Guard,
    pub reader: Arc<Reader>,
    pub feed: Arc<Feed>,
    pub failed: Arc<OnceLock<String>>,
    /// Writes that have been sent and not yet received.
    pub queued: Arc<AtomicUsize>,
    pub clock: Arc<dyn Clock>,
    pub observer: Option<Arc<dyn StoreObserver>>,
}

/// Starts the thread. It ends when it is told to close or when nobody can send to it any more.
pub(super) fn start(parts: Parts) -> Result<Sender<Job>> {
    let (jobs, todo) = channel();
    let writer = Writer {
        space: Space::new(parts.reader.path().parent().unwrap_or(Path::new("."))),
        parts,
        todo,
        unsaved: 0,
        compacting: true,
        vacuuming: true,
        told: Told::default(),
        taken: Vec::new(),
        expected: 0,
        pace: Duration::ZERO,
    };
    let thread = std::thread::Builder::new().name("store-writer".into());
    // Nobody joins it: closing waits for its answer instead.
    thread
        .spawn(move || {
            let _reporter = PanicReporter(writer.parts.failed.clone());
            writer.run();
        })
        .map_err(|error| Error::Unavailable(error.to_string()))?;
    Ok(jobs)
}

/// Lets health know of a thread that died of a bug.
struct PanicReporter(Arc<OnceLock<String>>);

impl Drop for PanicReporter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the store's writing thread panicked");
            _ = self
                .0
                .set("the store must be restarted: its writing thread panicked".into());
        }
    }
}

pub(super) struct Writer {
    pub parts: Parts,
    todo: Receiver<Job>,
    pub space: Space,
    /// About how many bytes the log has that the table does not.
    pub unsaved: u64,
    /// Whether obsolete rows may be left.
    pub compacting: bool,
    /// Whether free pages may be left to be given back.
    pub vacuuming: bool,
    /// Watches that something was published for, not woken yet.
    told: Told,
    /// Obsolete rows that the current transaction deletes.
    pub taken: Vec<u64>,
    /// How many writes there would be if everybody just answered wrote again.
    expected: usize,
    /// How long the last commit took.
    pace: Duration,
}

/// A batch on its way to the disk.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    changes: Vec<Change>,
    /// The newest versions of the keys the batch has touched.
    slots: HashMap<StoreKey, Slot>,
    /// As it is once the batch is durable.
    guard: Guard,
    bytes: u64,
}

impl Batch {
    /// What was written at `revision`, by this batch or before.
    fn entry(&self, connection: &Connection, revision: u64) -> Result<Option<Entry>> {
        match self.rows.binary_search_by_key(&revision, |row| row.revision) {
            Ok(at) => Ok(Some(self.rows[at].entry())),
            Err(_) => Ok(row(connection, revision)?.map(|row| row.entry())),
        }
    }
}

impl Writer {
    fn run(mut self) {
        let (mut last_write, mut last_look) = (Instant::now(), Instant::now());
        let mut last_tidy = Instant::now();
        let closed = loop {
            let next = self.todo.recv_timeout(self.patience());
            self.tell();
            match next {
                Ok(first) => match self.work_off(first) {
                    Some(closed) => break Some(closed),
                    None => last_write = Instant::now(),
                },
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) if last_write.elapsed() >= IDLE => self.tidy(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if last_look.elapsed() >= LOOK {
                last_look = Instant::now();
                self.expire();
            }
            // A full disk is not left alone by those who try again and again: there is no idle time to wait for.
            if self.space.is_short() && last_tidy.elapsed() >= TIDY {
                last_tidy = Instant::now();
                self.space.look(self.unsaved);
                self.tidy();
            }
            self.bound_log();
        };
        self.close(closed);
    }

    /// How long there is nothing to do but wait for jobs.
    fn patience(&self) -> Duration {
        if !self.told.is_empty() {
            TELL
        } else if self.has_upkeep() {
            TIDY
        } else if self.parts.expiring.is_empty() {
            Duration::from_secs(3600)
        } else {
            LOOK
        }
    }

    /// Does `first` and what else has arrived. Answers who waits for the end once it has come.
    fn work_off(&mut self, first: Job) -> Option<oneshot::Sender<()>> {
        let mut writes = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let gathered_by = Instant::now() + (self.pace / GATHER_SHARE).min(GATHER);
        while let Some(job) = next {
            match job {
                Job::Write(write) => {
                    self.parts.queued.fetch_sub(1, Ordering::Relaxed);
                    bytes += write.value.as_ref().map_or(0, Bytes::len);
                    writes.push(write);
                }
                Job::Compact(revision, reply) => {
                    self.commit(std::mem::take(&mut writes));
                    _ = reply.send(self.compact(revision));
                }
                Job::Expire(done) => {
                    self.commit(std::mem::take(&mut writes));
                    self.expire();
                    _ = done.send(());
                }
                Job::Close(done) => {
                    self.commit(writes);
                    return Some(done);
                }
            }
            let full = writes.len() >= BATCH || bytes >= BATCH_BYTES;
            next = if full { None } else { self.todo.try_recv().ok() };
            if next.is_none() && !full && writes.len() < self.expected {
                // Without this, writers fall into groups that take turns, each waiting for the others' commits.
                next = self
                    .todo
                    .recv_timeout(gathered_by.saturating_duration_since(Instant::now()))
                    .ok();
            }
        }
        self.commit(writes);
        None
    }

    /// Makes `writes` durable and visible together, and answers each.
    pub(super) fn commit(&mut self, mut writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        if let Some(reason) = self.parts.failed.get() {
            let error = Error::Unavailable(reason.clone());
            return answer(writes, |_| Err(error.clone()));
        }
        self.space.glance(self.unsaved);
        if self.space.is_short() && self.unsaved > 0 {
            self.checkpoint("TRUNCATE");
            self.space.look(self.unsaved);
        }
        if self.space.is_short() {
            self.vacuuming = true;
            writes = refuse_puts(writes, &Error::Full("there is no room on the disk".into()));
        }
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut result = self.try_commit(&mut writes, &mut outcomes);
        if let Err(error @ Error::Full(_)) = &result {
            self.roll_back(error);
            self.space.give_way();
            writes = refuse_puts(writes, error);
            outcomes.clear();
            result = self.try_commit(&mut writes, &mut outcomes);
        }
        let (batch, seconds) = match result {
            Ok(done) => done,
            Err(error) => {
                self.roll_back(&error);
                return answer(writes, |_| Err(error.clone()));
            }
        };
        let last = batch.rows.last().map(|row| row.revision);
        self.take_in(&batch);
        if let Some(revision) = last {
            self.parts.mark.raise(revision);
        }
        if let Some(revision) = last
            && self.space.is_short()
            && let Err(error) = self.compact(revision)
        {
            // Room is worth more than history then.
            tracing::warn!(%error, "a full store could not be compacted");
        }
        if let Some(revision) = last {
            let told = self.parts.feed.publish(&batch.changes, revision);
            self.told.join(told);
            if let Some(observer) = &self.parts.observer {
                observer.commit(batch.rows.len(), seconds);
            }
        }
        self.pace = Duration::from_secs_f64(seconds);
        self.expected = writes.len() + self.parts.queued.load(Ordering::Relaxed);
        let mut outcomes = outcomes.into_iter();
        // Who expires has nobody who would look.
        let alone = writes.iter().any(|write| write.reply.is_none());
        answer(writes, |_| {
            outcomes
                .next()
                .unwrap_or_else(|| Err(Error::Indeterminate("no outcome".into())))
        });
        if alone {
            self.tell();
        }
    }

    /// Wakes watches that nobody has looked at since something was published for them. Writers look for themselves as
    /// soon as they are answered: waking others at the same time would only have them wait for each other.
    fn tell(&mut self) {
        std::mem::take(&mut self.told).wake();
    }

    fn try_commit(&mut self, writes: &mut [Write], outcomes: &mut Vec<Result<Revision>>) -> Result<(Batch, f64)> {
        let mut batch = Batch {
            guard: self.parts.guard,
            ..Batch::default()
        };
        if writes.is_empty() {
            return Ok((batch, 0.0));
        }
        let connection = &self.parts.connection;
        run(connection, "BEGIN IMMEDIATE").map_err(|error| refused(&error))?;
        let mut revision = self.parts.reader.index().revision;
        for write in writes {
            let slot = batch
                .slots
                .get(&write.key)
                .copied()
                .or_else(|| self.parts.reader.index().slot(&write.key));
            let outcome =
                if Slot::allows(slot, write.expect) && (write.value.is_some() || write.expect != Expect::Absent) {
                    revision += 1;
                    self.insert(&mut batch, write, slot, revision)?;
                    Ok(Revision(revision))
                } else {
                    let live = slot.filter(|slot| slot.is_live());
                    let current = live.map(|slot| batch.entry(connection, slot.modified)).transpose()?;
                    Err(Error::Conflict {
                        current: current.flatten(),
                    })
                };
            outcomes.push(outcome);
        }
        if batch.rows.is_empty() {
            run(connection, "ROLLBACK").map_err(|error| refused(&error))?;
            return Ok((batch, 0.0));
        }
        if self.compacting {
            let deleted = delete_obsolete(
                connection,
                &self.parts.reader,
                BESIDE,
                &mut batch.guard,
                &mut self.taken,
            );
            self.compacting = deleted.map_err(|error| self.refused(&error))?;
        }
        let started = Instant::now();
        run(connection, "COMMIT").map_err(|error| self.unconfirmed(&error))?;
        Ok((batch, started.elapsed().as_secs_f64()))
    }

    fn insert(&self, batch: &mut Batch, write: &Write, slot: Option<Slot>, revision: u64) -> Result<()> {
        let connection = &self.parts.connection;
        let live = slot.filter(|slot| slot.is_live());
        let before = slot.map_or(0, |slot| slot.modified);
        let created = match &write.value {
            Some(_) => live.map_or(revision, |slot| slot.created),
            None => 0,
        };
        let previous = if created == 0 {
            batch.entry(connection, before)?
        } else {
            None
        };
        let key = self.parts.reader.index().shared_key(&write.key);
        let value = write.value.clone().unwrap_or_default();
        let inserted = rows::insert(connection, revision, &key, created, before, write.expires, &value);
        batch
            .guard
            .add(revision, inserted.map_err(|error| self.refused(&error))?);
        batch.bytes += (key.len() + value.len() + 64) as u64;
        batch.slots.insert(
            key.clone(),
            Slot {
                modified: revision,
                created,
            },
        );
        let change = Change {
            revision: Revision(revision),
            key: key.clone(),
            value: write.value.clone(),
            previous,
        };
        batch.changes.push(change);
        batch.rows.push(Row {
            revision,
            key,
            created,
            before,
            expires: write.expires,
            value,
        });
        Ok(())
    }

    /// What a failed commit means here and now.
    pub(super) fn unconfirmed(&self, error: &rusqlite::Error) -> Error {
        // A commit record that could not be written is not there.
        if is_write(error) && self.space.takes_no_more() {
            return Error::Full(error.to_string());
        }
        unconfirmed(error)
    }

    /// What an error before the commit means.
    fn refused(&self, error: &rusqlite::Error) -> Error {
        if is_write(error) && self.space.takes_no_more() {
            return Error::Full(error.to_string());
        }
        refused(error)
    }

    /// Brings what has been committed into the index.
    fn take_in(&mut self, batch: &Batch) {
        self.parts.guard = batch.guard;
        self.taken.clear();
        let mut index = self.parts.reader.index_mut();
        for row in &batch.rows {
            index.apply(&row.key, row.revision, row.created, row.before);
            if row.expires > 0 {
                self.parts.expiring.insert((row.expires, row.key.clone(), row.revision));
            }
        }
        // A commit logs whole pages: the last one of the table again each time, and those above it.
        self.unsaved += batch.bytes + if batch.rows.is_empty() { 0 } else { 3 * PAGE_BYTES };
    }

    pub(super) fn roll_back(&mut self, error: &Error) {
        if !self.parts.connection.is_autocommit()
            && let Err(second) = run(&self.parts.connection, "ROLLBACK")
        {
            tracing::error!(error = %second, "a failed write could not be rolled back");
        }
        let taken = std::mem::take(&mut self.taken);
        self.compacting |= !taken.is_empty();
        self.parts.reader.index_mut().put_back(taken);
        if !matches!(error, Error::Full(_)) {
            tracing::error!(%error, "a write failed");
        }
        if matches!(error, Error::Indeterminate(_) | Error::Corrupt(_)) {
            // After a failed fsync nobody knows what the disk has. Only reading it again, at the next start, can tell.
            let reason = format!("the store must be restarted after a failed write: {error}");
            _ = self.parts.failed.set(reason);
        }
    }

    fn close(mut self, closed: Option<oneshot::Sender<()>>) {
        self.parts.feed.close(Error::Unavailable("the store is closed".into()));
        self.parts.reader.close_idle();
        self.checkpoint("TRUNCATE");
        let Writer {
            parts: Parts { connection, lock, .. },
            todo,
            ..
        } = self;
        // Writes that come from now on fail to be sent; those already sent learn that nothing happened.
        for job in todo.try_iter() {
            if let Job::Write(Write { reply: Some(reply), .. }) = job {
                _ = reply.send(Err(Error::Unavailable("the store is closed".into())));
            }
        }
        drop(todo);
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "the store's file could not be closed");
        }
        drop(lock);
        if let Some(closed) = closed {
            _ = closed.send(());
        }
    }
}

/// What is left of `writes` once those that need room have been refused.
fn refuse_puts(writes: Vec<Write>, error: &Error) -> Vec<Write> {
    let (puts, deletes) = writes.into_iter().partition(|write| write.value.is_some());
    answer(puts, |_| Err(error.clone()));
    deletes
}

fn answer(writes: Vec<Write>, mut outcome: impl FnMut(&Write) -> Result<Revision>) {
    for mut write in writes {
        let outcome = outcome(&write);
        if let Some(reply) = write.reply.take() {
            // Who no longer waits does not want to know.
            _ = reply.send(outcome);
        }
    }
}

pub(super) fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// A write that failed: unlike a sync, it has not happened.
pub(super) fn is_write(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE)
}

/// An error before the commit: rolled back, nothing was written.
fn refused(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full(error.to_string()),
        _ if is_damage(error) => Error::Corrupt(error.to_string()),
        _ => Error::Unavailable(error.to_string()),
    }
}

/// An error of the commit itself. On a full disk the commit record is what was missing, so nothing was written; any
/// other failure may have come after it.
fn unconfirmed(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full(error.to_string()),
        Some(ErrorCode::DatabaseBusy) => Error::Unavailable(error.to_string()),
        _ => Error::Indeterminate(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn only_a_commit_that_may_have_reached_the_disk_is_indeterminate() {
        assert!(matches!(unconfirmed(&failure(ffi::SQLITE_FULL)), Error::Full(_)));
        assert!(matches!(
            unconfirmed(&failure(ffi::SQLITE_IOERR_FSYNC)),
            Error::Indeterminate(_)
        ));
        assert!(matches!(
            refused(&failure(ffi::SQLITE_IOERR_WRITE)),
            Error::Unavailable(_)
        ));
        assert!(matches!(refused(&failure(ffi::SQLITE_CORRUPT)), Error::Corrupt(_)));
    }
}
