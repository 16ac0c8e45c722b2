//! [`Index`]: which revisions the keys of a store have, without their values. Both in-process stores keep one.

use crate::store::{Entry, Error, Expect, Result, Revision, StoreKey};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// Everything an in-process store knows without its rows: about 130 bytes a key, and 16 for each version that waits
/// for compaction.
#[derive(Debug)]
pub(crate) struct Index {
    keys: BTreeMap<StoreKey, Slot>,
    /// The last write's, at least 1.
    pub revision: u64,
    /// Reads below are refused.
    pub compacted: u64,
    obsolete: VecDeque<Obsolete>,
    tombstones: VecDeque<(u64, StoreKey)>,
}

/// A key's newest version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub modified: u64,
    /// 0: the newest version is a tombstone.
    pub created: u64,
}

#[derive(Clone, Copy, Debug)]
struct Obsolete {
    /// The revision that overwrote it.
    by: u64,
    row: u64,
}

/// One version of a key, as rows hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub revision: u64,
    pub key: StoreKey,
    /// The revision that began this life of the key; 0 for tombstones.
    pub created: u64,
    /// The version before this one, tombstones included; 0 where there is none.
    pub before: u64,
    /// Unix seconds; 0 for never.
    pub expires: u64,
    pub value: Bytes,
}

impl Row {
    pub fn is_tombstone(&self) -> bool {
        self.created == 0
    }

    pub fn entry(&self) -> Entry {
        Entry {
            key: self.key.clone(),
            value: self.value.clone(),
            create_revision: Revision(self.created),
            mod_revision: Revision(self.revision),
        }
    }
}

impl Slot {
    pub fn is_live(self) -> bool {
        self.created != 0
    }

    /// Whether `expect` holds for a key with this slot (`None`: never written).
    pub fn allows(slot: Option<Slot>, expect: Expect) -> bool {
        match expect {
            Expect::Absent => !slot.is_some_and(Slot::is_live),
            Expect::Unchanged(revision) => slot.is_some_and(|slot| slot.is_live() && slot.modified == revision.0),
        }
    }
}

impl Default for Index {
    fn default() -> Index {
        Index {
            keys: BTreeMap::new(),
            revision: 1,
            compacted: 0,
            obsolete: VecDeque::new(),
            tombstones: VecDeque::new(),
        }
    }
}

impl Index {
    pub fn slot(&self, key: &str) -> Option<Slot> {
        self.keys.get(key).copied()
    }

    /// The key as it is shared by all that mention it.
    pub fn shared_key(&self, key: &str) -> StoreKey {
        self.keys
            .get_key_value(key)
            .map_or_else(|| key.into(), |(key, _)| key.clone())
    }

    /// Takes the next version of a key in. Rows come in the order of their revisions.
    pub fn apply(&mut self, key: &StoreKey, revision: u64, created: u64, before: u64) {
        self.revision = self.revision.max(revision);
        if before > 0 {
            self.obsolete.push_back(Obsolete {
                by: revision,
                row: before,
            });
        }
        if created == 0 {
            self.obsolete.push_back(Obsolete {
                by: revision,
                row: revision,
            });
            self.tombstones.push_back((revision, key.clone()));
        }
        let slot = Slot {
            modified: revision,
            created,
        };
        match self.keys.get_mut(key) {
            Some(known) => *known = slot,
            None => _ = self.keys.insert(key.clone(), slot),
        }
    }

    /// Checks that reads at `at` can be answered.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::Future`].
    pub fn check(&self, at: u64) -> Result<()> {
        if at < self.compacted {
            return Err(Error::Compacted {
                oldest: Revision(self.compacted),
            });
        }
        if at > self.revision {
            return Err(Error::Future {
                current: Revision(self.revision),
            });
        }
        Ok(())
    }

    /// Keys under `prefix` from `start` on, with their newest versions, tombstones included.
    pub fn range<'a>(&'a self, prefix: &'a str, start: &'a str) -> impl Iterator<Item = (&'a StoreKey, Slot)> {
        let from = if start > prefix { start } else { prefix };
        self.keys
            .range::<str, _>((Bound::Included(from), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, slot)| (key, *slot))
    }

    /// The last revision that changed something under `prefix`, as far as that has not been forgotten.
    pub fn last_change(&self, prefix: &str) -> u64 {
        let newest = self.range(prefix, "").map(|(_, slot)| slot.modified).max();
        newest.unwrap_or(0).max(self.compacted)
    }

    /// The newest versions of keys under `prefix` that can still be told from what they replaced.
    pub fn recent(&self, prefix: &str) -> Vec<u64> {
        let slots = self.range(prefix, "").map(|(_, slot)| slot.modified);
        slots.filter(|modified| *modified > self.compacted).collect()
    }

    /// Takes at most `limit` rows that nobody may read any more, for their owner to delete. An empty answer means
    /// that compaction is done.
    pub fn take_obsolete(&mut self, limit: usize) -> Vec<u64> {
        let compacted = self.compacted;
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(obsolete) = self.obsolete.pop_front_if(|obsolete| obsolete.by <= compacted)
        {
            rows.push(obsolete.row);
        }
        while let Some((revision, key)) = self.tombstones.pop_front_if(|(revision, _)| *revision <= compacted) {
            if self.slot(&key).is_some_and(|slot| slot.modified == revision) {
                self.keys.remove(&key);
            }
        }
        rows
    }
}

impl Index {
    /// Gives back what [`Index::take_obsolete`] took and nobody deleted.
    pub fn put_back(&mut self, rows: Vec<u64>) {
        let by = self.compacted;
        for row in rows.into_iter().rev() {
            self.obsolete.push_front(Obsolete { by, row });
        }
    }
}

/// The version of a key that was the newest at `at`, `None` where it had no value; `row` reads a row's `(before,
/// created)`, `None` once it has been compacted.
pub(crate) fn version_at<E>(
    slot: Slot,
    at: u64,
    mut row: impl FnMut(u64) -> Result<Option<(u64, u64)>, E>,
) -> Result<Option<u64>, E> {
    let Slot {
        mut modified,
        mut created,
    } = slot;
    while modified > at {
        // A version that has been compacted was overwritten at or before the compaction, which lies before `at`; what
        // overwrote it was a tombstone, compacted too.
        let Some((before, _)) = row(modified)? else {
            return Ok(None);
        };
        let Some((_, before_created)) = (if before > 0 { row(before)? } else { None }) else {
            return Ok(None);
        };
        (modified, created) = (before, before_created);
    }
    Ok((created != 0).then_some(modified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obsolete_rows_are_those_overwritten_up_to_the_compaction() {
        let mut index = Index::default();
        let (a, b): (StoreKey, StoreKey) = ("/x/a".into(), "/x/b".into());
        index.apply(&a, 2, 2, 0);
        index.apply(&b, 3, 3, 0);
        index.apply(&a, 4, 2, 2);
        index.apply(&b, 5, 0, 3);
        index.compacted = 4;
        assert_eq!(index.take_obsolete(10), [2]);
        assert_eq!(
            index.slot("/x/b"),
            Some(Slot {
                modified: 5,
                created: 0
            })
        );
        index.compacted = 5;
        assert_eq!(index.take_obsolete(1), [3]);
        assert_eq!(index.take_obsolete(10), [5]);
        assert_eq!(index.slot("/x/b"), None);
        assert_eq!(
            index.range("/x/", "").map(|(key, _)| &**key).collect::<Vec<_>>(),
            ["/x/a"]
        );
        assert_eq!(index.revision, 5);
    }
}
