//! The file of an embedded store: its format, opening it, and reading the keys back.

use crate::index::Index;
use crate::store::{Error, Result, StoreKey};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Marks the file as ours: "fair".
const APPLICATION: i64 = 0x6661_6972;
const FORMAT: i64 = 1;
pub(super) const PAGE_BYTES: u64 = 4096;

/// `created` is 0 in tombstones; `before` is the version before, 0 for none; `expires` is in unix seconds, 0 for
/// never; `sum` is [`checksum`]. The value comes last so that reading the keys does not read long values.
const TABLES: &str = "
    CREATE TABLE revisions (
        revision INTEGER PRIMARY KEY,
        key      TEXT    NOT NULL,
        created  INTEGER NOT NULL,
        before   INTEGER NOT NULL,
        expires  INTEGER NOT NULL,
        sum      INTEGER NOT NULL,
        value    BLOB    NOT NULL
    ) STRICT;
    CREATE TABLE state (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO state VALUES ('compacted', 0);
";

/// An open store, before it is put to use.
pub(super) struct Opened {
    pub connection: Connection,
    pub path: PathBuf,
    /// Held as long as the store is open. The system lets go of it when the process dies.
    pub lock: File,
    pub index: Index,
    pub expiring: BTreeSet<(u64, StoreKey, u64)>,
}

pub(super) fn open(dir: &Path, max_bytes: Option<u64>) -> Result<Opened> {
    make_dir(dir).map_err(|error| unusable(dir, &error))?;
    let lock = lock(dir)?;
    let path = dir.join("store.db");
    let connection = connect(&path, max_bytes).map_err(|error| at_open(&path, &error))?;
    let mut index = Index::default();
    let expiring = read_keys(&connection, &mut index).map_err(|error| at_open(&path, &error))?;
    Ok(Opened {
        connection,
        path,
        lock,
        index,
        expiring,
    })
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch("PRAGMA cache_size = -512; PRAGMA busy_timeout = 5000;")?;
    Ok(connection)
}

/// Detects damage to a row that leaves the file's structure intact.
pub(super) fn checksum(key: &str, value: &[u8]) -> i64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64 ^ (key.len() as u64);
    for part in [key.as_bytes(), value] {
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            let word = <[u8; 8]>::try_from(word).expect("chunks are of eight bytes");
            sum = (sum ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        for byte in words.remainder() {
            sum = (sum ^ u64::from(*byte))
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(9);
        }
    }
    sum.cast_signed()
}

/// What an error of the database means when nothing was being written.
pub(super) fn reading(error: &rusqlite::Error) -> Error {
    if is_damage(error) {
        Error::Corrupt(error.to_string())
    } else {
        Error::Unavailable(error.to_string())
    }
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    ) || matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
    )
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)?;
    // So that a power cut does not take a new directory away.
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(dir.join("lock"));
    let file = file.map_err(|error| unusable(dir, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
            "\"{}\" is in use by another process",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(dir, &error)),
    }
}

fn unusable(dir: &Path, error: &std::io::Error) -> Error {
    Error::Unavailable(format!("\"{}\" cannot be used: {error}", dir.display()))
}

fn at_open(path: &Path, error: &rusqlite::Error) -> Error {
    let text = format!("\"{}\": {error}", path.display());
    if is_damage(error) {
        Error::Corrupt(text)
    } else {
        Error::Unavailable(text)
    }
}

fn connect(path: &Path, max_bytes: Option<u64>) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // `auto_vacuum` can only be chosen before the first table. Checkpoints are the writing thread's business.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -2048;
         PRAGMA busy_timeout = 5000;",
    )?;
    if let Some(bytes) = max_bytes {
        connection.pragma_update(None, "max_page_count", (bytes / PAGE_BYTES).cast_signed())?;
    }
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, format) {
        (0, 0) if tables == 0 => {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; COMMIT"
            ))?;
        }
        (APPLICATION, FORMAT) => {}
        _ => {
            let what = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
            let text = format!("not a store of this version (application {application:#x}, format {format})");
            return Err(rusqlite::Error::SqliteFailure(what, Some(text)));
        }
    }
    Ok(connection)
}

/// Reads everything but the values. Touches every page of the table, so that a damaged one is found now.
fn read_keys(connection: &Connection, index: &mut Index) -> rusqlite::Result<BTreeSet<(u64, StoreKey, u64)>> {
    let compacted = "SELECT number FROM state WHERE name = 'compacted'";
    index.compacted = connection.query_row(compacted, [], |row| row.get(0))?;
    index.revision = index.revision.max(index.compacted);
    let mut expiring = Vec::new();
    let mut statement =
        connection.prepare("SELECT revision, created, before, expires, key FROM revisions ORDER BY revision")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (revision, created, before, expires) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let key = index.shared_key(row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?);
        index.apply(&key, revision, created, before);
        if expires > 0 {
            expiring.push((expires, key, revision));
        }
    }
    expiring.retain(|(_, key, revision)| index.slot(key).is_some_and(|slot| slot.modified == *revision));
    Ok(expiring.into_iter().collect())
}
