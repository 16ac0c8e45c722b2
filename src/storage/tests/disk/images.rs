//! What a disk may have after the power went: reads the log of `disk.c` and makes such states of the directory.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;

/// The unit that a disk writes in one piece.
const SECTOR: usize = 512;

/// One thing that was done to a file.
#[derive(Debug)]
pub enum Done {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    Truncate(usize),
    Synced,
    /// The kernel reported it, and may have dropped what was to be written.
    SyncFailed,
    Created,
    Removed,
}

/// What becomes of what was written since the last sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    /// Some writes are there and some are not, in no order.
    Mixed(u64),
    /// Likewise, by sectors.
    Torn(u64),
}

/// Reads a log.
pub fn read(path: &Path) -> Vec<(String, Done)> {
    let log = std::fs::read(path).unwrap_or_default();
    let mut rest = &log[..];
    let mut all = Vec::new();
    // A record that the end of the process cut off was not finished, nor was what it records.
    while let [kind, name, head @ ..] = rest {
        let name = usize::from(*name);
        let Some((numbers, tail)) = head.split_at_checked(16) else {
            break;
        };
        let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap()) as usize;
        let (offset, length) = (number(0), number(8));
        if tail.len() < name + length {
            break;
        }
        let done = match kind {
            b'W' => Done::Write {
                offset,
                data: tail[name..name + length].to_vec(),
            },
            b'T' => Done::Truncate(offset),
            b'S' => Done::Synced,
            b'F' => Done::SyncFailed,
            b'C' => Done::Created,
            b'U' => Done::Removed,
            kind => panic!("a record of kind {kind}"),
        };
        all.push((String::from_utf8_lossy(&tail[..name]).into_owned(), done));
        rest = &tail[name + length..];
    }
    all
}

/// A disk, as far as it got.
#[derive(Default)]
pub struct Disk<'a> {
    files: BTreeMap<&'a str, File<'a>>,
}

#[derive(Default)]
struct File<'a> {
    durable: Vec<u8>,
    pending: Vec<&'a Done>,
    removed: bool,
    /// Whether the directory on the disk knows this file ...
    named: bool,
    /// ... or else an earlier one of this name.
    before: Option<Vec<u8>>,
}

impl<'a> Disk<'a> {
    pub fn take(&mut self, name: &'a str, done: &'a Done) {
        if name == "." {
            if matches!(done, Done::Synced) {
                self.name_all();
            }
            return;
        }
        let file = self.files.entry(name).or_default();
        match done {
            Done::Write { .. } | Done::Truncate(_) => file.pending.push(done),
            Done::Synced => {
                for done in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, done);
                }
            }
            // The worst a kernel does: the pages count as written, and are not.
            Done::SyncFailed => file.pending.clear(),
            Done::Created => {
                let old = std::mem::take(file);
                file.before = if old.named { Some(old.durable) } else { old.before };
            }
            Done::Removed => file.removed = true,
        }
    }

    /// The directory is on the disk as it is now.
    fn name_all(&mut self) {
        self.files.retain(|_, file| !file.removed);
        for file in self.files.values_mut() {
            file.named = true;
            file.before = None;
        }
    }

    /// Writes what is there after the power went now into `dir`.
    pub fn write(&self, dir: &Path, fate: Fate) {
        let mut random = StdRng::seed_from_u64(match fate {
            Fate::Mixed(seed) | Fate::Torn(seed) => seed,
            Fate::Lost | Fate::Kept => 0,
        });
        for (name, file) in &self.files {
            let directory_is_old = match fate {
                Fate::Lost => true,
                Fate::Kept => false,
                Fate::Mixed(_) | Fate::Torn(_) => random.random_bool(0.5),
            };
            let content = match directory_is_old {
                true if !file.named => file.before.clone(),
                false if file.removed => None,
                _ => Some(file.content(fate, &mut random)),
            };
            if let Some(content) = content {
                std::fs::write(dir.join(name), content).unwrap();
            }
        }
    }
}

impl File<'_> {
    fn content(&self, fate: Fate, random: &mut StdRng) -> Vec<u8> {
        let mut content = self.durable.clone();
        for done in &self.pending {
            match (fate, done) {
                (Fate::Lost, _) => {}
                (Fate::Torn(_), Done::Write { offset, data }) => {
                    let mut from = 0;
                    while from < data.len() {
                        let to = data.len().min(from + SECTOR - (offset + from) % SECTOR);
                        if random.random_bool(0.5) {
                            put(&mut content, offset + from, &data[from..to]);
                        }
                        from = to;
                    }
                }
                (Fate::Mixed(_) | Fate::Torn(_), _) if random.random_bool(0.5) => {}
                _ => apply(&mut content, done),
            }
        }
        content
    }
}

fn apply(content: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Write { offset, data } => put(content, *offset, data),
        Done::Truncate(size) => content.resize(*size, 0),
        _ => {}
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}
