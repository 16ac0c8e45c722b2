//! Do the revisions of a history agree with one log of all changes, and with real time?
//!
//! - Every acknowledged write stands in the log at its revision; every change in the log is a write of somebody whose
//!   outcome does not deny it; each write required what held at that point of the log.
//! - Every read is what the log says for the revision it was read at.
//! - Who begins after another has ended sees a revision at least as high, and writes at a higher one.

use crate::{Call, Change, Expect, Held, History, Moment, Operation, Outcome, Seen, Snapshot, Verdict, violation};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Checks a whole history but its watches' contents.
///
/// # Errors
/// The first violation found.
pub fn check(history: &History) -> Verdict {
    let revisions = account(history)?;
    in_real_time(history, &revisions)?;
    reads_match(history)
}

/// The revision of each operation that is in the log.
type Revisions = HashMap<usize, u64>;

/// What the keys hold at some point of the log.
type State = BTreeMap<Arc<str>, Held>;

fn advance(state: &mut State, change: &Change) {
    let Some(value) = &change.value else {
        state.remove(&change.key);
        return;
    };
    let created = state
        .get(&change.key)
        .map_or(Some(change.revision), |held| held.created);
    let held = Held {
        key: change.key.clone(),
        value: value.clone(),
        modified: change.revision,
        created,
    };
    state.insert(change.key.clone(), held);
}

// === writes and the log ===

fn account(history: &History) -> Result<Revisions, crate::Violation> {
    let mut acknowledged: HashMap<u64, usize> = HashMap::new();
    let mut puts: HashMap<&str, usize> = HashMap::new();
    let mut deletes: HashMap<(&str, Expect), Vec<usize>> = HashMap::new();
    for (at, operation) in history.operations.iter().enumerate() {
        if let Outcome::Written { revision } = operation.outcome
            && let Some(other) = acknowledged.insert(revision, at)
        {
            let other = &history.operations[other];
            return violation(format!(
                "two writes at revision {revision}: {operation:?} and {other:?}"
            ));
        }
        match &operation.call {
            Call::Put { value, .. } => _ = puts.insert(value, at),
            Call::Delete { expect } if operation.outcome == Outcome::Unknown => {
                deletes.entry((&operation.key, *expect)).or_default().push(at);
            }
            _ => {}
        }
    }
    let mut revisions = Revisions::new();
    let mut state = State::new();
    let mut last = history.base;
    for change in &history.log {
        if change.revision <= last {
            return violation(format!("the log goes from revision {last} to {change:?}"));
        }
        last = change.revision;
        let modified = state.get(&change.key).map(|held| held.modified);
        let by = match (acknowledged.remove(&change.revision), &change.value) {
            (Some(by), _) => Some(by),
            (None, Some(value)) => puts.get(&**value).copied(),
            // Of several deletes with one expectation at most one has happened: the first, for all that anybody knows.
            (None, None) => modified
                .and_then(|modified| deletes.get(&(&*change.key, Expect::Unchanged(modified))))
                .and_then(|deletes| deletes.iter().copied().min_by_key(|at| history.operations[*at].invoked)),
        };
        let Some(by) = by else {
            return violation(format!("nobody wrote {change:?}"));
        };
        let operation = &history.operations[by];
        made(operation, change, modified)?;
        if let Some(earlier) = revisions.insert(by, change.revision) {
            return violation(format!(
                "{operation:?} is in the log at {earlier} and at {}",
                change.revision
            ));
        }
        advance(&mut state, change);
    }
    match acknowledged.into_iter().min() {
        Some((_, lost)) => violation(format!(
            "acknowledged and not in the log: {:?}",
            history.operations[lost]
        )),
        None => Ok(revisions),
    }
}

/// Whether `operation` can have made `change` of a key last written at `modified`.
fn made(operation: &Operation, change: &Change, modified: Option<u64>) -> Verdict {
    let (value, expect) = match &operation.call {
        Call::Get => return violation(format!("a get changed something: {change:?}")),
        Call::Put { value, expect } => (Some(value), *expect),
        Call::Delete { expect } => (None, *expect),
    };
    let may = match operation.outcome {
        Outcome::Written { revision } => revision == change.revision,
        Outcome::Unknown => true,
        _ => false,
    };
    if !may || operation.key != change.key || value != change.value.as_ref() {
        return violation(format!("{operation:?} and {change:?} do not agree"));
    }
    if !expect.holds(modified) || (value.is_none() && modified.is_none()) {
        return violation(format!(
            "{operation:?} is in the log after revision {modified:?} of its key"
        ));
    }
    Ok(())
}

// === real time ===

/// Somebody knows that the store has reached a revision, or wants to see no less.
enum Mark {
    Reached(u64),
    ReadsFrom { revision: u64, who: usize },
    Writes { revision: u64, who: usize },
    Lists { revision: u64, who: usize },
}

