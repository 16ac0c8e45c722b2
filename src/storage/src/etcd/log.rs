//! [`Log`]: every change of the cluster, from one watch over all keys, handed to the watches of this store.
//!
//! One watch instead of one a cache: each revision of etcd has an event somewhere, so the last one seen tells how far
//! the watch has got, and a read that must be fresh knows when it may be answered. No progress notifications are asked
//! for; before etcd 3.4.31 and 3.5.13 they ran ahead of events (etcd 15220).
//!
//! The watch is resumed from where it stopped, on another member if need be; its readers notice nothing but the pause.

use crate::etcd::keys::Keys;
use crate::etcd::members::{Member, Members};
use crate::feed::{Feed, FeedWatch, History, lock};
use crate::store::{Batch, Change, Error, Result, Revision};
use bytes::Bytes;
use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a member may take to begin a watch.
const OPENING: Duration = Duration::from_secs(2);
/// How long a change that is known to exist may take to arrive.
const STALL: Duration = Duration::from_secs(1);
/// How often it is looked whether one is missing.
const LOOK: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How much of the past is kept for watches that begin in it. etcd takes a tenth of a second to look it up.
const RECENT_BYTES: usize = 4 << 20;
const CHANGE_BYTES: usize = 200;
/// Changes in one batch of the past.
const BATCH: usize = 1024;

pub(super) struct Log {
    members: Arc<Members>,
    keys: Keys,
    feed: Mutex<Arc<Feed>>,
    recent: Mutex<Recent>,
    /// The revision up to which all changes have arrived.
    reached: watch::Sender<u64>,
    /// The highest revision any answer has told.
    known: AtomicU64,
}

/// The newest changes.
#[derive(Debug, Default)]
struct Recent {
    changes: VecDeque<Change>,
    bytes: usize,
    /// All changes above this revision are here.
    floor: u64,
}

/// Why a watch has ended.
enum Ended {
    /// It may be resumed.
    Broken(String),
    /// What comes next is gone.
    Compacted(u64),
}

impl Log {
    /// A log that begins behind `revision`.
    pub fn new(members: Arc<Members>, keys: Keys, revision: u64) -> Log {
        let recent = Recent {
            floor: revision,
            ..Recent::default()
        };
        Log {
            members,
            keys,
            feed: Mutex::new(Arc::new(Feed::new(revision))),
            recent: Mutex::new(recent),
            reached: watch::Sender::new(revision),
            known: AtomicU64::new(revision),
        }
    }

    pub fn reached(&self) -> u64 {
        *self.reached.borrow()
    }

    /// Tells the log of a revision that exists: it looks for another member where the changes up to it do not arrive.
    pub fn expect(&self, revision: u64) {
        self.known.fetch_max(revision, Ordering::AcqRel);
    }

    /// Waits until all changes up to `revision` have arrived.
    pub async fn reach(&self, revision: u64) {
        if self.reached() < revision {
            // The sender is a part of this log, which is borrowed: it cannot be gone.
            _ = self.reached.subscribe().wait_for(|reached| *reached >= revision).await;
        }
    }

    /// A watch above `after`, which the caller has checked against compaction.
    pub fn watch(self: &Arc<Self>, prefix: &str, after: u64) -> FeedWatch {
        let feed = lock(&self.feed).clone();
        feed.watch(prefix, after, self.clone())
    }

