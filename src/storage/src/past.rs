//! The newest changes under a prefix with what each replaced, from the rows of an in-process store.

use crate::index::Row;
use crate::store::{Change, Past, Result, Revision};
use std::collections::{BinaryHeap, HashMap};

/// What a change costs besides its values.
const CHANGE_BYTES: usize = 256;

/// Walks from the newest versions of keys (`newest`, all above `compacted`) back through what they replaced, newest
/// change first, until `bytes` are full or nothing is left above the compaction. Reads each row once.
pub(crate) fn walk(
    newest: Vec<u64>,
    compacted: u64,
    to: u64,
    bytes: usize,
    mut read: impl FnMut(u64) -> Result<Option<Row>>,
) -> Result<Past> {
    let mut open = BinaryHeap::from(newest);
    // Rows read as what something replaced, before their own turn.
    let mut known: HashMap<u64, Row> = HashMap::new();
    let mut past = Past {
        changes: Vec::new(),
        after: Revision(compacted),
    };
    let mut taken = 0;
    while let Some(revision) = open.pop() {
        let found = match known.remove(&revision) {
            Some(row) => Some(row),
            None => read(revision)?,
        };
        let Some(row) = found else {
            // Compacted just now, and with it what is older.
            past.after = Revision(revision);
            break;
        };
        if row.before > compacted {
            open.push(row.before);
        }
        if revision > to {
            continue;
        }
        let before = if row.before > 0 { read(row.before)? } else { None };
        let previous = before.as_ref().filter(|row| !row.is_tombstone()).map(Row::entry);
        taken += CHANGE_BYTES + row.value.len() + previous.as_ref().map_or(0, |entry| entry.value.len());
        if taken > bytes {
            past.after = Revision(revision);
            break;
        }
        if let Some(before) = before.filter(|before| before.revision > compacted) {
            known.insert(before.revision, before);
        }
        past.changes.push(Change {
            revision: Revision(revision),
            value: (!row.is_tombstone()).then(|| row.value.clone()),
            key: row.key,
            previous,
        });
    }
    past.changes.reverse();
    Ok(past)
}

impl Past {
    /// Leaves out what a compaction overtook while it was read: what those changes replaced may be missing.
    pub(crate) fn since(mut self, compacted: u64) -> Past {
        if compacted > self.after.0 {
            self.after = Revision(compacted);
            self.changes.retain(|change| change.revision.0 > compacted);
        }
        self
    }
}
