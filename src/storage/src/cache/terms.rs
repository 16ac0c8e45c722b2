//! [`Terms`]: which objects have a label or a field of some value, for lists whose selectors keep asking.
//!
//! An index is made when a selector has gone through many objects for few more than once. It is kept up as changes are
//! applied, before they are published, and knows of values that are gone for as long as the ring goes back: so it has
//! at least the objects of every state from `since` on, and who asks looks at each object itself.
// PERFORMANCE: per-request path

use crate::cache::ring::Event;
use crate::cache::{Cache, Snapshot, read, write};
use crate::cached::Cached;
use crate::feed::lock;
use compact_str::CompactString;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What objects can be looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    Label(CompactString),
    /// A selectable field.
    Field(CompactString),
}

/// Indexes of one cache. Each costs about 60 bytes an object.
#[derive(Debug, Default)]
pub(super) struct Terms {
    indexes: Vec<Index>,
    /// Terms that were asked for and have no index yet, and how often.
    wanted: VecDeque<(Term, u32)>,
    /// Counts questions, to tell which index has not been used for longest.
    asked: AtomicU64,
}

#[derive(Debug)]
struct Index {
    term: Term,
    /// States before this revision are not covered.
    since: u64,
    /// By value and key: until which revision; [`NOW`] while it lasts.
    entries: BTreeMap<(CompactString, Arc<str>), u64>,
    /// What ended when, oldest first.
    ended: VecDeque<(u64, (CompactString, Arc<str>))>,
    used: AtomicU64,
}

/// What an index says.
enum Found {
    Objects(Vec<Arc<Cached>>),
    /// So many, or in a state so old, that going through all is no worse.
    TooMany,
    NoIndex,
}

const NOW: u64 = u64::MAX;
/// Indexes of one cache.
const INDEXES: usize = 8;
/// How often a term is asked for before it gets one.
const ENOUGH: u32 = 2;
/// Below this many objects looking at all of them is as good.
const MANY: usize = 256;
/// An index is used where it leaves out all but one in this many.
const FEW: usize = 4;

impl Term {
    fn value<'a>(&self, object: &'a Cached) -> Option<&'a str> {
        match self {
            Term::Label(key) => object.header.labels.get(key),
            Term::Field(name) => Some(object.field(name)),
        }
    }
}

/// As metrics name it.
impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Term::Label(key) => write!(f, "l:{key}"),
            Term::Field(name) => write!(f, "f:{name}"),
        }
    }
}

impl Cache {
    /// The objects of a state whose `term` has `value` and whose keys begin with `prefix`, from `start` on, in key
    /// order; `None` where going through all of them is no worse, or nothing is known that is quicker.
    pub fn select(
        &self,
        snapshot: &Snapshot,
        term: &Term,
        value: &str,
        prefix: &str,
        start: &str,
    ) -> Option<Vec<Arc<Cached>>> {
        let all = snapshot.count(prefix);
        if all < MANY {
            return None;
        }
        match read(&self.0.terms).select(snapshot, term, value, (prefix, start), all / FEW) {
            Found::Objects(objects) => return Some(objects),
            Found::TooMany => return None,
            Found::NoIndex => {}
        }
        if write(&self.0.terms).want(term) {
            self.index(term);
        }
        None
    }

    /// Makes an index of the latest state. Nothing is applied meanwhile.
    fn index(&self, term: &Term) {
        let _feed = lock(&self.0.feed);
        let index = Index::of(term, &self.latest());
        write(&self.0.terms).add(index);
    }
}

