//! The file of an embedded store: its format, opening it, and reading the keys back.

use crate::embedded::guard::Guard;
use crate::embedded::mark::Mark;
use crate::embedded::space::Space;
use crate::embedded::writer::is_write;
use crate::embedded::{backup, check, log};
use crate::index::Index;
use crate::store::{Error, Result, StoreKey};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Marks the file as ours: "fair".
const APPLICATION: i64 = 0x6661_6972;
const FORMAT: i64 = 2;
pub(super) const PAGE_BYTES: u64 = 4096;

/// See [`super::rows::Head`] and [`Guard`]. The value comes last so that reading heads does not read long values.
pub(super) const TABLES: &str = "
    CREATE TABLE revisions (
        revision INTEGER PRIMARY KEY,
        key      TEXT    NOT NULL,
        created  INTEGER NOT NULL,
        before   INTEGER NOT NULL,
        expires  INTEGER NOT NULL,
        sum      INTEGER NOT NULL,
        seal     INTEGER NOT NULL,
        value    BLOB    NOT NULL
    ) STRICT;
    CREATE TABLE guard (
        id        INTEGER PRIMARY KEY,
        compacted INTEGER NOT NULL,
        sealed    INTEGER NOT NULL,
        rows      INTEGER NOT NULL,
        seals     INTEGER NOT NULL,
        sum       INTEGER NOT NULL
    ) STRICT;
";

/// An open store, before it is put to use.
pub(super) struct Opened {
    pub connection: Connection,
    pub path: PathBuf,
    /// Held as long as the store is open. The system lets go of it when the process dies.
    pub lock: File,
    pub mark: Mark,
    pub contents: Contents,
}

/// What a store's rows come to.
#[derive(Default)]
pub(super) struct Contents {
    pub index: Index,
    pub expiring: BTreeSet<(u64, StoreKey, u64)>,
    /// Counts all rows.
    pub guard: Guard,
}

pub(super) fn open(dir: &Path, max_bytes: Option<u64>) -> Result<Opened> {
    make_dir(dir).map_err(|error| unusable(dir, &error))?;
    let lock = lock(dir)?;
    backup::remove_unfinished(dir);
    let path = dir.join("store.db");
    let was_here = lock.metadata().is_ok_and(|file| file.len() > 0);
    if was_here && !path.metadata().is_ok_and(|file| file.len() > 0) {
        return Err(Error::Corrupt(format!(
            "\"{}\" is missing or empty, but there was a store: restore a backup, or remove the directory to begin anew",
            path.display()
        )));
    }
    log::check(&log_of(&path))?;
    let (connection, contents) = (|| {
        let connection = connect(&path, max_bytes)?;
        let contents = check::read_all(&path, &connection)?;
        Ok((connection, contents))
    })()
    .map_err(|error: Error| in_file(&path, error))?;
    let mark = Mark::open(&path, contents.index.revision)?;
    if !was_here {
        // From now on a store that is not there has been lost.
        let marked = (&lock).write_all(b"store\n").and_then(|()| lock.sync_all());
        marked.map_err(|error| unusable(dir, &error))?;
    }
    Ok(Opened {
        connection,
        path,
        lock,
        mark,
        contents,
    })
}

/// The log beside a store's file.
pub(super) fn log_of(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

/// Says which file is damaged.
pub(super) fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Corrupt(text) => Error::Corrupt(format!("\"{}\": {text}", path.display())),
        Error::Unavailable(text) => Error::Unavailable(format!("\"{}\": {text}", path.display())),
        other => other,
    }
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch("PRAGMA cache_size = -512; PRAGMA busy_timeout = 5000;")?;
    Ok(connection)
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

pub(super) fn make_dir(dir: &Path) -> std::io::Result<()> {
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

pub(super) fn lock(dir: &Path) -> Result<File> {
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

pub(super) fn unusable(dir: &Path, error: &std::io::Error) -> Error {
    Error::Unavailable(format!("\"{}\" cannot be used: {error}", dir.display()))
}

fn connect(path: &Path, max_bytes: Option<u64>) -> Result<Connection> {
    let connection = Connection::open(path).map_err(|error| reading(&error))?;
    settings(&connection, max_bytes).map_err(|error| reading(&error))?;
    prepare_tables(&connection)?;
    write_through(path, &connection)?;
    Ok(connection)
}

/// Takes the log into the table. An earlier process may have died of a failed fsync: what can be read then need not be
/// on the disk, and no later fsync would bring it there. Written again and synced it is, before anything builds on it.
/// What the last process left behind a torn commit must not be taken for damage one day, either: see `log`.
fn write_through(path: &Path, connection: &Connection) -> Result<()> {
    let used_up = || path.parent().is_some_and(Space::is_used_up);
    let held_back = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    match held_back {
        Ok(false) => Ok(()),
        Ok(true) => {
            tracing::warn!("somebody else reads the store's file: its log could not be taken in");
            Ok(())
        }
        // Whoever makes room on a full disk needs the store for it.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) || is_write(&error) && used_up() => {
            tracing::warn!(%error, "there is no room to take the log of the last process in");
            Ok(())
        }
        Err(error) => Err(reading(&error)),
    }
}

/// Switches to a write-ahead log, or makes sure that it is used. Where that fails, SQLite goes on without one and says so
/// only in its answer; commits would then not survive a power cut.
fn use_log(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mut mode = String::new();
    // To the end: the switch itself comes after the answer.
    while let Some(row) = rows.next()? {
        mode = row.get(0)?;
    }
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    let what = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    let text = format!("the file cannot be switched from journal mode \"{mode}\" to a write-ahead log");
    Err(rusqlite::Error::SqliteFailure(what, Some(text)))
}

fn settings(connection: &Connection, max_bytes: Option<u64>) -> rusqlite::Result<()> {
    // `auto_vacuum` can only be chosen before the first table. Checkpoints are the writing thread's business.
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL;")?;
    use_log(connection)?;
    connection.execute_batch(
        "PRAGMA cell_size_check = ON;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -2048;
         PRAGMA busy_timeout = 5000;",
    )?;
    if let Some(bytes) = max_bytes {
        connection.pragma_update(None, "max_page_count", (bytes / PAGE_BYTES).cast_signed())?;
    }
    Ok(())
}

/// Whether a file is a store of this version, before it is read.
pub(super) fn check_marks(connection: &Connection) -> Result<()> {
    match marks(connection)? {
        (APPLICATION, FORMAT, _) => Ok(()),
        (application, format, _) => Err(foreign(application, format)),
    }
}

fn marks(connection: &Connection) -> Result<(i64, i64, i64)> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = || {
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        Ok((number("PRAGMA application_id")?, number("PRAGMA user_version")?, tables))
    };
    read().map_err(|error: rusqlite::Error| reading(&error))
}

fn foreign(application: i64, format: i64) -> Error {
    Error::Corrupt(format!(
        "not a store of this version (application {application:#x}, format {format})"
    ))
}

/// Makes the tables of an empty file, and knows a file of ours by its marks.
fn prepare_tables(connection: &Connection) -> Result<()> {
    match marks(connection)? {
        (0, 0, 0) => (|| {
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES}"))?;
            Guard::default().write(connection)?;
            connection.execute_batch(&format!(
                "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT}; COMMIT"
            ))
        })()
        .map_err(|error: rusqlite::Error| reading(&error)),
        (APPLICATION, FORMAT, _) => Ok(()),
        (application, format, _) => Err(foreign(application, format)),
    }
}
