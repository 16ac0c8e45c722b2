//! [`Guard`]: the one row that vouches for all the others. A damaged page can lose whole rows without SQLite noticing;
//! the guard knows how many there must be.

use crate::embedded::file::reading;
use crate::embedded::rows::Sum;
use crate::store::{Error, Result};
use rusqlite::Connection;

/// What the file must hold. Rows above `sealed` are not counted: they are in the log, which has checksums of its own,
/// until a checkpoint, before which they are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Guard {
    /// Reads below are refused.
    pub compacted: u64,
    pub sealed: u64,
    /// Rows up to `sealed`, and the sum of their seals.
    pub rows: u64,
    pub seals: u64,
}

impl Guard {
    /// Counts a row in.
    pub fn add(&mut self, revision: u64, seal: i64) {
        self.sealed = self.sealed.max(revision);
        self.rows += 1;
        self.seals = self.seals.wrapping_add(seal.cast_unsigned());
    }

    /// Counts a deleted row out.
    pub fn remove(&mut self, seal: i64) {
        self.rows = self.rows.saturating_sub(1);
        self.seals = self.seals.wrapping_sub(seal.cast_unsigned());
    }

    fn sum(&self) -> i64 {
        let mut sum = Sum::new(4);
        for number in [self.compacted, self.sealed, self.rows, self.seals] {
            sum.word(number);
        }
        sum.finish()
    }

    pub fn read(connection: &Connection) -> Result<Guard> {
        let found = connection.query_row("SELECT compacted, sealed, rows, seals, sum FROM guard", [], |row| {
            let guard = Guard {
                compacted: row.get(0)?,
                sealed: row.get(1)?,
                rows: row.get(2)?,
                seals: row.get::<_, i64>(3)?.cast_unsigned(),
            };
            Ok((guard, row.get::<_, i64>(4)?))
        });
        match found {
            Ok((guard, sum)) if guard.sum() == sum => Ok(guard),
            Ok(_) => Err(Error::Corrupt("the guard does not match its checksum".into())),
            Err(rusqlite::Error::QueryReturnedNoRows) => Err(Error::Corrupt("the guard is missing".into())),
            Err(error) => Err(reading(&error)),
        }
    }

    /// Belongs into the transaction that changes what it counts.
    pub fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let seals = self.seals.cast_signed();
        connection
            .prepare_cached("REPLACE INTO guard VALUES (1, ?1, ?2, ?3, ?4, ?5)")?
            .execute((self.compacted, self.sealed, self.rows, seals, self.sum()))?;
        Ok(())
    }

    /// Compares what was found up to `sealed` with what must be there.
    pub fn check(&self, found: &Guard) -> Result<()> {
        if (self.rows, self.seals) == (found.rows, found.seals) {
            return Ok(());
        }
        Err(Error::Corrupt(format!(
            "{} rows up to revision {} were found where {} were written",
            found.rows, self.sealed, self.rows
        )))
    }
}
