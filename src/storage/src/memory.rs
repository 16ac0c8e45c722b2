//! [`Memory`]: a store that lives and dies with the process. For tests and throw-away servers.

use crate::feed::{Feed, History, lock};
use crate::index::{Index, Row, Slot, version_at};
use crate::store::{
    Batch, Change, Entry, Error, Expect, Past, Range, Result, Revision, Store, StoreKey, StoreObserver, Watch,
};
use bytes::Bytes;
use fairlead_api::Clock;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything in memory, history until it is compacted. Cheap to clone; clones share.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn StoreObserver>>,
}

#[derive(Default)]
struct State {
    index: Index,
    rows: BTreeMap<u64, Row>,
    /// What expires when, in unix seconds, and the revision it had then.
    expiring: BTreeSet<(u64, StoreKey, u64)>,
}

impl Memory {
    /// Values expire by `clock`, when an operation comes by or [`Memory::expire`] is called.
    pub fn new(clock: Arc<dyn Clock>) -> Memory {
        Memory::observed(clock, None)
    }

    pub fn observed(clock: Arc<dyn Clock>, observer: Option<Arc<dyn StoreObserver>>) -> Memory {
        Memory(Arc::new(Shared {
            state: Mutex::default(),
            feed: Arc::new(Feed::new(1)),
            clock,
            observer,
        }))
    }

    /// Deletes what has outlived its lifetime.
    pub fn expire(&self) {
        drop(self.state());
    }

    /// The state, with everything expired that should be.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        let mut state = lock(&self.0.state);
        if state.expiring.is_empty() {
            return state;
        }
        let now = unix_seconds(&*self.0.clock);
        while let Some((_, key, revision)) = state.expiring.pop_first_if_due(now) {
            if state
                .index
                .slot(&key)
                .is_some_and(|slot| slot.is_live() && slot.modified == revision)
            {
                self.write(&mut state, &key, None, 0);
            }
        }
        state
    }

    fn change(&self, key: &str, value: Option<Bytes>, expect: Expect, lifetime: Option<Duration>) -> Result<Revision> {
        let mut state = self.state();
        let slot = state.index.slot(key);
        if !Slot::allows(slot, expect) || (value.is_none() && expect == Expect::Absent) {
            let current = slot
                .filter(|slot| slot.is_live())
                .and_then(|slot| state.rows.get(&slot.modified));
            return Err(Error::Conflict {
                current: current.map(Row::entry),
            });
        }
        let expires = lifetime.map_or(0, |lifetime| expiry(&*self.0.clock, lifetime));
        let key = state.index.shared_key(key);
        Ok(Revision(self.write(&mut state, &key, value, expires)))
    }

    fn write(&self, state: &mut State, key: &StoreKey, value: Option<Bytes>, expires: u64) -> u64 {
        let revision = state.index.revision + 1;
        let slot = state.index.slot(key);
        let live = slot.filter(|slot| slot.is_live());
        let created = if value.is_none() {
            0
        } else {
            live.map_or(revision, |slot| slot.created)
        };
        let before = slot.map_or(0, |slot| slot.modified);
        let previous = if value.is_none() {
            state.rows.get(&before).map(Row::entry)
        } else {
            None
        };
        state.index.apply(key, revision, created, before);
        if expires > 0 {
            state.expiring.insert((expires, key.clone(), revision));
        }
        let row = Row {
            revision,
            key: key.clone(),
            created,
            before,
            expires,
            value: value.clone().unwrap_or_default(),
        };
        state.rows.insert(revision, row);
        let change = Change {
            revision: Revision(revision),
            key: key.clone(),
            value,
            previous,
        };
        self.0.feed.publish(&[change], revision).wake();
        revision
    }

    fn read(&self, prefix: &str, start: &str, limit: usize, at: Option<Revision>) -> Result<Range> {
        let state = self.state();
        let revision = at.map_or(state.index.revision, |at| at.0);
        state.index.check(revision)?;
        let mut range = Range {
            revision: Revision(revision),
            ..Range::default()
        };
        for (_, slot) in state.index.range(prefix, start) {
            let Ok(version) = version_at(slot, revision, |row| {
                Ok::<_, std::convert::Infallible>(state.rows.get(&row).map(|row| (row.before, row.created)))
            });
            let Some(row) = version.and_then(|version| state.rows.get(&version)) else {
                continue;
            };
            if range.entries.len() == limit {
                range.more = true;
                break;
            }
            range.entries.push(row.entry());
        }
        Ok(range)
    }
}

