//! Checkers of recorded histories: what clients of a revisioned key-value store did and saw, held against what such a
//! store promises.
//!
//! - here: the records. - [`linear`]: is there an order of the operations on each key that explains every answer?
//! - [`order`]: do the revisions agree with one log of all changes and with real time?
//! - [`follow`]: did a watcher see exactly the log?
//!
//! The checkers do not trust each other: `linear` knows no log, `order` and `follow` do no search.

pub mod follow;
pub mod linear;
pub mod order;
#[cfg(test)]
mod simulation;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A moment of a run. Of two moments the smaller came first; [`FOREVER`] never comes.
pub type Moment = u64;

/// When an operation returns whose client never learnt its outcome.
pub const FOREVER: Moment = u64::MAX;

/// Numbers the moments of a run, over all its threads.
#[derive(Debug, Default)]
pub struct Moments(AtomicU64);

impl Moments {
    pub fn now(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// A value and its revisions, as a read answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub key: Arc<str>,
    pub value: Arc<str>,
    pub modified: u64,
    /// `None` where the reader does not learn it.
    pub created: Option<u64>,
}

/// What a write requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    Absent,
    Unchanged(u64),
}

/// An operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Get,
    /// The value is like no other in the history: it tells which put wrote it.
    Put {
        value: Arc<str>,
        expect: Expect,
    },
    Delete {
        expect: Expect,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a get: what the key had at `revision`.
    Read { held: Option<Held>, revision: u64 },
    /// Of a put or delete that happened.
    Written { revision: u64 },
    /// Of a put or delete that was refused because the key had this.
    Conflict { current: Option<Held> },
    /// It certainly did not happen.
    Refused,
    /// Nobody knows whether it happened, or whether it still will.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    pub key: Arc<str>,
    pub call: Call,
    pub outcome: Outcome,
    pub invoked: Moment,
    /// [`FOREVER`] where the outcome is [`Outcome::Unknown`].
    pub returned: Moment,
}

/// Everything under a prefix at one revision, or as much of it as a limit allowed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub prefix: Arc<str>,
    /// Keys before this one were not asked for. Empty: all were.
    pub start: Arc<str>,
    pub held: Vec<Held>,
    /// Whether a limit cut something off.
    pub more: bool,
    pub revision: u64,
    /// Whether it was to see every write acknowledged before it.
    pub fresh: bool,
    pub invoked: Moment,
    pub returned: Moment,
}

/// One change, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: u64,
    pub key: Arc<str>,
    /// `None` for a delete.
    pub value: Option<Arc<str>>,
}

/// What a watcher saw next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Change(Change),
    /// Everything up to this revision has been delivered.
    Progress(u64),
}

/// Which keys a watcher follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Prefix(Arc<str>),
    Key(Arc<str>),
}

/// One watch from its start to its end.
#[derive(Clone, Debug)]
pub struct Watched {
    pub scope: Scope,
    /// It was to see what comes after this revision.
    pub after: u64,
    pub seen: Vec<(Moment, Seen)>,
}

/// Everything recorded of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    pub snapshots: Vec<Snapshot>,
    pub watches: Vec<Watched>,
    /// All changes since [`History::base`], in the order of their revisions.
    pub log: Vec<Change>,
    /// The revision the run began at, with nothing in the store.
    pub base: u64,
}

/// What a history breaks, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

pub type Verdict = Result<(), Violation>;

impl History {
    /// Every checker over the whole history.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check(&self) -> Verdict {
        order::check(self)?;
        for watched in &self.watches {
            follow::check(&self.log, watched)?;
        }
        linear::check(&self.operations, &self.snapshots, &self.log)
    }
}

impl Scope {
    pub fn has(&self, key: &str) -> bool {
        match self {
            Scope::Prefix(prefix) => key.starts_with(&**prefix),
            Scope::Key(wanted) => key == &**wanted,
        }
    }
}

impl Expect {
    /// Whether it holds for a key last written at `modified` (`None`: the key has no value).
    pub fn holds(self, modified: Option<u64>) -> bool {
        match self {
            Expect::Absent => modified.is_none(),
            Expect::Unchanged(revision) => modified == Some(revision),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

fn violation<T>(text: String) -> Result<T, Violation> {
    Err(Violation(text))
}
