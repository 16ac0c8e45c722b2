//! What the writing thread of an embedded store does besides writing: expiry, compaction, checkpoints.

use crate::embedded::file::PAGE_BYTES;
use crate::embedded::guard::Guard;
use crate::embedded::reader::Reader;
use crate::embedded::writer::{BATCH, Write, Writer, run};
use crate::memory::{Expiring, unix_seconds};
use crate::store::{Error, Expect, Result, Revision};
use rusqlite::Connection;

/// Rows a commit deletes on the way, and a commit of their own when there is nothing else to do.
pub(super) const BESIDE: usize = 256;
const ALONE: usize = 2048;
/// The log is taken into the table when it has this much and nobody writes, and always when it has that much.
const CHECKPOINT_IDLE: u64 = 1 << 20;
const CHECKPOINT_ALWAYS: u64 = 16 << 20;
/// Free pages given back to the file system at a time, and how many are kept for reuse.
const VACUUM: u64 = 512;
const VACUUM_KEEP: u64 = 2048;

impl Writer {
    pub(super) fn has_upkeep(&self) -> bool {
        self.parts.failed.get().is_none() && (self.compacting || self.vacuuming || self.unsaved > self.enough_to_save())
    }

    /// On a full disk, what the log holds twice is room.
    fn enough_to_save(&self) -> u64 {
        if self.space.is_short() { 0 } else { CHECKPOINT_IDLE }
    }

    /// Keeps the log from growing without end while there is always something to write.
    pub(super) fn bound_log(&mut self) {
        if self.unsaved > CHECKPOINT_ALWAYS {
            self.checkpoint("PASSIVE");
        }
    }

    /// Deletes what has outlived its lifetime.
    pub(super) fn expire(&mut self) {
        let now = unix_seconds(&*self.parts.clock);
        loop {
            let mut writes = Vec::new();
            while writes.len() < BATCH
                && let Some((_, key, revision)) = self.parts.expiring.pop_first_if_due(now)
            {
                let slot = self.parts.reader.index().slot(&key);
                if slot.is_some_and(|slot| slot.is_live() && slot.modified == revision) {
                    let expect = Expect::Unchanged(Revision(revision));
                    writes.push(Write {
                        key,
                        value: None,
                        expect,
                        expires: 0,
                        reply: None,
                    });
                }
            }
            if writes.is_empty() {
                return;
            }
            self.commit(writes);
        }
    }

    pub(super) fn compact(&mut self, revision: u64) -> Result<()> {
        let (latest, compacted) = {
            let index = self.parts.reader.index();
            (index.revision, index.compacted)
        };
        if revision > latest {
            return Err(Error::Future {
                current: Revision(latest),
            });
        }
        if revision <= compacted {
            return Ok(());
        }
        let guard = Guard {
            compacted: revision,
            ..self.parts.guard
        };
        let mut written = guard
            .write(&self.parts.connection)
            .map_err(|error| self.unconfirmed(&error));
        if let Err(Error::Full(_)) = written {
            self.space.give_way();
            written = guard
                .write(&self.parts.connection)
                .map_err(|error| self.unconfirmed(&error));
        }
        if let Err(error) = written {
            // It is a commit of its own.
            self.roll_back(&error);
            return Err(error);
        }
        self.parts.guard = guard;
        self.parts.reader.index_mut().compacted = revision;
        self.compacting = true;
        Ok(())
    }

    /// What can wait until nobody writes.
    pub(super) fn tidy(&mut self) {
        if self.parts.failed.get().is_some() {
            return;
        }
        let short = self.space.is_short();
        if self.compacting {
            self.compacting = match self.compact_some() {
                Ok(more) => more,
                Err(Error::Full(_)) => {
                    self.space.give_way();
                    true
                }
                Err(_) => false,
            };
            self.vacuuming |= !self.compacting;
        } else if self.vacuuming {
            let (pages, more) = self.vacuum_some().unwrap_or_else(|error| {
                // It is a commit of its own.
                let error = self.unconfirmed(&error);
                let full = matches!(error, Error::Full(_));
                if full {
                    self.space.give_way();
                } else {
                    self.roll_back(&error);
                }
                (0, full)
            });
            self.vacuuming = more;
            self.unsaved += pages * PAGE_BYTES;
        }
        if !self.compacting && self.unsaved > self.enough_to_save() {
            self.checkpoint(if short { "TRUNCATE" } else { "PASSIVE" });
        }
    }

    /// Whether more is left. What fails here is found again at the next start.
    fn compact_some(&mut self) -> Result<bool> {
        let mut guard = self.parts.guard;
        let result = (|| {
            run(&self.parts.connection, "BEGIN IMMEDIATE")?;
            let more = delete_obsolete(
                &self.parts.connection,
                &self.parts.reader,
                ALONE,
                &mut guard,
                &mut self.taken,
            )?;
            run(&self.parts.connection, "COMMIT")?;
            Ok::<_, rusqlite::Error>(more)
        })();
        self.unsaved += CHECKPOINT_IDLE / 2;
        match result {
            Ok(more) => {
                self.parts.guard = guard;
                self.taken.clear();
                Ok(more)
            }
            Err(error) => {
                let error = self.unconfirmed(&error);
                self.roll_back(&error);
                Err(error)
            }
        }
    }

    /// How many pages were given back, and whether more are left.
    fn vacuum_some(&self) -> rusqlite::Result<(u64, bool)> {
        let connection = &self.parts.connection;
        let free: u64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        let keep = if self.space.is_short() { 0 } else { VACUUM_KEEP };
        // Pages that move are written to the log first.
        let most = (self.space.free() / PAGE_BYTES / 4).clamp(8, VACUUM);
        let pages = free.saturating_sub(keep).min(most);
        if pages > 0 {
            // To its end: each step gives back a page.
            run(connection, &format!("PRAGMA incremental_vacuum({pages})"))?;
        }
        Ok((pages, free.saturating_sub(keep) > pages))
    }

    pub(super) fn checkpoint(&mut self, mode: &str) {
        // After a write that nobody confirmed, what the guard should say is not known here: the next start will know.
        if self.parts.failed.get().is_some() {
            return;
        }
        // A table that grows would eat what is kept for deletes.
        if self.space.is_short() && self.space.free() < self.unsaved {
            return;
        }
        // What leaves the log loses its checksums: the guard must count it first.
        if let Err(error) = self.parts.guard.write(&self.parts.connection) {
            // It is a commit of its own.
            return self.roll_back(&self.unconfirmed(&error));
        }
        match run(&self.parts.connection, &format!("PRAGMA wal_checkpoint({mode})")) {
            // A reader may hold a part of the log back; the next checkpoint takes it in.
            Ok(()) => self.unsaved = 0,
            Err(error) => tracing::warn!(%error, "a checkpoint failed"),
        }
    }
}

/// Whether more is left. `guard` counts the rows out, here and in the file; `taken` is to be put back if the transaction
/// is not committed.
pub(super) fn delete_obsolete(
    connection: &Connection,
    reader: &Reader,
    limit: usize,
    guard: &mut Guard,
    taken: &mut Vec<u64>,
) -> rusqlite::Result<bool> {
    *taken = reader.index_mut().take_obsolete(limit);
    let rows = &*taken;
    if rows.is_empty() {
        return Ok(false);
    }
    let mut delete = connection.prepare_cached("DELETE FROM revisions WHERE revision = ?1 RETURNING seal")?;
    for row in rows {
        let mut deleted = delete.query([row])?;
        while let Some(row) = deleted.next()? {
            guard.remove(row.get(0)?);
        }
    }
    guard.write(connection)?;
    Ok(rows.len() == limit)
}
