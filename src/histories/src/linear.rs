//! Is a history linearizable? For each key, a search for an order of its operations that agrees with real time and
//! explains every answer.
//!
//! The search is Wing and Gong's with the memory of Lowe ("Testing for linearizability", 2017): operations are tried in
//! the order of their calls; a set of operations with the state they lead to is never tried twice. Operations whose
//! outcome nobody knows may take effect at any time after their call, or never. Keys are independent of each other:
//! that all of them have one order of revisions is for [`crate::order`] to check. The log only tells which revision a
//! put got whose client never learnt it.

use crate::{Call, Change, Expect, FOREVER, Held, Moment, Operation, Outcome, Snapshot, Verdict, Violation, violation};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// How much is tried for one key before the checker gives up, which is a failure of the test, not of the store.
const PATIENCE: usize = 5_000_000;

/// Checks every key. Fresh snapshots count as reads of each key they tell of.
///
/// # Errors
/// The first key whose operations have no such order.
pub fn check(operations: &[Operation], snapshots: &[Snapshot], log: &[Change]) -> Verdict {
    let mut keys: BTreeMap<&str, Vec<Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation.clone());
    }
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.fresh) {
        for (key, operations) in &mut keys {
            operations.extend(read_of(snapshot, key));
        }
    }
    let mut logged: HashMap<&str, Vec<&Change>> = HashMap::new();
    for change in log {
        logged.entry(&change.key).or_default().push(change);
    }
    keys.into_iter().try_for_each(|(key, operations)| {
        let logged = logged.remove(key).unwrap_or_default();
        check_key(key, operations, &logged)
    })
}

/// What a snapshot tells of a key; nothing where a limit may have cut the key off.
fn read_of(snapshot: &Snapshot, key: &str) -> Option<Operation> {
    let asked = key.starts_with(&*snapshot.prefix) && key >= &*snapshot.start;
    let told = !snapshot.more || snapshot.held.last().is_some_and(|last| key <= &*last.key);
    (asked && told).then(|| Operation {
        key: key.into(),
        call: Call::Get,
        outcome: Outcome::Read {
            held: snapshot.held.iter().find(|held| &*held.key == key).cloned(),
            revision: snapshot.revision,
        },
        invoked: snapshot.invoked,
        returned: snapshot.returned,
    })
}

fn check_key(key: &str, mut operations: Vec<Operation>, log: &[&Change]) -> Verdict {
    operations.retain(|operation| operation.outcome != Outcome::Refused);
    operations.sort_by_key(|operation| operation.invoked);
    let writes = Writes::new(key, &operations, log)?;
    let steps = operations.iter().map(|operation| writes.step(operation));
    let steps: Vec<Step> = steps.collect::<Result<_, _>>()?;
    match search(&operations, &steps, &writes.revisions) {
        Found::Order => Ok(()),
        Found::Nothing(deepest) => violation(format!(
            "{key} is not linearizable; nothing explains {:?}",
            operations[deepest]
        )),
        Found::TooMuch => violation(format!("{key}: undecided after {PATIENCE} steps")),
    }
}

// === the register ===

/// The state of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The put that wrote its value, and the put that began this life of it. `None` without a value.
    held: Option<(usize, usize)>,
    /// The highest revision so far, of those that are known.
    last: u64,
}

/// What the history as a whole tells about its puts.
struct Writes {
    by_value: HashMap<Arc<str>, usize>,
    /// By operation, of writes. `None` where nobody ever learnt it: no later write can require it then.
    revisions: Vec<Option<u64>>,
}

/// An operation with its values resolved to the puts that wrote them.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The key had the value of this put, created by a put with this revision where that is known.
    Reads(Option<(usize, Option<u64>)>),
    Puts(Expect),
    Deletes(Expect),
    /// Refused: `expect` did not hold. A delete that expects nothing never holds.
    Conflicts {
        expect: Expect,
        delete: bool,
        current: Option<(usize, Option<u64>)>,
    },
}

