//! [`Mark`]: how far a store has promised to remember, written beside it. A log that is gone, cut off or damaged at its
//! end looks like one that was never longer: the mark knows better.
//!
//! A commit is on the disk before the mark tells of it, and nobody waits for the mark. So it is never ahead of what must
//! be there; after a power cut it may be behind, as far as the system had not written it by itself.

use crate::embedded::rows::Sum;
use crate::store::{Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const NAME: &str = "acknowledged";
const BYTES: usize = 16;

/// The mark of an open store; `None` where none can be written.
pub(super) struct Mark(Option<File>);

impl Mark {
    /// Compares the mark beside the store's file with the revision that the file goes to.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where more was acknowledged than there is.
    pub fn open(store: &Path, revision: u64) -> Result<Mark> {
        let path = store.with_file_name(NAME);
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let mark = Mark(
            file.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "no mark can be written"))
                .ok(),
        );
        match mark.read() {
            Ok(Some(acknowledged)) if acknowledged > revision => Err(Error::Corrupt(format!(
                "\"{store}\" ends at revision {revision}, but revision {acknowledged} was acknowledged: its log \"{store}-wal\" \
                 was lost or is damaged. Restore a backup, or remove \"{mark}\" to go on with what there is",
                store = store.display(),
                mark = path.display()
            ))),
            Ok(_) => {
                mark.raise(revision);
                Ok(mark)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the mark cannot be read, and is written anew");
                mark.raise(revision);
                Ok(mark)
            }
        }
    }

    /// Everything up to `revision` is on the disk. One system call, which waits for nothing.
    pub fn raise(&self, revision: u64) {
        let Some(file) = &self.0 else { return };
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&revision.to_le_bytes());
        bytes[8..].copy_from_slice(&sum(revision).to_le_bytes());
        // On a full disk the first one may fail; the store goes on as well without.
        if let Err(error) = file.write_all_at(&bytes, 0) {
            tracing::debug!(%error, "the mark was not written");
        }
    }

    fn read(&self) -> io::Result<Option<u64>> {
        let Some(file) = &self.0 else { return Ok(None) };
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        let mut bytes = [0; BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if word(8).cast_signed() != sum(word(0)) {
            return Err(io::Error::other("it does not match its checksum"));
        }
        Ok(Some(word(0)))
    }
}

fn sum(revision: u64) -> i64 {
    let mut sum = Sum::new(BYTES);
    sum.word(revision);
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_ends_too_early_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store.db");
        let mark = Mark::open(&store, 3).unwrap();
        mark.raise(7);
        assert!(Mark::open(&store, 7).is_ok());
        assert!(Mark::open(&store, 9).is_ok());
        let error = Mark::open(&store, 8).err().unwrap().to_string();
        assert!(
            error.contains("store.db-wal") && error.contains("acknowledged"),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_mark_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store.db");
        Mark::open(&store, 9).unwrap();
        let path = dir.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(Mark::open(&store, 3).is_ok());
        assert!(Mark::open(&store, 2).is_err());
    }
}
