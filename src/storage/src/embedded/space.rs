//! [`Space`]: room on the disk, kept so that a full one can be emptied.
//!
//! Deletes and compaction need room, too: they are written before anything is given back. Hence puts stop while there
//! is still some headroom, and a file of nothing but room stands by for when others have taken even that.

use crate::embedded::file::PAGE_BYTES;
use rustix::fs::{FallocateFlags, StatVfs, fallocate, statvfs};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What puts leave to deletes, at most; small disks keep a share.
const HEADROOM: u64 = 4 << 20;
const SHARE: u64 = 32;
/// So much nobody uses up between two looks.
const PLENTY: u64 = 1 << 30;
const LOOK: Duration = Duration::from_millis(50);
const RESERVE: &str = "reserve";
const PROBE: &str = "probe";

pub(super) struct Space {
    dir: PathBuf,
    short: bool,
    free: u64,
    looked: Instant,
}

impl Space {
    pub fn new(dir: &Path) -> Space {
        let mut space = Space {
            dir: dir.to_owned(),
            short: false,
            free: u64::MAX,
            looked: Instant::now(),
        };
        space.look(0);
        space
    }

    /// Whether puts must wait, as of the last look.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// What was free at the last look.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// [`Space::look`], where the last look is not quite new or there was little then.
    pub fn glance(&mut self, unsaved: u64) {
        let plenty = !self.short && self.free > PLENTY + unsaved;
        if !plenty || self.looked.elapsed() > LOOK {
            self.look(unsaved);
        }
    }

    /// Asks the file system. Cheap: one system call. The table may have to grow by `unsaved` bytes before the log gives
    /// as many back.
    pub fn look(&mut self, unsaved: u64) {
        // Where the system cannot tell, only writing can.
        let Ok(disk) = statvfs(&self.dir) else { return };
        self.looked = Instant::now();
        self.free = free(&disk);
        let headroom = headroom(&disk);
        let reserved = self.reserve().exists();
        if self.free < headroom + unsaved {
            self.become_short(true);
        } else if !reserved && self.free >= 3 * headroom + unsaved {
            self.become_short(false);
            self.set_aside(headroom);
        } else if reserved && (self.free >= 2 * headroom + unsaved || !self.short) {
            self.become_short(false);
        }
    }

    /// Whether nothing more can be written here, though there is room for others: a quota. Neither the file system's
    /// figures nor SQLite's errors tell, so this writes a page.
    pub fn is_used_up(dir: &Path) -> bool {
        let path = dir.join(PROBE);
        let written = File::create(&path).and_then(|mut file| file.write_all(&[0; PAGE_BYTES as usize]));
        _ = std::fs::remove_file(&path);
        written.is_err_and(|error| matches!(error.kind(), ErrorKind::QuotaExceeded | ErrorKind::StorageFull))
    }

    /// [`Space::is_used_up`], of this directory.
    pub fn takes_no_more(&self) -> bool {
        Space::is_used_up(&self.dir)
    }

    /// The disk was found full: makes room for deletes, and for them only.
    pub fn give_way(&mut self) {
        self.become_short(true);
        if std::fs::remove_file(self.reserve()).is_ok() {
            tracing::warn!("the reserve was given up to make room for deletes");
        }
    }

    fn become_short(&mut self, short: bool) {
        if self.short != short {
            if short {
                tracing::error!(dir = %self.dir.display(), "the disk is full: only deletes are written");
            } else {
                tracing::info!(dir = %self.dir.display(), "there is room on the disk again");
            }
        }
        self.short = short;
    }

    fn set_aside(&self, bytes: u64) {
        let reserved = File::create(self.reserve())
            .and_then(|file| fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(std::io::Error::from));
        if let Err(error) = reserved {
            tracing::debug!(%error, "no room could be set aside");
        }
    }

    fn reserve(&self) -> PathBuf {
        self.dir.join(RESERVE)
    }
}

/// What a process that is not root can have.
fn free(disk: &StatVfs) -> u64 {
    disk.f_bavail.saturating_mul(disk.f_frsize)
}

fn headroom(disk: &StatVfs) -> u64 {
    HEADROOM.min(disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = Space::new(dir.path());
        assert!(!space.is_short());
        assert!(space.reserve().metadata().unwrap().len() > 0);
        space.give_way();
        assert!(space.is_short() && !space.reserve().exists());
        space.look(0);
        assert!(!space.is_short() && space.reserve().exists());
    }
}