fn in_real_time(history: &History, revisions: &Revisions) -> Verdict {
    let mut marks: Vec<(Moment, Mark)> = Vec::new();
    for (who, operation) in history.operations.iter().enumerate() {
        if let Outcome::Read { revision, .. } = operation.outcome {
            marks.push((operation.invoked, Mark::ReadsFrom { revision, who }));
            marks.push((operation.returned, Mark::Reached(revision)));
        }
        if let Outcome::Conflict { current: Some(current) } = &operation.outcome {
            marks.push((operation.returned, Mark::Reached(current.modified)));
        }
        if let Some(revision) = revisions.get(&who).copied() {
            marks.push((operation.invoked, Mark::Writes { revision, who }));
            marks.push((operation.returned, Mark::Reached(revision)));
        }
    }
    for (who, snapshot) in history.snapshots.iter().enumerate() {
        let revision = snapshot.revision;
        if snapshot.fresh {
            marks.push((snapshot.invoked, Mark::Lists { revision, who }));
        }
        marks.push((snapshot.returned, Mark::Reached(revision)));
    }
    for (moment, seen) in history.watches.iter().flat_map(|watched| &watched.seen) {
        let (Seen::Change(Change { revision, .. }) | Seen::Progress(revision)) = seen;
        marks.push((*moment, Mark::Reached(*revision)));
    }
    marks.sort_by_key(|(moment, _)| *moment);
    let mut reached = history.base;
    for (_, mark) in marks {
        match mark {
            Mark::Reached(revision) => reached = reached.max(revision),
            Mark::ReadsFrom { revision, who } if revision < reached => {
                let who = &history.operations[who];
                return violation(format!("a stale read: the store had reached {reached} before {who:?}"));
            }
            Mark::Lists { revision, who } if revision < reached => {
                let who = &history.snapshots[who];
                return violation(format!("a stale list: the store had reached {reached} before {who:?}"));
            }
            Mark::Writes { revision, who } if revision <= reached => {
                let who = &history.operations[who];
                return violation(format!(
                    "revision {reached} had been seen before the write at {revision} began: {who:?}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

// === reads ===

enum Read<'a> {
    Key(&'a Operation, &'a Option<Held>),
    Snapshot(&'a Snapshot),
}

fn reads_match(history: &History) -> Verdict {
    let mut reads: Vec<(u64, Read)> = Vec::new();
    for operation in &history.operations {
        if let Outcome::Read { held, revision } = &operation.outcome {
            reads.push((*revision, Read::Key(operation, held)));
        }
    }
    reads.extend(
        history
            .snapshots
            .iter()
            .map(|snapshot| (snapshot.revision, Read::Snapshot(snapshot))),
    );
    reads.sort_by_key(|(revision, _)| *revision);
    for operation in &history.operations {
        if let Outcome::Conflict { current: Some(current) } = &operation.outcome {
            told_of_log(&history.log, operation, current)?;
        }
    }
    let mut state = State::new();
    let mut log = history.log.iter().peekable();
    for (revision, read) in reads {
        while let Some(change) = log.next_if(|change| change.revision <= revision) {
            advance(&mut state, change);
        }
        match read {
            Read::Key(operation, held) => {
                let expected = state.get(&operation.key);
                if !same(held.as_ref(), expected) {
                    return violation(format!("{operation:?} should have read {expected:?}"));
                }
            }
            Read::Snapshot(snapshot) => snapshot_matches(snapshot, &state)?,
        }
    }
    Ok(())
}

/// Whether the log has what a conflict names. When it did is for [`crate::linear`] to check.
fn told_of_log(log: &[Change], operation: &Operation, current: &Held) -> Verdict {
    let at = log.partition_point(|change| change.revision < current.modified);
    match log.get(at) {
        Some(change)
            if (change.revision, &change.key, change.value.as_ref())
                == (current.modified, &current.key, Some(&current.value)) =>
        {
            Ok(())
        }
        other => violation(format!("{operation:?} was told of what the log has as {other:?}")),
    }
}

fn snapshot_matches(snapshot: &Snapshot, state: &State) -> Verdict {
    let mut expected = state
        .values()
        .filter(|held| held.key.starts_with(&*snapshot.prefix) && held.key >= snapshot.start);
    for held in &snapshot.held {
        let expected = expected.next();
        if !same(Some(held), expected) {
            return violation(format!(
                "a list at {} has {held:?} where the log has {expected:?}",
                snapshot.revision
            ));
        }
    }
    let rest = expected.next();
    if rest.is_some() != snapshot.more {
        return violation(format!(
            "a list at {} ends before {rest:?}: {snapshot:?}",
            snapshot.revision
        ));
    }
    Ok(())
}

fn same(told: Option<&Held>, known: Option<&Held>) -> bool {
    match (told, known) {
        (None, None) => true,
        (Some(told), Some(known)) => {
            (&told.key, &told.value, told.modified) == (&known.key, &known.value, known.modified)
                && (told.created.is_none() || told.created == known.created)
        }
        _ => false,
    }
}
