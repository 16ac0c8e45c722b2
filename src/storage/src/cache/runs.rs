//! [`Runs`]: what was made of the newest runs of events, for all watchers that stand at the same place and want the same.
// PERFORMANCE: per-request path

use crate::cache::ring::Cursor;
use crate::cache::watcher::Made;
use crate::feed::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// How many runs are remembered. Watchers of several forms and some that lag a few waves find theirs.
const KEPT: usize = 16;
/// About how many bytes of objects one run is of.
pub(super) const RUN_BYTES: usize = 64 << 10;

/// What a run of events is made into: everything that makes a difference, besides the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub name: Arc<str>,
    /// What changes while a watch goes on: a time, for instance.
    pub stamp: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub made: Made,
    pub to: Cursor,
    pub events: usize,
}

#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<VecDeque<(Form, Cursor, Known)>>);

impl Runs {
    /// What follows `from`.
    pub fn find(&self, form: &Form, from: Cursor) -> Option<Known> {
        let runs = lock(&self.0);
        let found = runs.iter().find(|(known, begin, _)| *begin == from && known == form);
        found.map(|(_, _, known)| known.clone())
    }

    pub fn keep(&self, form: Form, from: Cursor, known: Known) {
        let mut runs = lock(&self.0);
        if runs.len() >= KEPT {
            runs.pop_back();
        }
        runs.push_front((form, from, known));
    }

    pub fn forget(&self) {
        lock(&self.0).clear();
    }
}