impl Writes {
    fn new(key: &str, operations: &[Operation], log: &[&Change]) -> Result<Writes, Violation> {
        let mut writes = Writes {
            by_value: HashMap::new(),
            revisions: vec![None; operations.len()],
        };
        for (at, operation) in operations.iter().enumerate() {
            if let Call::Put { value, .. } = &operation.call
                && writes.by_value.insert(value.clone(), at).is_some()
            {
                return violation(format!("{key}: {value} was put twice, which the test must not do"));
            }
        }
        for (at, operation) in operations.iter().enumerate() {
            match &operation.outcome {
                Outcome::Written { revision } => writes.learn(at, *revision)?,
                Outcome::Read { held: Some(held), .. } | Outcome::Conflict { current: Some(held) } => {
                    let put = writes.put_of(held)?;
                    writes.learn(put, held.modified)?;
                }
                _ => {}
            }
        }
        for change in log {
            if let Some(put) = change.value.as_ref().and_then(|value| writes.by_value.get(value)) {
                writes.learn(*put, change.revision)?;
            }
        }
        Ok(writes)
    }

    fn put_of(&self, held: &Held) -> Result<usize, Violation> {
        match self.by_value.get(&held.value) {
            Some(put) => Ok(*put),
            None => violation(format!("{held:?} was read and never put")),
        }
    }

    fn learn(&mut self, put: usize, revision: u64) -> Verdict {
        match self.revisions[put].replace(revision) {
            Some(known) if known != revision => violation(format!("one put has revisions {known} and {revision}")),
            _ => Ok(()),
        }
    }

    fn step(&self, operation: &Operation) -> Result<Step, Violation> {
        let resolve = |held: &Option<Held>| {
            let resolved = held.as_ref().map(|held| Ok((self.put_of(held)?, held.created)));
            resolved.transpose()
        };
        Ok(match (&operation.call, &operation.outcome) {
            (Call::Get, Outcome::Read { held, .. }) => Step::Reads(resolve(held)?),
            (Call::Put { expect, .. }, Outcome::Written { .. } | Outcome::Unknown) => Step::Puts(*expect),
            (Call::Delete { expect }, Outcome::Written { .. } | Outcome::Unknown) => Step::Deletes(*expect),
            (Call::Put { expect, .. } | Call::Delete { expect }, Outcome::Conflict { current }) => Step::Conflicts {
                expect: *expect,
                delete: matches!(operation.call, Call::Delete { .. }),
                current: resolve(current)?,
            },
            _ => return violation(format!("an operation cannot end so: {operation:?}")),
        })
    }
}

/// The state after operation `at`, if `state` allows its answer.
fn apply(at: usize, step: Step, state: State, revisions: &[Option<u64>]) -> Option<State> {
    // A value whose revision nobody learnt has one that no writer can know: no number equals it.
    let holds = |expect| match (expect, state.held) {
        (Expect::Absent, held) => held.is_none(),
        (Expect::Unchanged(revision), Some((put, _))) => revisions[put] == Some(revision),
        (Expect::Unchanged(_), None) => false,
    };
    let is = |told: Option<(usize, Option<u64>)>| match (told, state.held) {
        (None, None) => true,
        (Some((put, created)), Some((current, born))) => {
            put == current && created.is_none_or(|created| revisions[born].is_none_or(|known| known == created))
        }
        _ => false,
    };
    let revision = revisions[at];
    let write = |held| {
        let rises = revision.is_none_or(|revision| revision > state.last);
        let last = revision.unwrap_or(state.last);
        rises.then_some(State { held, last })
    };
    match step {
        Step::Reads(told) => is(told).then_some(state),
        Step::Puts(expect) if holds(expect) => write(Some((at, state.held.map_or(at, |(_, born)| born)))),
        Step::Deletes(expect) if expect != Expect::Absent && holds(expect) => write(None),
        Step::Puts(_) | Step::Deletes(_) => None,
        Step::Conflicts {
            expect,
            delete,
            current,
        } => {
            let held = holds(expect) && !(delete && expect == Expect::Absent);
            (!held && is(current)).then_some(state)
        }
    }
}

// === the search ===

