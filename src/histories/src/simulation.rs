//! Histories of a store that keeps its promises, and what becomes of them when one thing in them is changed: the
//! checkers must accept the former and reject the latter.

use crate::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a client does next: an operation on a key, and where between call and return it takes effect.
#[derive(Clone, Debug)]
struct Act {
    client: usize,
    kind: u8,
    key: u8,
    /// Of a write: whether its client is told.
    told: bool,
    lasts: (u64, u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = (
        0..4usize,
        0..10u8,
        0..3u8,
        prop::bool::weighted(0.85),
        (1..6u64, 1..6u64),
    )
        .prop_map(|(client, kind, key, told, lasts)| Act {
            client,
            kind,
            key,
            told,
            lasts,
        });
    prop::collection::vec(act, 10..60)
}

/// Plays acts against a store in one variable. Moments are multiples of 10 so that mutations find room between them.
fn play(acts: &[Act]) -> History {
    let mut pending: Vec<(u64, usize, u64, u64)> = Vec::new();
    let mut free = [0u64; 4];
    for (at, act) in acts.iter().enumerate() {
        let invoked = free[act.client] + 1;
        let effect = invoked + act.lasts.0;
        let returned = effect + act.lasts.1;
        free[act.client] = returned + 1;
        pending.push((
            effect * 100 + at as u64,
            at,
            invoked * 100 + at as u64,
            returned * 100 + at as u64,
        ));
    }
    pending.sort_unstable();
    let mut history = History {
        base: 1,
        ..History::default()
    };
    let mut state: BTreeMap<Arc<str>, Held> = BTreeMap::new();
    let mut revision: u64 = 1;
    let mut seen: Vec<(Moment, Seen)> = Vec::new();
    for (effect, at, invoked, returned) in pending {
        let act = &acts[at];
        let key: Arc<str> = format!("/k/{}", act.key).into();
        let current = state.get(&key).cloned();
        let right = current
            .as_ref()
            .map_or(Expect::Absent, |held| Expect::Unchanged(held.modified));
        let expect = match act.kind {
            5 => Expect::Unchanged(revision.saturating_sub(1)),
            6 => Expect::Absent,
            _ => right,
        };
        let holds = expect.holds(current.as_ref().map(|held| held.modified));
        let value: Arc<str> = format!("v{at}").into();
        let (call, outcome) = match act.kind {
            0 | 1 => (
                Call::Get,
                Outcome::Read {
                    held: current,
                    revision,
                },
            ),
            2 => {
                history.snapshots.push(Snapshot {
                    prefix: "/k/".into(),
                    start: "".into(),
                    held: state.values().cloned().collect(),
                    more: false,
                    revision,
                    fresh: true,
                    invoked,
                    returned,
                });
                continue;
            }
            kind => {
                let call = match (kind, &current) {
                    (7 | 8, Some(_)) => Call::Delete { expect },
                    _ => Call::Put {
                        value: value.clone(),
                        expect,
                    },
                };
                if !holds {
                    (call, Outcome::Conflict { current })
                } else {
                    revision += 1;
                    let change = Change {
                        revision,
                        key: key.clone(),
                        value: matches!(call, Call::Put { .. }).then_some(value),
                    };
                    match &change.value {
                        None => _ = state.remove(&key),
                        Some(value) => {
                            let created = current.map_or(Some(revision), |held| held.created);
                            let held = Held {
                                key: key.clone(),
                                value: value.clone(),
                                modified: revision,
                                created,
                            };
                            state.insert(key.clone(), held);
                        }
                    }
                    seen.push((effect + 1, Seen::Change(change.clone())));
                    if revision.is_multiple_of(5) {
                        seen.push((effect + 1, Seen::Progress(revision)));
                    }
                    history.log.push(change);
                    let outcome = if act.told {
                        Outcome::Written { revision }
                    } else {
                        Outcome::Unknown
                    };
                    (call, outcome)
                }
            }
        };
        let returned = if outcome == Outcome::Unknown { FOREVER } else { returned };
        history.operations.push(Operation {
            key,
            call,
            outcome,
            invoked,
            returned,
        });
    }
    for scope in [Scope::Prefix("/k/".into()), Scope::Key("/k/1".into())] {
        let wanted = |seen: &Seen| match seen {
            Seen::Change(change) => scope.has(&change.key),
            Seen::Progress(_) => true,
        };
        let seen = seen.iter().filter(|(_, seen)| wanted(seen)).cloned().collect();
        history.watches.push(Watched { scope, after: 1, seen });
    }
    history
}

/// Ways to break a history. Each answers whether it found something to break.
const MUTATIONS: &[(&str, fn(&mut History, usize) -> bool)] = &[
    ("an acknowledged write is lost", |history, at| {
        let Some(revision) = nth(written(history), at) else {
            return false;
        };
        history.log.retain(|change| change.revision != revision);
        for watched in &mut history.watches {
            watched
                .seen
                .retain(|(_, seen)| !matches!(seen, Seen::Change(change) if change.revision == revision));
        }
        true
    }),
    ("two writes get one revision", |history, at| {
        let revisions: Vec<u64> = written(history).collect();
        let Some(pair) = nth(revisions.windows(2).map(<[u64]>::to_vec), at) else {
            return false;
        };
        for operation in &mut history.operations {
            if operation.outcome == (Outcome::Written { revision: pair[1] }) {
                operation.outcome = Outcome::Written { revision: pair[0] };
            }
        }
        true
    }),
    ("a refused write is in the log", |history, at| {
        let Some(revision) = nth(written(history), at) else {
            return false;
        };
        for operation in &mut history.operations {
            if operation.outcome == (Outcome::Written { revision }) {
                operation.outcome = Outcome::Refused;
            }
        }
        true
    }),
    ("a read is from the past", |history, at| {
        let base = history.base;
        let log = history.log.clone();
        let late = history.operations.iter_mut().filter(|operation| {
            let Outcome::Read { revision, .. } = operation.outcome else {
                return false;
            };
            // Something was acknowledged long before it.
            revision > base
        });
        let Some(read) = nth(late, at) else { return false };
        read.outcome = Outcome::Read {
            held: None,
            revision: base,
        };
        // Only wrong if somebody had seen more before it was called.
        read.invoked = FOREVER - 2;
        read.returned = FOREVER - 1;
        log.iter().any(|change| change.revision > base)
    }),
    ("a read has another value than the log", |history, at| {
        let reads = history
            .operations
            .iter_mut()
            .filter_map(|operation| match &mut operation.outcome {
                Outcome::Read { held, .. } => Some(held),
                _ => None,
            });
        let Some(held) = nth(reads, at) else { return false };
        match held {
            Some(_) => *held = None,
            None => {
                *held = Some(Held {
                    key: "/k/0".into(),
                    value: "never".into(),
                    modified: 2,
                    created: Some(2),
                });
            }
        }
        true
    }),
    ("a list lacks something", |history, at| {
        let Some(snapshot) = nth(history.snapshots.iter_mut().filter(|s| !s.held.is_empty()), at) else {
            return false;
        };
        snapshot.held.remove(at % snapshot.held.len());
        true
    }),
    ("a conflict tells nonsense", |history, at| {
        let conflicts = history
            .operations
            .iter_mut()
            .filter_map(|operation| match &mut operation.outcome {
                Outcome::Conflict { current: Some(current) } => Some(current),
                _ => None,
            });
        let Some(current) = nth(conflicts, at) else {
            return false;
        };
        current.modified += 1;
        true
    }),
    ("a watch has a gap", |history, at| {
        edit_watch(history, at, |seen, at| _ = seen.remove(at))
    }),
    ("a watch has a duplicate", |history, at| {
        edit_watch(history, at, |seen, at| seen.insert(at, seen[at].clone()))
    }),
    ("a watch is out of order", |history, at| {
        edit_watch(history, at, |seen, at| {
            let (a, b) = (at, (at + 1).min(seen.len() - 1));
            seen.swap(a, b);
            if a == b {
                let again = seen[a].clone();
                seen.push(again);
            }
        })
    }),
    ("a watch delivers another value", |history, at| {
        edit_watch(history, at, |seen, at| {
            if let Seen::Change(change) = &mut seen[at].1 {
                change.value = Some("another".into());
            }
        })
    }),
    ("progress is ahead of delivery", |history, at| {
        edit_watch(history, at, |seen, at| {
            let Seen::Change(change) = &seen[at].1 else { return };
            let early = (seen[at].0, Seen::Progress(change.revision));
            seen.insert(at, early);
        })
    }),
    ("progress is ahead of the store", |history, at| {
        let Some(first) = nth(history.log.iter().cloned(), at) else {
            return false;
        };
        // Told at the very beginning, when nothing had been written.
        let seen = vec![(0, Seen::Progress(first.revision))];
        let scope = Scope::Prefix("/nothing/".into());
        history.watches.push(Watched { scope, after: 1, seen });
        true
    }),
    ("a write required something else", |history, at| {
        let writes = history
            .operations
            .iter_mut()
            .filter(|o| matches!(o.outcome, Outcome::Written { .. }));
        let Some(write) = nth(writes, at) else { return false };
        let (Call::Put { expect, .. } | Call::Delete { expect }) = &mut write.call else {
            return false;
        };
        *expect = Expect::Unchanged(1);
        true
    }),
];

fn written(history: &History) -> impl Iterator<Item = u64> + Clone + '_ {
    history
        .operations
        .iter()
        .filter_map(|operation| match operation.outcome {
            Outcome::Written { revision } => Some(revision),
            _ => None,
        })
}

