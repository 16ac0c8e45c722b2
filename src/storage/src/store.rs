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
///
/// # Guarantees
/// - Every change under its prefix above its start is delivered exactly once, in the order of revisions, and a revision
///   never in parts. It was durable before.
/// - [`Batch::revision`] never goes back, is never ahead of the store, and covers every change up to it.
/// - After an error there are no more batches: every further poll, and [`Watch::ready`], answer an error. Whoever
///   resumes from the last batch's revision misses nothing.
///
/// # Non-guarantees
/// How changes are gathered into batches, and when a batch without changes comes, if ever, unless asked for by
/// [`Watch::hurry`]. A watch may fall silent without an error where a connection does.
pub trait Watch: Send {
    /// The next changes; an error ends the watch. Nothing is lost when a pending poll is not followed up.
    ///
    /// # Errors
    /// [`Error::Compacted`]: what follows is gone, only a new range can help. [`Error::Unavailable`]: the store has
    /// ended or cannot be reached; a new watch may be had later.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch>>;

    /// What can be had now, without waiting and without touching the waker of an earlier poll: the changes that have
    /// arrived, or an empty batch whose revision is newer than the last one's. In-process stores answer up to their
    /// latest acknowledged write; the default has nothing.
    ///
    /// # Errors
    /// As [`Watch::poll_next`], which tells the same error to whoever polls it, and wakes it for that.
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

/// A revisioned key-value store, as etcd is one. `suite` holds every implementation to this, as it is and behind
/// faults; `fairlead_histories` says what the words mean.
///
/// # Operations
/// Reads of one key ([`Store::get`]) and of a prefix ([`Store::range`]), now or at a revision; writes of one key that
/// name what they replace ([`Store::put`], [`Store::delete`]); watches of a prefix from a revision ([`Store::watch`]);
/// forgetting ([`Store::compact`]). There are no unconditional writes: a writer has read what it overwrites.
///
/// # Guarantees
/// - **Linearizable.** Each write takes effect at one moment between call and answer, each read without a revision sees
///   the state of such a moment, whoever calls, over whichever connection or instance.
/// - **One order.** Every write has a [`Revision`] of its own, above that of everything that could be seen before it
///   was called; whoever knows a revision sees at least it from then on. An empty store is at revision 1, so that no
///   answer ever carries revision 0.
/// - **Durable.** A write is on the disk (of the majority) before it is acknowledged, and before any reader or watch
///   can see it. Neither a kill nor a power cut takes it back.
/// - **Checked.** A write whose [`Expect`] does not hold changes nothing, takes no revision and says what is there.
/// - **Replayable.** Reads at a revision at or above the last compaction answer as they would have at that revision,
///   in one piece: a range is the state of one revision. A watch delivers exactly the changes above its start
///   ([`Watch`]). Restarting the store changes neither.
/// - **Mortal values.** A value with a lifetime vanishes by an ordinary delete with a revision of its own, not before
///   its time, also where the store was down at that time.
///
/// # Non-guarantees
/// - Revisions without gaps: others may write to the same store, below other prefixes.
/// - Reads and watches below the last compaction.
/// - Lifetimes are exact to seconds, and may be longer while the store is down or where several values share one.
/// - Transactions over several keys, and any order among keys but that of revisions.
///
/// # Failure
/// - A *determinate* failure ([`Error::Conflict`], [`Error::Unavailable`], [`Error::Compacted`], [`Error::Future`])
///   changed nothing and never will: it may be tried again.
/// - [`Error::Indeterminate`] is the other kind: the write may have happened, may still happen, or never. Only a read can
///   tell, and a read that does not show it yet proves nothing unless the write's [`Expect`] no longer holds.
/// - A write future that is dropped is indeterminate, too.
/// - [`Error::Corrupt`] is told as soon as damage is met. Reads that do not meet it go on; nothing is half-read.
/// - A store that can no longer vouch for what it wrote (a failed fsync) answers every write with
///   [`Error::Unavailable`] until it is opened again, and says so in [`Store::health`]. Reads go on.
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

    /// The latest revision: no write acknowledged before the call has a higher one, nor has anything that a read or a
    /// watch showed before it.
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
    /// keep working. Compacting below an earlier compaction does nothing. Watches that have not got that far yet end
    /// with [`Error::Compacted`].
    ///
    /// # Errors
    /// [`Error::Future`]; [`Error::Unavailable`] and [`Error::Indeterminate`] as writes.
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