    /// Follows the cluster until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let member = self.members.pick();
            let since = Instant::now();
            match self.follow(member).await {
                Ended::Broken(why) => {
                    tracing::debug!(etcd = member.url(), why, "the watch has ended");
                    member.fails(&why);
                }
                Ended::Compacted(oldest) => {
                    tracing::warn!(oldest, "etcd was out of reach for longer than it keeps changes");
                    self.begin_again(oldest).await;
                }
            }
            pause = match since.elapsed() > LONGEST_PAUSE {
                true => FIRST_PAUSE,
                false => (pause * 2).min(LONGEST_PAUSE),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Publishes what `member` tells until it stops telling.
    async fn follow(&self, member: &Member) -> Ended {
        let mut stream = match open(member, self.reached()).await {
            Ok(stream) => stream,
            Err(why) => return Ended::Broken(why),
        };
        let mut heard = Instant::now();
        loop {
            match timeout(LOOK, stream.message()).await {
                Ok(Ok(Some(response))) => {
                    heard = Instant::now();
                    if let Some(ended) = ended(&response) {
                        return ended;
                    }
                    if response.created() {
                        member.works();
                    }
                    self.publish(&response);
                }
                Ok(Ok(None)) => return Ended::Broken("the stream was closed".into()),
                Ok(Err(error)) => return Ended::Broken(error.to_string()),
                Err(_) => {
                    let known = self.known.load(Ordering::Acquire);
                    if self.reached() < known && heard.elapsed() > STALL {
                        return Ended::Broken(format!("changes up to {known} do not arrive"));
                    }
                }
            }
        }
    }

    fn publish(&self, response: &WatchResponse) {
        let after = self.reached();
        let (changes, revision) = self.keys.changes(response, after);
        if revision <= after {
            return;
        }
        lock(&self.recent).extend(&changes);
        let feed = lock(&self.feed).clone();
        feed.publish(&changes, revision).wake();
        self.known.fetch_max(revision, Ordering::AcqRel);
        self.reached.send_replace(revision);
    }

    /// Lets everybody read the present state anew: there is a gap.
    pub async fn begin_again(&self, oldest: u64) {
        let revision = match super::current_revision(&self.members, &self.keys).await {
            Ok(Revision(revision)) => revision,
            Err(error) => {
                tracing::debug!(%error, "etcd's revision is not known");
                return;
            }
        };
        *lock(&self.recent) = Recent {
            floor: revision,
            ..Recent::default()
        };
        let before = std::mem::replace(&mut *lock(&self.feed), Arc::new(Feed::new(revision)));
        self.reached.send_replace(revision);
        before.close(Error::Compacted {
            oldest: Revision(oldest),
        });
    }

    /// Changes above `after`, from a watch of their own.
    async fn replay(&self, prefix: &str, after: u64, to: u64) -> Result<Batch> {
        let member = self.members.pick();
        let unavailable = |why: String| Error::Unavailable(format!("etcd at {}: {why}", member.url()));
        let mut stream = open(member, after).await.map_err(unavailable)?;
        let mut batch = Batch {
            changes: Vec::new(),
            revision: Revision(after),
        };
        while batch.revision.0 < to && batch.changes.len() < BATCH {
            let response = match timeout(OPENING, stream.message()).await {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => return Err(unavailable("the stream was closed".into())),
                Ok(Err(error)) => return Err(unavailable(error.to_string())),
                Err(_) => return Err(unavailable("the past does not arrive".into())),
            };
            match ended(&response) {
                Some(Ended::Compacted(oldest)) => {
                    return Err(Error::Compacted {
                        oldest: Revision(oldest),
                    });
                }
                Some(Ended::Broken(why)) => return Err(unavailable(why)),
                None => {}
            }
            let (changes, revision) = self.keys.changes(&response, batch.revision.0);
            let wanted = |change: &Change| change.key.starts_with(prefix) && change.revision.0 <= to;
            batch.changes.extend(changes.into_iter().filter(wanted));
            batch.revision = batch.revision.max(Revision(revision.min(to)));
        }
        Ok(batch)
    }
}

impl History for Log {
    fn changes(self: Arc<Self>, prefix: &str, after: u64, to: u64) -> BoxFuture<'static, Result<Batch>> {
        if let Some(changes) = lock(&self.recent).between(prefix, after, to) {
            let batch = Batch {
                changes,
                revision: Revision(to),
            };
            return Box::pin(std::future::ready(Ok(batch)));
        }
        let prefix = prefix.to_owned();
        Box::pin(async move { self.replay(&prefix, after, to).await })
    }
}

impl Recent {
    fn extend(&mut self, changes: &[Change]) {
        for change in changes {
            self.bytes += bytes(change);
            self.changes.push_back(change.clone());
        }
        while self.bytes > RECENT_BYTES {
            let Some(change) = self.changes.pop_front() else { break };
            self.bytes -= bytes(&change);
            self.floor = change.revision.0;
        }
    }

    fn between(&self, prefix: &str, after: u64, to: u64) -> Option<Vec<Change>> {
        if after < self.floor {
            return None;
        }
        let from = self.changes.partition_point(|change| change.revision.0 <= after);
        let end = self.changes.partition_point(|change| change.revision.0 <= to);
        let found = self
            .changes
            .range(from..end)
            .filter(|change| change.key.starts_with(prefix));
        Some(found.cloned().collect())
    }
}

fn bytes(change: &Change) -> usize {
    let previous = change.previous.as_ref().map_or(0, |entry| entry.value.len());
    CHANGE_BYTES + change.value.as_ref().map_or(0, Bytes::len) + previous
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("reached", &self.reached())
            .finish_non_exhaustive()
    }
}

/// A watch of all keys that tells every change above `after`, and maybe those at it: etcd reports a compaction only to
/// those who begin below it, but has already dropped deletes made at it.
async fn open(member: &Member, after: u64) -> Result<WatchStream, String> {
    let start = i64::try_from(after.max(1)).unwrap_or(i64::MAX);
    let options = WatchOptions::new()
        .with_all_keys()
        .with_start_revision(start)
        .with_prev_key();
    let mut client = member.clients().watch.clone();
    match timeout(OPENING, client.watch("", Some(options))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer to a watch".into()),
    }
}

fn ended(response: &WatchResponse) -> Option<Ended> {
    if !response.canceled() {
        return None;
    }
    let compacted = u64::try_from(response.compact_revision()).unwrap_or(0);
    Some(match compacted {
        0 => Ended::Broken(format!("the watch was cancelled: {}", response.cancel_reason())),
        oldest => Ended::Compacted(oldest),
    })
}

/// The cluster's last compaction. Only a watch that begins before it is told.
pub(super) async fn compaction(members: &Members) -> Result<u64> {
    let member = members.pick();
    let unavailable = |why: String| Error::Unavailable(format!("etcd at {}: {why}", member.url()));
    let mut stream = open(member, 1).await.map_err(unavailable)?;
    loop {
        match timeout(OPENING, stream.message()).await {
            Ok(Ok(Some(response))) => match ended(&response) {
                Some(Ended::Compacted(oldest)) => return Ok(oldest),
                Some(Ended::Broken(why)) => return Err(unavailable(why)),
                None if response.created() => {}
                None => return Err(unavailable("nothing was compacted".into())),
            },
            Ok(Ok(None)) => return Err(unavailable("the stream was closed".into())),
            Ok(Err(error)) => return Err(unavailable(error.to_string())),
            Err(_) => return Err(unavailable("no answer to a watch".into())),
        }
    }
}
