//! Whether a store's file is sound. All of it is looked at before anything is built on it: its structure by SQLite's own
//! check, its tables by their text, every row and its value by their checksums, and their number by the guard.
//!
//! What no part of this reads is not used either: free pages, and the room between the rows of a page.

use crate::embedded::file::{Contents, TABLES, connect_reader, reading};
use crate::embedded::guard::Guard;
use crate::embedded::rows;
use crate::store::{Error, Result, StoreKey};
use rusqlite::Connection;
use std::path::Path;

/// Reads a store's file and checks all of it: its structure beside its rows, on a connection of its own.
///
/// # Errors
/// [`Error::Corrupt`].
pub(super) fn read_all(path: &Path, connection: &Connection) -> Result<Contents> {
    tables(connection)?;
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| structure(&connect_reader(path).map_err(|error| reading(&error))?));
        let contents = rows(connection);
        let sound = beside
            .join()
            .unwrap_or_else(|_| Err(Error::Unavailable("the check of the file's structure panicked".into())));
        // What is wrong with the structure says more than what it did to the rows.
        sound.and(contents)
    })
}

/// The tables are those of a new store, to the letter: a changed name would be met by some statements and not by others.
fn tables(connection: &Connection) -> Result<()> {
    let mut statement = rows::prepare(connection, "SELECT sql FROM sqlite_schema")?;
    let found = statement
        .query_map([], |row| row.get::<_, String>(0))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>)
        .map_err(|error| reading(&error))?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let wanted = TABLES.split(';').map(words).filter(|table| !table.is_empty());
    if found.iter().map(|table| words(table)).eq(wanted) {
        return Ok(());
    }
    Err(Error::Corrupt("the tables are not those of a store".into()))
}

/// Every page is where it belongs, once, and what is in it fits together.
pub(super) fn structure(connection: &Connection) -> Result<()> {
    // There are no indexes, which is all that `integrity_check` would look at besides.
    let sound: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| reading(&error))?;
    if sound == "ok" {
        return Ok(());
    }
    Err(Error::Corrupt(sound))
}

/// Reads every row, and checks it.
pub(super) fn rows(connection: &Connection) -> Result<Contents> {
    let guard = Guard::read(connection)?;
    let mut contents = Contents {
        guard: Guard {
            compacted: guard.compacted,
            ..Guard::default()
        },
        ..Contents::default()
    };
    let (mut expiring, mut sealed) = (Vec::new(), Guard::default());
    let mut statement = rows::prepare(
        connection,
        &format!("SELECT {}, value FROM revisions ORDER BY revision", rows::HEAD),
    )?;
    let mut rows = statement.query([]).map_err(|error| reading(&error))?;
    while let Some(row) = rows.next().map_err(|error| reading(&error))? {
        let (head, _) = rows::checked(row)?;
        let seal = head.seal();
        if head.revision <= guard.sealed {
            sealed.add(head.revision, seal);
        }
        contents.guard.add(head.revision, seal);
        let key = contents.index.shared_key(head.key);
        contents.index.apply(&key, head.revision, head.created, head.before);
        if head.expires > 0 {
            expiring.push((head.expires, key, head.revision));
        }
    }
    guard.check(&sealed)?;
    contents.index.compacted = guard.compacted;
    contents.index.revision = contents.index.revision.max(guard.compacted).max(guard.sealed);
    let newest = |key: &StoreKey, revision| contents.index.slot(key).is_some_and(|slot| slot.modified == revision);
    expiring.retain(|(_, key, revision)| newest(key, *revision));
    contents.expiring = expiring.into_iter().collect();
    Ok(contents)
}
