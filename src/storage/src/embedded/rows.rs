//! Rows as the file has them: reading, and the checksums that SQLite does not keep.
// PERFORMANCE: per-request path

use crate::embedded::file::reading;
use crate::index::Row;
use crate::store::{Change, Error, Result, Revision, StoreKey};
use bytes::Bytes;
use rusqlite::{CachedStatement, Connection};

/// Everything of a row but its value: what the index is made of. `sum` vouches for the value, `seal` for all the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub revision: u64,
    pub key: &'a str,
    /// 0 in tombstones.
    pub created: u64,
    /// The version before, 0 for none.
    pub before: u64,
    /// Unix seconds, 0 for never.
    pub expires: u64,
    /// Of the value.
    pub sum: i64,
}

impl Head<'_> {
    pub fn seal(&self) -> i64 {
        let numbers = [
            self.revision,
            self.created,
            self.before,
            self.expires,
            self.sum.cast_unsigned(),
        ];
        let mut sum = Sum::new(self.key.len());
        for number in numbers {
            sum.word(number);
        }
        sum.bytes(self.key.as_bytes());
        sum.finish()
    }
}

/// Detects damage that leaves the file's structure intact. Every changed word changes it.
pub(super) struct Sum(u64);

impl Sum {
    pub fn new(length: usize) -> Sum {
        Sum(0xcbf2_9ce4_8422_2325 ^ length as u64)
    }

    pub fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    pub fn finish(&self) -> i64 {
        (self.0 ^ (self.0 >> 32)).cast_signed()
    }
}

pub(super) fn value_sum(value: &[u8]) -> i64 {
    let mut sum = Sum::new(value.len());
    sum.bytes(value);
    sum.finish()
}

/// The columns of a head, in the order [`head`] reads them; a value follows where it is wanted.
pub(super) const HEAD: &str = "revision, key, created, before, expires, sum, seal";

/// A row's head, checked.
pub(super) fn head<'a>(found: &'a rusqlite::Row<'_>) -> Result<Head<'a>> {
    let parsed = (|| {
        let head = Head {
            revision: found.get(0)?,
            key: found.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?,
            created: found.get(2)?,
            before: found.get(3)?,
            expires: found.get(4)?,
            sum: found.get(5)?,
        };
        Ok::<_, rusqlite::Error>((head, found.get::<_, i64>(6)?))
    })();
    let (head, seal) = parsed.map_err(|error| reading(&error))?;
    if head.seal() != seal {
        return Err(mismatch(&head));
    }
    Ok(head)
}

/// A row's head and its value, checked.
pub(super) fn checked<'a>(found: &'a rusqlite::Row<'_>) -> Result<(Head<'a>, &'a [u8])> {
    let head = head(found)?;
    let value = found.get_ref(7).map_err(|error| reading(&error))?;
    let value = value.as_blob().map_err(|error| reading(&error.into()))?;
    if value_sum(value) != head.sum {
        return Err(mismatch(&head));
    }
    Ok((head, value))
}

/// A whole row, checked.
pub(super) fn whole(found: &rusqlite::Row<'_>) -> Result<Row> {
    let (head, value) = checked(found)?;
    Ok(Row {
        revision: head.revision,
        key: head.key.into(),
        created: head.created,
        before: head.before,
        expires: head.expires,
        value: Bytes::copy_from_slice(value),
    })
}

fn mismatch(head: &Head<'_>) -> Error {
    Error::Corrupt(format!(
        "revision {} of \"{}\" does not match its checksum",
        head.revision, head.key
    ))
}

/// One row, checked; `None` where it has been compacted.
pub(super) fn row(connection: &Connection, revision: u64) -> Result<Option<Row>> {
    let mut statement = prepare(
        connection,
        "SELECT revision, key, created, before, expires, sum, seal, value FROM revisions WHERE revision = ?1",
    )?;
    let mut rows = statement.query([revision]).map_err(|error| reading(&error))?;
    rows.next().map_err(|error| reading(&error))?.map(whole).transpose()
}

/// A row's `(before, created)`.
pub(super) fn links(connection: &Connection, revision: u64) -> Result<Option<(u64, u64)>> {
    let mut statement = prepare(
        connection,
        "SELECT revision, key, created, before, expires, sum, seal FROM revisions WHERE revision = ?1",
    )?;
    let mut rows = statement.query([revision]).map_err(|error| reading(&error))?;
    let found = rows.next().map_err(|error| reading(&error))?;
    found
        .map(|row| head(row).map(|head| (head.before, head.created)))
        .transpose()
}

pub(super) fn prepare<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>> {
    connection.prepare_cached(sql).map_err(|error| reading(&error))
}

/// Writes one row. Answers its seal.
pub(super) fn insert(
    connection: &Connection,
    revision: u64,
    key: &StoreKey,
    created: u64,
    before: u64,
    expires: u64,
    value: &[u8],
) -> rusqlite::Result<i64> {
    let sum = value_sum(value);
    let head = Head {
        revision,
        key,
        created,
        before,
        expires,
        sum,
    };
    let seal = head.seal();
    connection
        .prepare_cached("INSERT INTO revisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute((revision, &**key, created, before, expires, sum, seal, value))?;
    Ok(seal)
}

/// What a row was to watchers.
pub(super) fn change(connection: &Connection, of: &Row) -> Result<Change> {
    let (value, previous) = match of.is_tombstone() {
        true => (None, row(connection, of.before)?.map(|row| row.entry())),
        false => (Some(of.value.clone()), None),
    };
    Ok(Change {
        revision: Revision(of.revision),
        key: of.key.clone(),
        value,
        previous,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_changes_a_checksum() {
        let value: Vec<u8> = (0..203_u32).map(|i| (i * 7) as u8).collect();
        let sum = value_sum(&value);
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(value_sum(&changed), sum, "{bit}");
        }
        assert_ne!(value_sum(&value[..202]), sum);
        assert_ne!(value_sum(&[0; 8]), value_sum(&[0; 16]));
    }
}
