//! [`Turn`]: writers of one object, one after the other, where they would be in each other's way.
//!
//! A write names the version it replaces. Of many writers that have read the same version one gets through, and all others
//! have worked for nothing. So whoever has been refused queues up, and whoever comes while there is a queue does, too; all
//! others never notice. A turn promises nothing: what it stands for may still be refused, and who has waited for long
//! goes on without one. So nobody waits for ever for a writer that waits for him, through a webhook for instance.
// PERFORMANCE: per-request path

use crate::cache::Cache;
use crate::feed::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a writer waits for those before it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The queues of one cache.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queues: Mutex<HashMap<Box<str>, Queue>>,
    /// How many queues there are: most of the time none.
    count: AtomicUsize,
}

/// Who writes to one key.
#[derive(Debug)]
struct Queue {
    next: Arc<Semaphore>,
    /// Waiting, or having their turn.
    writers: usize,
}

/// A writer's turn. The next one's comes when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _place: Place,
    _permit: Option<OwnedSemaphorePermit>,
}

/// A place in a queue, given up when dropped; the queue goes with the last one.
#[derive(Debug)]
struct Place {
    cache: Cache,
    key: Box<str>,
}

impl Cache {
    /// Waits for a turn to write at `key`, if there is a queue. Whoever has one should read again what it is to change.
    pub async fn turn(&self, key: &str) -> Option<Turn> {
        if self.0.turns.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let next = self.0.turns.join(key)?;
        Some(self.wait(key, next).await)
    }

    /// Waits for a turn to write at `key`, after somebody else was faster.
    pub async fn queue_up(&self, key: &str) -> Turn {
        let next = self.0.turns.found(key);
        self.wait(key, next).await
    }

    /// In a queue that this writer has joined.
    async fn wait(&self, key: &str, next: Arc<Semaphore>) -> Turn {
        let place = Place {
            cache: self.clone(),
            key: key.into(),
        };
        let permit = tokio::time::timeout(PATIENCE, next.acquire_owned()).await;
        Turn {
            _place: place,
            _permit: permit.ok().and_then(Result::ok),
        }
    }
}

impl Turns {
    fn join(&self, key: &str) -> Option<Arc<Semaphore>> {
        let mut queues = lock(&self.queues);
        let queue = queues.get_mut(key)?;
        queue.writers += 1;
        Some(queue.next.clone())
    }

    fn found(&self, key: &str) -> Arc<Semaphore> {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(key.into()).or_insert_with(|| Queue {
            next: Arc::new(Semaphore::new(1)),
            writers: 0,
        });
        queue.writers += 1;
        let next = queue.next.clone();
        self.count.store(queues.len(), Ordering::Relaxed);
        next
    }

    fn leave(&self, key: &str) {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get_mut(key) {
            queue.writers -= 1;
            if queue.writers == 0 {
                queues.remove(key);
            }
        }
        self.count.store(queues.len(), Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cache.0.turns.leave(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::CacheConfig;
    use crate::memory::Memory;
    use crate::testing::{AtRevision, HandClock};
    use futures_util::FutureExt;

    fn cache() -> Cache {
        let config = CacheConfig {
            prefix: "/things/".into(),
            decode: Arc::new(AtRevision),
            ring_bytes: 1 << 20,
        };
        Cache::start(Arc::new(Memory::new(HandClock::at(1_000))), config)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_queues_up_comes_after_whoever_was_there() {
        let cache = cache();
        assert!(cache.turn("a/x").await.is_none(), "there is no queue");
        let first = cache.queue_up("a/x").await;
        assert!(cache.turn("a/y").await.is_none(), "other keys have none");
        let (mut second, mut third) = (Box::pin(cache.turn("a/x")), Box::pin(cache.queue_up("a/x")));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none());
        let turn = second.await.expect("there was a queue");
        assert!(third.as_mut().now_or_never().is_none());
        drop(turn);
        drop(third.await);
        assert!(cache.turn("a/x").await.is_none(), "the queue is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let cache = cache();
        let stuck = cache.queue_up("a/x").await;
        let gave_up = Box::pin(cache.turn("a/x"));
        let started = tokio::time::Instant::now();
        let turn = gave_up.await.expect("there is a queue");
        assert_eq!(started.elapsed(), PATIENCE);
        let mut dropped = Box::pin(cache.turn("a/x"));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop((dropped, turn, stuck));
        assert!(cache.turn("a/x").await.is_none());
    }
}
