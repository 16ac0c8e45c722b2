//! Random histories: what a store answers is compared with a model that keeps every state.

use super::{Bench, until};
use crate::store::{Change, Entry, Error, Expect, Revision, Store, Watch};
use crate::testing::bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One step. Numbers are folded into what makes sense at that moment.
#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, expect: Guess },
    Delete { key: u8, expect: Guess },
    Read { at: u8, from: u8, limit: u8 },
    Watch { after: u8 },
    Compact { at: u8 },
}

#[derive(Clone, Copy, Debug)]
enum Guess {
    Absent,
    Right,
    Stale,
}

type State = BTreeMap<String, Entry>;

struct Model {
    /// The revision it begins at.
    base: u64,
    /// By revision, the first is the base's.
    states: Vec<State>,
    changes: Vec<Change>,
    compacted: u64,
}

/// `make` makes a store of its own for each history.
pub fn check<F: Future<Output = Option<Bench>>>(make: impl Fn() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: 12,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&proptest::collection::vec(step(), 1..120), |steps| {
        runtime.block_on(async {
            if let Some(bench) = make().await {
                play(bench, steps).await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

fn step() -> impl Strategy<Value = Step> {
    let guess = || prop_oneof![2 => Just(Guess::Absent), 4 => Just(Guess::Right), 1 => Just(Guess::Stale)];
    prop_oneof![
        8 => (0..6u8, guess()).prop_map(|(key, expect)| Step::Put { key, expect }),
        4 => (0..6u8, guess()).prop_map(|(key, expect)| Step::Delete { key, expect }),
        4 => any::<(u8, u8, u8)>().prop_map(|(at, from, limit)| Step::Read { at, from, limit }),
        1 => any::<u8>().prop_map(|after| Step::Watch { after }),
        1 => any::<u8>().prop_map(|at| Step::Compact { at }),
    ]
}

async fn play(bench: Bench, steps: Vec<Step>) {
    let store = bench.store.clone();
    let base = store.revision().await.unwrap().0;
    let mut model = Model {
        base,
        states: vec![State::new()],
        changes: Vec::new(),
        compacted: 0,
    };
    let mut watches: Vec<(u64, Box<dyn Watch>)> = Vec::new();
    for step in steps {
        match step {
            Step::Put { key, expect } => model.write(&store, key, expect, true).await,
            Step::Delete { key, expect } => model.write(&store, key, expect, false).await,
            Step::Read { at, from, limit } => model.read(&store, at, from, limit).await,
            Step::Watch { after } => {
                let after = model.fold(after);
                match store.watch("/k/", Revision(after)).await {
                    Ok(mut watch) if after < model.compacted => {
                        model.was_compacted(watch.next().await.unwrap_err(), after);
                    }
                    Ok(watch) => watches.push((after, watch)),
                    Err(error) => model.was_compacted(error, after),
                }
            }
            Step::Compact { at } => {
                let at = model.fold(at);
                // A watch may still have to read what compaction takes.
                for (after, watch) in &mut watches {
                    model.drain(after, watch).await;
                }
                store.compact(Revision(at)).await.unwrap();
                model.compacted = model.compacted.max(at);
            }
        }
        assert_eq!(store.revision().await.unwrap().0, model.revision());
    }
    for (after, watch) in &mut watches {
        model.drain(after, watch).await;
    }
}

impl Model {
    fn revision(&self) -> u64 {
        self.base + self.states.len() as u64 - 1
    }

    fn fold(&self, number: u8) -> u64 {
        self.base + u64::from(number) % self.states.len() as u64
    }

    fn was_compacted(&self, error: Error, at: u64) {
        let told = matches!(error, Error::Compacted { oldest } if at < oldest.0 && oldest.0 <= self.compacted);
        assert!(told, "{error:?} at {at} after a compaction at {}", self.compacted);
    }

    async fn write(&mut self, store: &Arc<dyn Store>, key: u8, guess: Guess, put: bool) {
        let key = format!("/k/{key}");
        let mut state = self.states.last().unwrap().clone();
        let current = state.get(&key).cloned();
        let modified = current.as_ref().map_or(Revision(self.base), |entry| entry.mod_revision);
        let expect = match guess {
            Guess::Absent => Expect::Absent,
            Guess::Right => Expect::Unchanged(modified),
            Guess::Stale => Expect::Unchanged(Revision(modified.0 - 1)),
        };
        let holds = match guess {
            Guess::Absent => put && current.is_none(),
            Guess::Right => current.is_some(),
            Guess::Stale => false,
        };
        let revision = Revision(self.revision() + 1);
        let value = bytes(&format!("value {}", revision.0));
        let result = match put {
            true => store.put(&key, value.clone(), expect, None).await,
            false => store.delete(&key, expect).await,
        };
        if !holds {
            assert_eq!(result, Err(Error::Conflict { current }));
            return;
        }
        assert_eq!(result, Ok(revision));
        let mut change = Change {
            revision,
            key: key.as_str().into(),
            value: None,
            previous: None,
        };
        if put {
            let create_revision = current.map_or(revision, |entry| entry.create_revision);
            let entry = Entry {
                key: key.as_str().into(),
                value: value.clone(),
                create_revision,
                mod_revision: revision,
            };
            state.insert(key, entry);
            change.value = Some(value);
        } else {
            change.previous = state.remove(&key);
        }
        self.states.push(state);
        self.changes.push(change);
    }

    async fn read(&self, store: &Arc<dyn Store>, at: u8, from: u8, limit: u8) {
        let at = self.fold(at);
        let start = format!("/k/{}", from % 7);
        let limit = usize::from(limit % 4) + 1;
        let result = store.range("/k/", &start, limit, Some(Revision(at))).await;
        if at < self.compacted {
            return self.was_compacted(result.unwrap_err(), at);
        }
        let range = result.unwrap();
        let mut expected: Vec<Entry> = self.states[(at - self.base) as usize]
            .range(start..)
            .map(|(_, entry)| entry.clone())
            .collect();
        assert_eq!(range.more, expected.len() > limit);
        expected.truncate(limit);
        assert_eq!((range.entries, range.revision), (expected, Revision(at)));
    }

    async fn drain(&self, after: &mut u64, watch: &mut Box<dyn Watch>) {
        let batch = until(watch, Revision(*after), Revision(self.revision())).await;
        let expected: Vec<_> = self
            .changes
            .iter()
            .filter(|change| change.revision.0 > *after)
            .cloned()
            .collect();
        assert_eq!(batch.changes, expected);
        *after = self.revision();
    }
}