enum Found {
    Order,
    /// No order; the operation that blocked the longest attempt.
    Nothing(usize),
    TooMuch,
}

/// A call or a return, in a list from which operations are taken out and put back.
struct Moves {
    /// `(operation, is it its return)`, in the order of moments.
    moves: Vec<(usize, bool)>,
    next: Vec<usize>,
    before: Vec<usize>,
    call_of: Vec<usize>,
    return_of: Vec<Option<usize>>,
}

impl Moves {
    /// Position 0 is the head of the list, and its end.
    fn new(operations: &[Operation]) -> Moves {
        let mut moments: Vec<(Moment, usize, bool)> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            moments.push((operation.invoked, at, false));
            if operation.outcome != Outcome::Unknown && operation.returned != FOREVER {
                moments.push((operation.returned, at, true));
            }
        }
        moments.sort_unstable();
        let count = moments.len() + 1;
        let mut list = Moves {
            moves: vec![(usize::MAX, false)],
            next: (1..=count).map(|at| at % count).collect(),
            before: (0..count).map(|at| (at + count - 1) % count).collect(),
            call_of: vec![0; operations.len()],
            return_of: vec![None; operations.len()],
        };
        for (at, (_, operation, returns)) in (1..).zip(moments) {
            list.moves.push((operation, returns));
            match returns {
                true => list.return_of[operation] = Some(at),
                false => list.call_of[operation] = at,
            }
        }
        list
    }

    fn take_out(&mut self, operation: usize) {
        for at in [Some(self.call_of[operation]), self.return_of[operation]]
            .into_iter()
            .flatten()
        {
            let (before, next) = (self.before[at], self.next[at]);
            self.next[before] = next;
            self.before[next] = before;
        }
    }

    /// Undoes the last [`Moves::take_out`] that has not been undone.
    fn put_back(&mut self, operation: usize) {
        for at in [self.return_of[operation], Some(self.call_of[operation])]
            .into_iter()
            .flatten()
        {
            let (before, next) = (self.before[at], self.next[at]);
            self.next[before] = at;
            self.before[next] = at;
        }
    }
}

fn search(operations: &[Operation], steps: &[Step], revisions: &[Option<u64>]) -> Found {
    let mut list = Moves::new(operations);
    let mut returns_left = list.return_of.iter().flatten().count();
    let mut state = State::default();
    let mut done = Bits::new(operations.len());
    let mut tried: HashSet<(Bits, State)> = HashSet::new();
    let mut path: Vec<(usize, State)> = Vec::new();
    let (mut longest, mut blocked_by) = (0, 0);
    let mut at = list.next[0];
    while returns_left > 0 {
        if tried.len() > PATIENCE {
            return Found::TooMuch;
        }
        let (operation, returns) = list.moves[at];
        if at != 0 && !returns {
            let after = apply(operation, steps[operation], state, revisions);
            let fresh = after.is_some_and(|after| {
                done.set(operation);
                let fresh = tried.insert((done.clone(), after));
                if !fresh {
                    done.clear(operation);
                }
                fresh
            });
            if !fresh {
                at = list.next[at];
                continue;
            }
            path.push((operation, state));
            state = after.unwrap_or(state);
            list.take_out(operation);
            returns_left -= usize::from(list.return_of[operation].is_some());
            at = list.next[0];
            continue;
        }
        // Somebody has returned who must take effect first: the last choice was wrong.
        if path.len() >= longest {
            (longest, blocked_by) = (path.len(), operation);
        }
        let Some((operation, earlier)) = path.pop() else {
            return Found::Nothing(blocked_by);
        };
        state = earlier;
        done.clear(operation);
        list.put_back(operation);
        returns_left += usize::from(list.return_of[operation].is_some());
        at = list.next[list.call_of[operation]];
    }
    Found::Order
}

/// A set of operations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bits(Box<[u64]>);

impl Bits {
    fn new(count: usize) -> Bits {
        Bits(vec![0; count.div_ceil(64)].into())
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &str, expect: Expect, outcome: Outcome, invoked: u64, returned: u64) -> Operation {
        let value = value.into();
        operation(Call::Put { value, expect }, outcome, invoked, returned)
    }