impl Store for Memory {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>> {
        let state = self.state();
        let live = state.index.slot(key).filter(|slot| slot.is_live());
        let entry = live.and_then(|slot| state.rows.get(&slot.modified)).map(Row::entry);
        Box::pin(ready(Ok((entry, Revision(state.index.revision)))))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>> {
        Box::pin(ready(self.read(prefix, start, limit, at)))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(async move { self.change(key, Some(value), expect, lifetime) })
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(async move { self.change(key, None, expect, None) })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        let compacted = lock(&self.0.state).index.compacted;
        if after.0 < compacted {
            return Box::pin(ready(Err(Error::Compacted {
                oldest: Revision(compacted),
            })));
        }
        let watch: Box<dyn Watch> = Box::new(self.0.feed.watch(prefix, after.0, self.0.clone()));
        Box::pin(ready(Ok(watch)))
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        Box::pin(ready(Ok(Revision(self.0.feed.revision()))))
    }

    fn last_change(&self, prefix: &str) -> Option<Revision> {
        Some(Revision(lock(&self.0.state).index.last_change(prefix)))
    }

    fn past<'a>(&'a self, prefix: &'a str, to: Revision, bytes: usize) -> BoxFuture<'a, Result<Option<Past>>> {
        let state = lock(&self.0.state);
        let newest = state.index.recent(prefix);
        let read = |row| Ok(state.rows.get(&row).cloned());
        let past = crate::past::walk(newest, state.index.compacted, to.0, bytes, read);
        Box::pin(ready(past.map(Some)))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        let mut state = self.state();
        if revision.0 > state.index.revision {
            return Box::pin(ready(Err(Error::Future {
                current: Revision(state.index.revision),
            })));
        }
        state.index.compacted = state.index.compacted.max(revision.0);
        for row in state.index.take_obsolete(usize::MAX) {
            state.rows.remove(&row);
        }
        Box::pin(ready(Ok(())))
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    fn observer(&self) -> Option<&dyn StoreObserver> {
        self.0.observer.as_deref()
    }
}

impl History for Shared {
    fn changes(self: Arc<Self>, prefix: &str, after: u64, to: u64) -> BoxFuture<'static, Result<Batch>> {
        let state = lock(&self.state);
        if after < state.index.compacted {
            return Box::pin(ready(Err(Error::Compacted {
                oldest: Revision(state.index.compacted),
            })));
        }
        let rows = state.rows.range(after + 1..=to).map(|(_, row)| row);
        let changes = rows
            .filter(|row| row.key.starts_with(prefix))
            .map(|row| state.change(row))
            .collect();
        Box::pin(ready(Ok(Batch {
            changes,
            revision: Revision(to),
        })))
    }
}

impl State {
    fn change(&self, row: &Row) -> Change {
        let (value, previous) = match row.is_tombstone() {
            true => (None, self.rows.get(&row.before).map(Row::entry)),
            false => (Some(row.value.clone()), None),
        };
        Change {
            revision: Revision(row.revision),
            key: row.key.clone(),
            value,
            previous,
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("revision", &self.0.feed.revision())
            .finish_non_exhaustive()
    }
}

/// When something written now expires: the first whole second by which its lifetime has passed.
pub(crate) fn expiry(clock: &dyn Clock, lifetime: Duration) -> u64 {
    let nanos = clock.now().0 + i128::try_from(lifetime.as_nanos()).unwrap_or(i128::MAX / 2);
    u64::try_from((nanos + 999_999_999).div_euclid(1_000_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

pub(crate) fn unix_seconds(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().unix_seconds()).unwrap_or(0)
}

/// What expires when.
pub(crate) trait Expiring {
    /// Takes one that is due at `now`.
    fn pop_first_if_due(&mut self, now: u64) -> Option<(u64, StoreKey, u64)>;
}

impl Expiring for BTreeSet<(u64, StoreKey, u64)> {
    fn pop_first_if_due(&mut self, now: u64) -> Option<(u64, StoreKey, u64)> {
        if self.first()?.0 > now {
            return None;
        }
        self.pop_first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Bench, suite};
    use crate::testing::HandClock;

    async fn bench() -> Option<Bench> {
        let clock = HandClock::at(1_000);
        let store = Memory::new(clock.clone());
        let (expiring, again) = (store.clone(), store.clone());
        Some(Bench {
            store: Arc::new(store),
            lifetime: Duration::from_secs(60),
            pass: Arc::new(move |time| {
                clock.advance(time.as_secs().cast_signed());
                expiring.expire();
                Box::pin(ready(()))
            }),
            restart: Arc::new(move || {
                let again: Arc<dyn Store> = Arc::new(again.clone());
                Box::pin(ready(again))
            }),
            _keep: Box::new(()),
        })
    }

    suite!(conformance, bench);

    /// The same every time: a seed that fails can be followed step by step.
    #[test]
    fn random_concurrent_histories_in_jumping_time() {
        use crate::suite::faulty::Faults;
        use crate::suite::random::{Through, Time, check};
        check(bench, Through::Store, Faults::HARSH, Time::Jumping, 60);
        check(bench, Through::Caches, Faults::HARSH, Time::Jumping, 40);
        check(bench, Through::Caches, Faults::REMOTE, Time::Jumping, 40);
    }
}