impl Terms {
    fn select(
        &self,
        snapshot: &Snapshot,
        term: &Term,
        value: &str,
        (prefix, start): (&str, &str),
        limit: usize,
    ) -> Found {
        let Some(index) = self.indexes.iter().find(|index| index.term == *term) else {
            return Found::NoIndex;
        };
        index
            .used
            .store(self.asked.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if snapshot.revision.0 < index.since {
            return Found::TooMany;
        }
        let from = (
            CompactString::from(value),
            Arc::<str>::from(if start > prefix { start } else { prefix }),
        );
        let mut objects = Vec::new();
        for (seen, ((found, key), _)) in index.entries.range(from..).enumerate() {
            if found.as_str() != value || !key.starts_with(prefix) {
                break;
            }
            if seen > limit {
                return Found::TooMany;
            }
            let object = snapshot.get(key).filter(|object| term.value(object) == Some(value));
            objects.extend(object.cloned());
        }
        Found::Objects(objects)
    }

    /// Whether an index should be made now.
    fn want(&mut self, term: &Term) -> bool {
        if self.indexes.iter().any(|index| index.term == *term) {
            return false;
        }
        if let Some((_, count)) = self.wanted.iter_mut().find(|(wanted, _)| wanted == term) {
            *count += 1;
            return *count == ENOUGH;
        }
        if self.wanted.len() == INDEXES {
            self.wanted.pop_front();
        }
        self.wanted.push_back((term.clone(), 1));
        false
    }

    fn add(&mut self, index: Index) {
        self.wanted.retain(|(wanted, _)| *wanted != index.term);
        self.indexes.retain(|known| known.term != index.term);
        if self.indexes.len() == INDEXES {
            let used = |index: &Index| index.used.load(Ordering::Relaxed);
            let oldest = (0..INDEXES).min_by_key(|at| used(&self.indexes[*at]));
            self.indexes.swap_remove(oldest.unwrap_or(0));
        }
        index
            .used
            .store(self.asked.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.indexes.push(index);
    }

    pub fn is_empty(&self) -> bool {
        self.indexes.is_empty()
    }

    /// Takes changes in, in order, and forgets what ended at or before `floor`.
    pub fn apply(&mut self, events: &[Event], floor: u64) {
        for index in &mut self.indexes {
            events.iter().for_each(|event| index.apply(event));
            index.forget(floor);
        }
    }

    /// Forgets everything: the state does not come from changes.
    pub fn clear(&mut self) {
        self.indexes.clear();
    }
}

impl Index {
    fn of(term: &Term, snapshot: &Snapshot) -> Index {
        let entry = |object: &Arc<Cached>| Some(((term.value(object)?.into(), object.key.clone()), NOW));
        Index {
            term: term.clone(),
            since: snapshot.revision.0,
            entries: snapshot.range("", "").filter_map(entry).collect(),
            ended: VecDeque::new(),
            used: AtomicU64::new(0),
        }
    }

    fn apply(&mut self, event: &Event) {
        let key = &event.object.key;
        let before = event.previous.as_ref().and_then(|previous| self.term.value(previous));
        let now = self.term.value(&event.object).filter(|_| !event.deleted);
        if before == now {
            return;
        }
        if let Some(before) = before {
            let entry = (CompactString::from(before), key.clone());
            self.ended.push_back((event.revision, entry.clone()));
            self.entries.insert(entry, event.revision);
        }
        if let Some(now) = now {
            self.entries.insert((now.into(), key.clone()), NOW);
        }
    }

    fn forget(&mut self, floor: u64) {
        self.since = self.since.max(floor);
        while let Some((revision, entry)) = self.ended.pop_front_if(|(revision, _)| *revision <= floor) {
            // It may have come back since.
            if self.entries.get(&entry) == Some(&revision) {
                self.entries.remove(&entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tree::Tree;
    use crate::cached::{Forms, Header, Json};
    use crate::store::Revision;
    use proptest::prelude::*;

    fn object(key: &str, revision: u64, value: u8) -> Arc<Cached> {
        let labels = (value > 0).then(|| ("l", value.to_string()));
        Arc::new(Cached {
            key: key.into(),
            revision: Revision(revision),
            json: Json::default(),
            header: Header {
                labels: labels.into_iter().collect(),
                ..Header::default()
            },
            forms: Forms::default(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn every_state_it_covers_is_found_in_it(
            changes in proptest::collection::vec((0u8..12, 0u8..5), 1..150), made in 0usize..50, lag in 1u64..40
        ) {
            let term = Term::Label("l".into());
            let (mut tree, mut terms, mut states) = (Tree::default(), Terms::default(), Vec::new());
            for (at, (key, value)) in changes.iter().enumerate() {
                if at == made {
                    terms.add(Index::of(&term, &Snapshot { revision: Revision(at as u64), tree: tree.clone() }));
                }
                let (revision, key) = (at as u64 + 1, format!("{}/{key}", key % 2));
                // 4 deletes, 0 has no label.
                let object = object(&key, revision, *value);
                let previous = if *value == 4 { tree.remove(&key) } else { tree.insert(object.clone()) };
                if *value != 4 || previous.is_some() {
                    let event = Event { revision, object, previous, deleted: *value == 4 };
                    terms.apply(&[event], revision.saturating_sub(lag));
                }
                states.push(Snapshot { revision: Revision(revision), tree: tree.clone() });
            }
            let last = changes.len() as u64;
            for state in &states {
                for (value, (prefix, start)) in ["1", "2", "3"].into_iter().zip([("", ""), ("1/", ""), ("0/", "0/4")]) {
                    let found = match terms.select(state, &term, value, (prefix, start), 99) {
                        Found::Objects(found) => found,
                        Found::NoIndex => continue,
                        Found::TooMany => {
                            prop_assert!(state.revision.0 < made as u64 || state.revision.0 + lag < last);
                            continue;
                        }
                    };
                    let wanted: Vec<_> = state.range(prefix, start)
                        .filter(|object| term.value(object) == Some(value))
                        .map(|object| object.key.clone()).collect();
                    prop_assert_eq!(found.iter().map(|object| object.key.clone()).collect::<Vec<_>>(), wanted);
                }
            }
        }
    }
}