    fn get(value: Option<(&str, u64)>, invoked: u64, returned: u64) -> Operation {
        let held = value.map(|(value, modified)| Held {
            key: "k".into(),
            value: value.into(),
            modified,
            created: None,
        });
        operation(Call::Get, Outcome::Read { held, revision: 0 }, invoked, returned)
    }

    fn operation(call: Call, outcome: Outcome, invoked: u64, returned: u64) -> Operation {
        Operation {
            key: "k".into(),
            call,
            outcome,
            invoked,
            returned,
        }
    }

    fn written(revision: u64) -> Outcome {
        Outcome::Written { revision }
    }

    #[test]
    fn reads_may_see_either_side_of_a_write_they_overlap() {
        let write = || put("a", Expect::Absent, written(2), 0, 10);
        for (reads, fine) in [
            (vec![get(None, 1, 2), get(Some(("a", 2)), 3, 4)], true),
            (vec![get(Some(("a", 2)), 1, 2), get(None, 3, 4)], false),
            (vec![get(Some(("a", 2)), 1, 4), get(None, 3, 5)], true),
            (vec![get(None, 11, 12)], false),
            (vec![get(Some(("a", 3)), 11, 12)], false),
            (vec![get(Some(("b", 2)), 11, 12)], false),
        ] {
            let operations: Vec<_> = reads.into_iter().chain([write()]).collect();
            assert_eq!(check(&operations, &[], &[]).is_ok(), fine, "{operations:?}");
        }
    }

    #[test]
    fn what_nobody_confirmed_may_happen_late_or_never() {
        let unknown = || put("a", Expect::Absent, Outcome::Unknown, 0, FOREVER);
        let late = put("b", Expect::Absent, written(2), 1, 2);
        let gone = operation(
            Call::Delete {
                expect: Expect::Unchanged(2),
            },
            written(3),
            3,
            4,
        );
        for (operations, fine) in [
            (
                vec![
                    unknown(),
                    get(None, 1, 2),
                    get(Some(("a", 2)), 3, 4),
                    get(Some(("a", 2)), 5, 6),
                ],
                true,
            ),
            (vec![unknown(), get(None, 1, 2), get(None, 3, 4)], true),
            (vec![unknown(), get(Some(("a", 2)), 1, 2), get(None, 3, 4)], false),
            (
                vec![unknown(), late.clone(), gone.clone(), get(Some(("a", 4)), 5, 6)],
                true,
            ),
            (vec![unknown(), late, get(Some(("a", 4)), 5, 6)], false),
            (
                vec![
                    put("a", Expect::Absent, Outcome::Refused, 0, 1),
                    get(Some(("a", 2)), 3, 4),
                ],
                false,
            ),
        ] {
            assert_eq!(check(&operations, &[], &[]).is_ok(), fine, "{operations:?}");
        }
    }

    #[test]
    fn of_two_writers_with_one_expectation_one_wins() {
        let first = put("a", Expect::Absent, written(2), 0, 1);
        let update = |value, revision, invoked| put(value, Expect::Unchanged(2), written(revision), invoked, 9);
        assert!(check(&[first.clone(), update("b", 3, 2)], &[], &[]).is_ok());
        assert!(check(&[first.clone(), update("b", 3, 2), update("c", 4, 3)], &[], &[]).is_err());
        let loses = |current: Option<(&str, u64)>| {
            let current = current.map(|(value, modified)| Held {
                key: "k".into(),
                value: value.into(),
                modified,
                created: Some(2),
            });
            put("c", Expect::Unchanged(2), Outcome::Conflict { current }, 3, 8)
        };
        assert!(check(&[first.clone(), update("b", 3, 2), loses(Some(("b", 3)))], &[], &[]).is_ok());
        assert!(check(&[first.clone(), update("b", 3, 2), loses(Some(("a", 2)))], &[], &[]).is_err());
        assert!(check(&[first, update("b", 3, 2), loses(None)], &[], &[]).is_err());
    }
}
