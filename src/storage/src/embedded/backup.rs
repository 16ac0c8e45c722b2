//! Copies of a store in use, and stores made of copies.
//!
//! SQLite makes the copy (`VACUUM INTO`) from one read transaction on a connection of its own: writers go on, and the
//! copy is the store as it was at one revision. Then every row of the copy is checked and counted. Only what passed is
//! handed out.

use crate::embedded::Embedded;
use crate::embedded::check;
use crate::embedded::file::{check_marks, in_file, lock, make_dir, reading, unusable};
use crate::store::{Error, Result, Revision};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A checked copy. It has no name: it is gone when the file is closed.
#[derive(Debug)]
pub struct Backup {
    pub file: File,
    pub bytes: u64,
    pub summary: Summary,
}

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub revision: Revision,
    /// Versions, the newest and older ones.
    pub rows: u64,
}

/// How far a restored store's revisions lie above those of its backup. Writes that came after the backup had revisions
/// in between, and clients remember them: none may be given out again with another meaning.
pub const BUMP: u64 = 1_000_000_000;

/// What unfinished copies are called; a start removes them.
const COPY: &str = "backup-";
/// What a store is called until it is whole.
const RESTORING: &str = "restoring.db";

impl Embedded {
    /// A consistent copy of everything acknowledged so far. Needs as much room in the store's directory as the store.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the copy, and so the store, is damaged; [`Error::Unavailable`].
    pub async fn backup(&self) -> Result<Backup> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.0
            .reader
            .clone()
            .blocking(move |reader| {
                let path = reader.path().with_file_name(format!("{COPY}{number}.db"));
                let copy = Unfinished(path);
                reader.copy(&copy.0)?;
                let summary = finish(&copy.0, None)?;
                let file = File::open(&copy.0).map_err(|error| failed(&copy.0, &error))?;
                let bytes = file.metadata().map_err(|error| failed(&copy.0, &error))?.len();
                Ok(Backup { file, bytes, summary })
            })
            .await
    }
}

/// Removed when dropped.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

/// Removes what an earlier process did not finish.
pub(super) fn remove_unfinished(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(COPY) {
            _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Reads every byte of a backup.
///
/// # Errors
/// [`Error::Corrupt`], which names the file, for a damaged, cut, foreign or other version's file; [`Error::Unavailable`].
pub fn verify(path: &Path) -> Result<Summary> {
    let check = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.map_err(|error| reading(&error))?;
        check_marks(&connection)?;
        let contents = check::read_all(path, &connection)?;
        let revision = contents.index.revision.max(1);
        // A copy cut off at its newest rows would still be a store, if it did not say how far it goes.
        let sealed = super::guard::Guard::read(&connection)?;
        if sealed.rows != contents.guard.rows {
            return Err(Error::Corrupt("not a finished backup".into()));
        }
        Ok(Summary {
            revision: Revision(revision),
            rows: contents.guard.rows,
        })
    };
    check().map_err(|error| in_file(path, error))
}

/// Makes the backup in `file` the store in `dir`, whose revisions go on [`BUMP`] above the backup's. Watches from before
/// are told that the past is gone. Nothing in `dir` is touched unless the backup is sound and `dir` is empty.
///
/// # Errors
/// Those of [`verify`]; [`Error::Unavailable`] for a directory that is not empty or cannot be written.
pub fn restore(file: &Path, dir: &Path) -> Result<Summary> {
    let summary = verify(file)?;
    // An attempt that was cut short may have left these two.
    let ours = |name: &std::ffi::OsStr| name == "lock" || name == RESTORING;
    let mut there = std::fs::read_dir(dir).into_iter().flatten().flatten();
    if there.any(|entry| !ours(&entry.file_name())) {
        return Err(Error::Unavailable(format!(
            "\"{}\" is not empty: a backup is restored into a new directory",
            dir.display()
        )));
    }
    make_dir(dir).map_err(|error| unusable(dir, &error))?;
    let _lock = lock(dir)?;
    let path = dir.join("store.db");
    let unfinished = Unfinished(dir.join(RESTORING));
    std::fs::copy(file, &unfinished.0).map_err(|error| failed(&unfinished.0, &error))?;
    let restored = finish(&unfinished.0, Some(summary.revision.0 + BUMP))?;
    let place = || {
        File::open(&unfinished.0)?.sync_all()?;
        std::fs::rename(&unfinished.0, &path)?;
        File::open(dir)?.sync_all()
    };
    place().map_err(|error| failed(&path, &error))?;
    Ok(restored)
}

/// Checks a copy and writes into it what it holds; `compacted` where its revisions are to go on from there.
fn finish(path: &Path, compacted: Option<u64>) -> Result<Summary> {
    let work = || {
        let connection = Connection::open(path).map_err(|error| reading(&error))?;
        check_marks(&connection)?;
        let contents = check::read_all(path, &connection)?;
        let mut guard = contents.guard;
        guard.sealed = contents.index.revision;
        guard.compacted = compacted.unwrap_or(guard.compacted);
        // One file, without a log beside it; nothing is lost if this copy does not come to be.
        connection
            .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")
            .and_then(|()| guard.write(&connection))
            .map_err(|error| reading(&error))?;
        connection.close().map_err(|(_, error)| reading(&error))?;
        Ok(Summary {
            revision: Revision(guard.sealed.max(guard.compacted).max(1)),
            rows: guard.rows,
        })
    };
    work().map_err(|error| in_file(path, error))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::Unavailable(format!("\"{}\": {error}", path.display()))
}
