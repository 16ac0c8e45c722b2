//! The write-ahead log, looked at before SQLite does. SQLite takes a log to end where its checksums end, which is right
//! for a commit torn by a power cut and wrong for one that was damaged later: then acknowledged writes would be gone
//! without a word.
//!
//! Every commit waits for the one before to be on the disk. Hence only the very last may be torn: where more than one
//! commit follows the first broken frame, the log is damaged.
//! Source of the format: sqlite.org/fileformat2.html#walformat.

use crate::store::{Error, Result};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// Checks the log beside a store's file; there may be none.
///
/// # Errors
/// [`Error::Corrupt`] names the log.
pub(super) fn check(path: &Path) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::Unavailable(format!("\"{}\": {error}", path.display()))),
    };
    match scan(BufReader::with_capacity(1 << 20, file)) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(Error::Corrupt(format!("\"{}\": {what}", path.display()))),
        Err(error) => Err(Error::Unavailable(format!("\"{}\": {error}", path.display()))),
    }
}

/// What is damaged.
fn scan(mut log: impl Read) -> io::Result<Option<String>> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let magic = word(&header, 0);
    let mut sum = Checksum {
        big_endian: magic & 1 == 1,
        a: 0,
        b: 0,
    };
    sum.add(&header[..24]);
    let page = word(&header, 8) as usize;
    let sound = magic & !1 == MAGIC && sum.is(word(&header, 24), word(&header, 28)) && page.is_power_of_two();
    let mut frame = vec![0; FRAME_HEADER + if sound { page.min(65_536) } else { 4096 }];
    if !sound {
        // A header is on the disk before the first frame is written.
        let follows = fill(&mut log, &mut frame)?;
        return Ok(follows.then(|| "the header of the log is damaged".into()));
    }
    let salts = (word(&header, 16), word(&header, 20));
    let (mut number, mut broken, mut commits_after) = (0_u64, None, 0);
    while fill(&mut log, &mut frame)? {
        number += 1;
        let (this, body) = frame.split_at(FRAME_HEADER);
        let current = (word(this, 8), word(this, 12)) == salts;
        let commits = word(this, 4) != 0;
        if broken.is_none() {
            sum.add(&this[..8]);
            sum.add(body);
            if current && sum.is(word(this, 16), word(this, 20)) {
                continue;
            }
            broken = Some(number);
        }
        if current && commits {
            commits_after += 1;
        }
    }
    Ok(match broken {
        Some(frame) if commits_after > 1 => Some(format!(
            "frame {frame} of the log is damaged, and {commits_after} commits follow"
        )),
        _ => None,
    })
}

/// Whether there was enough to read.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Runs on from frame to frame.
struct Checksum {
    big_endian: bool,
    a: u32,
    b: u32,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.as_chunks::<8>().0 {
            let half = |at: usize| {
                let half: [u8; 4] = pair[at..at + 4].try_into().expect("four bytes");
                if self.big_endian {
                    u32::from_be_bytes(half)
                } else {
                    u32::from_le_bytes(half)
                }
            };
            let (first, second) = (half(0), half(4));
            self.a = self.a.wrapping_add(first).wrapping_add(self.b);
            self.b = self.b.wrapping_add(second).wrapping_add(self.a);
        }
    }

    fn is(&self, a: u32, b: u32) -> bool {
        (self.a, self.b) == (a, b)
    }
}