fn nth<T>(items: impl Iterator<Item = T>, at: usize) -> Option<T> {
    let mut items: Vec<T> = items.collect();
    let count = items.len();
    (count > 0).then(|| items.swap_remove(at % count))
}

/// Changes what a watch saw at one of its changes, and makes sure that it goes on far enough to be told.
fn edit_watch(history: &mut History, at: usize, edit: fn(&mut Vec<(Moment, Seen)>, usize)) -> bool {
    let end = history.log.last().map_or(history.base, |change| change.revision);
    let watched = &mut history.watches[0];
    let changes: Vec<usize> = (0..watched.seen.len())
        .filter(|at| matches!(watched.seen[*at].1, Seen::Change(_)))
        .collect();
    let Some(at) = nth(changes.into_iter(), at) else {
        return false;
    };
    edit(&mut watched.seen, at);
    watched.seen.push((FOREVER - 1, Seen::Progress(end)));
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn good_histories_are_accepted(acts in acts()) {
        let history = play(&acts);
        prop_assert_eq!(history.check(), Ok(()));
    }

    #[test]
    fn bad_histories_are_rejected(acts in acts(), at in 0..1000usize) {
        let good = play(&acts);
        for (what, mutate) in MUTATIONS {
            let mut history = good.clone();
            if mutate(&mut history, at) {
                prop_assert!(history.check().is_err(), "not noticed: {}", what);
            }
        }
    }

    /// Without the revisions of reads the search alone must notice.
    #[test]
    fn the_search_finds_what_has_no_order(acts in acts(), at in 0..1000usize) {
        let history = play(&acts);
        let mut operations = history.operations;
        prop_assert_eq!(linear::check(&operations, &[], &history.log), Ok(()));
        let puts: Vec<Held> = history.log.iter().filter_map(|change| Some(Held {
            key: change.key.clone(), value: change.value.clone()?, modified: change.revision, created: None,
        })).collect();
        // A read after everything of a value that was replaced or deleted, by a write that was acknowledged.
        let replaced = puts.iter().filter(|held| history.log.iter().any(|later| {
            later.key == held.key && later.revision > held.modified && operations.iter().any(|operation| {
                operation.outcome == (Outcome::Written { revision: later.revision })
            })
        }));
        if let Some(held) = nth(replaced, at) {
            operations.push(Operation {
                key: held.key.clone(),
                call: Call::Get,
                outcome: Outcome::Read { held: Some(held.clone()), revision: 0 },
                invoked: FOREVER - 2,
                returned: FOREVER - 1,
            });
            prop_assert!(linear::check(&operations, &[], &history.log).is_err());
        }
    }
}
