//! States of the past: undone from the latest one with the ring's events, or read from the store.

use crate::cache::stats::add;
use crate::cache::{Cache, Snapshot, read};
use crate::feed::lock;
use crate::store::{Result, Revision};
use std::time::{Duration, Instant};

/// Past states kept for the next page of a list.
const KEPT: usize = 8;
/// How long one that the ring can no longer make is kept: it holds objects nobody else does.
const COLD: Duration = Duration::from_secs(30);

/// Past states that were asked for and may be asked for again.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Within reach of the ring, which therefore holds most of their objects too. Oldest use first.
    warm: Vec<Snapshot>,
    cold: Option<(Instant, Snapshot)>,
}

impl Kept {
    /// Lets go of what has fallen out of the ring, whose events begin behind `floor`.
    pub fn expire(&mut self, floor: u64) {
        if !self.warm.is_empty() {
            self.warm.retain(|snapshot| snapshot.revision.0 >= floor);
        }
        if self.cold.as_ref().is_some_and(|(since, _)| since.elapsed() > COLD) {
            self.cold = None;
        }
    }

    fn keep(&mut self, snapshot: &Snapshot) {
        self.warm.retain(|kept| kept.revision != snapshot.revision);
        if self.warm.len() == KEPT {
            self.warm.remove(0);
        }
        self.warm.push(snapshot.clone());
    }

    fn cold(&self, revision: Revision) -> Option<Snapshot> {
        self.cold
            .as_ref()
            .map(|(_, snapshot)| snapshot)
            .filter(|cold| cold.revision == revision)
            .cloned()
    }

    /// The earliest kept state at or after `revision`.
    fn nearest(&self, revision: Revision) -> Option<Snapshot> {
        let later = self.warm.iter().filter(|snapshot| snapshot.revision >= revision);
        later.min_by_key(|snapshot| snapshot.revision).cloned()
    }
}

impl Cache {
    /// The state at exactly `revision`. From memory while the ring reaches back that far, else from the store.
    ///
    /// # Errors
    /// [`Error::Compacted`](crate::Error::Compacted), [`Error::Future`](crate::Error::Future).
    pub async fn exact(&self, revision: Revision) -> Result<Snapshot> {
        let latest = self.at_least(revision).await?;
        if latest.revision == revision {
            lock(&self.0.kept).keep(&latest);
            return Ok(latest);
        }
        if let Some(snapshot) = self.undone(latest, revision) {
            return Ok(snapshot);
        }
        if let Some(snapshot) = lock(&self.0.kept).cold(revision) {
            return Ok(snapshot);
        }
        let started = Instant::now();
        let result = self.0.read_all(Some(revision)).await;
        self.report("listAt", started, result.is_ok());
        let snapshot = result?;
        add(&self.0.counts.store_lists, 1);
        add(&self.0.counts.store_list_objects, snapshot.len());
        lock(&self.0.kept).cold = Some((Instant::now(), snapshot.clone()));
        Ok(snapshot)
    }

    /// The state at `revision`, made by undoing events; `None` where the ring does not reach back.
    fn undone(&self, latest: Snapshot, revision: Revision) -> Option<Snapshot> {
        let kept = lock(&self.0.kept).nearest(revision);
        let Snapshot {
            revision: from,
            mut tree,
        } = kept.unwrap_or(latest);
        {
            let ring = read(&self.0.ring);
            for event in ring.undo(revision.0, from.0)? {
                match &event.previous {
                    Some(previous) => _ = tree.insert(previous.clone()),
                    None => _ = tree.remove(&event.object.key),
                }
            }
        }
        let snapshot = Snapshot { revision, tree };
        lock(&self.0.kept).keep(&snapshot);
        Some(snapshot)
    }
}
