//! [`Store`]: what any store must promise.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A version of the whole store. Every successful write gets the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A key: UTF-8, `/`-separated, without the store's own prefix: `/configmaps/default/a`.
pub type StoreKey = Arc<str>;

/// One key's value at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: StoreKey,
    pub value: Bytes,
    pub create_revision: Revision,
    /// The revision of the write that made this value.
    pub mod_revision: Revision,
}

/// What a write requires of the key it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key has no value.
    Absent,
    /// The key's value was written at this revision.
    Unchanged(Revision),
}

/// Entries with a prefix, in key order.
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub entries: Vec<Entry>,
    /// The revision the range was read at.
    pub revision: Revision,
    /// Whether the limit cut entries off.
    pub more: bool,
}

/// One change, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub key: StoreKey,
    /// `None` for a delete.
    pub value: Option<Bytes>,
    /// What a delete removed, where the store still has it. Not given for puts.
    pub previous: Option<Entry>,
}

/// Changes of one or more whole revisions, in order; never a part of a revision.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// Everything up to here has been delivered, changes of other prefixes included.
    pub revision: Revision,
}

/// The newest changes under a prefix, from a store's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// In order. Unlike those of watches, puts too say in `previous` what they replaced.
    pub changes: Vec<Change>,
    /// All changes above this revision are there.
    pub after: Revision,
}

/// A running watch. Dropping it ends it.
pub trait Watch: Send {
    /// The next changes; an error ends the watch. Nothing is lost when a pending poll is not followed up.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch>>;

    /// What can be had now, without waiting and without touching the waker of an earlier poll: the changes that have
    /// arrived, or an empty batch whose revision is newer than the last one's. In-process stores answer up to their
    /// latest acknowledged write; the default has nothing.
    fn ready(&mut self) -> Result<Option<Batch>> {
        Ok(None)
    }

    /// Asks for a batch soon, empty if need be, whose revision is at least the store's of now. Stores whose
    /// [`Watch::ready`] is always up to date have nothing to do.
    fn hurry(&mut self) {}
}

impl dyn Watch {
    /// The next changes. Cancel-safe.
    pub async fn next(&mut self) -> Result<Batch> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

/// A failed operation. *Determinate* failures changed nothing; [`Error::Indeterminate`] may have.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The [`Expect`] did not hold; `current` is what the key has instead (`None`: no value).
    #[error("the key has changed")]
    Conflict { current: Option<Entry> },
    /// The revision asked for is gone; `oldest` is the first that can still be read.
    #[error("the revision has been compacted, the oldest is {}", oldest.0)]
    Compacted { oldest: Revision },
    /// The revision asked for lies ahead of the store.
    #[error("the revision lies ahead of the store, which is at {}", current.0)]
    Future { current: Revision },
    /// Nothing was written: there is no room. Deletes may go on.
    #[error("the store is full: {0}")]
    Full(String),
    /// Nothing was written: a closed store, an unreachable server before anything was sent.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The write may or may not have happened.
    #[error("the store did not confirm the write: {0}")]
    Indeterminate(String),
    /// The data at rest is damaged; `0` names what and where.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// A value cannot be encrypted or decrypted; the message names its key. Nothing was written. `passing`: the plugin
    /// that holds the keys may know better later.
    #[error("{message}")]
    Transform { message: String, passing: bool },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A revisioned key-value store.
///
/// # Guarantees
/// - Writes are linearizable and totally ordered: each gets a [`Revision`] above all earlier ones. An empty store is
///   at revision 1, so that no answer ever carries revision 0.
/// - A write is durable before it is acknowledged, and before any reader or watch can see it.
/// - `get` and `range` without a revision see every write acknowledged before they were called.
/// - A watch delivers every change after its start revision exactly once, in order, in whole revisions.
/// - Values with a lifetime vanish by an ordinary delete with a revision of its own, not before their time.
/// - Reads at a revision at or above the last compaction answer as they would have at that revision.
///
/// # Non-guarantees
/// Reads at a revision end with compaction. Lifetimes are exact to seconds. No multi-key transactions.
///
/// # Failure
/// A dropped write future leaves the write to happen or not. See [`Error`] for what each failure leaves behind.
pub trait Store: Send + Sync + fmt::Debug {
    /// The value of `key`, and the revision it was read at.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>>;

    /// At most `limit` entries under `prefix` from `start` on (a key inside the prefix, or empty), at `at` or the
    /// latest revision. Costs O(entries read), not O(store).
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::Future`].
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>>;

    /// Writes `value`, to expire after `lifetime` where one is given. Answers the write's revision.
    /// A put without a lifetime ends an earlier one.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::Unavailable`], [`Error::Indeterminate`].
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>>;

    /// Deletes `key`. Answers the delete's revision. `Expect::Absent` is a caller's mistake and conflicts.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>>;

    /// Changes under `prefix` with revisions above `after`.
    ///
    /// # Errors
    /// [`Error::Compacted`] here or from the watch, when `after` lies below the last compaction.
    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>>;

    /// The latest revision: no write acknowledged before the call has a higher one.
    fn revision(&self) -> BoxFuture<'_, Result<Revision>>;

    /// The last revision known to have changed something under `prefix`, or one after it; `None` where the store cannot
    /// tell from memory. A watch from there misses nothing. O(keys under the prefix).
    fn last_change(&self, prefix: &str) -> Option<Revision> {
        _ = prefix;
        None
    }

    /// The newest changes under `prefix` at or below `to`, as many as fit into about `bytes`; `None` where the store
    /// cannot tell what changes replaced. O(keys under the prefix + changes).
    fn past<'a>(&'a self, prefix: &'a str, to: Revision, bytes: usize) -> BoxFuture<'a, Result<Option<Past>>> {
        _ = (prefix, to, bytes);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The entry of `key` where the store would write the same value in other bytes by now: sealed by an old key. Only
    /// stores that encrypt know.
    ///
    /// # Errors
    /// As [`Store::get`], and [`Error::Transform`].
    fn outdated<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        _ = key;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Gives up values that were overwritten or deleted at or before `revision`. Reads and watches from `revision` on
    /// keep working. Compacting below an earlier compaction does nothing.
    ///
    /// # Errors
    /// [`Error::Future`].
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>>;

    /// Whether reads and writes work now; the error says what does not.
    fn health(&self) -> BoxFuture<'_, Result<()>>;

    /// Who wants to know how operations went. The cache above reports to it.
    fn observer(&self) -> Option<&dyn StoreObserver> {
        None
    }
}

/// Told how a store is doing. Called on request paths: must be quick.
pub trait StoreObserver: Send + Sync {
    /// One operation (`create`, `update`, `delete`, `list`, `listAt`) on a cache's prefix has ended.
    fn operation(&self, operation: &'static str, prefix: &str, seconds: f64, ok: bool);
    /// `batch` writes were made durable together. Only stores that commit themselves report it.
    fn commit(&self, batch: usize, fsync_seconds: f64);
}
