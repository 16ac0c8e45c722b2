//! [`Faulty`]: a store on a bad network. Everything it does to its callers is something the contract allows.

use crate::feed::lock;
use crate::store::{Batch, Entry, Error, Expect, Range, Result, Revision, Store, Watch};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Sleep;

/// How often what goes wrong, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Operations that fail before they begin.
    pub refused: u32,
    /// Writes that happen without an answer.
    pub lost_answers: u32,
    /// Writes that do not happen, without an answer either.
    pub lost_requests: u32,
    /// Writes that happen a while after their failure has been reported.
    pub late: u32,
    /// Operations that are delayed before they take effect, and likewise after: so they overtake each other.
    pub delayed: u32,
    /// Batches in whose place a watch ends with an error.
    pub watch_ends: u32,
    /// Batches in whose place a watch falls silent for good.
    pub watch_stalls: u32,
    /// Batches before which somebody else compacts up to them, so that the watch ends.
    pub watch_compactions: u32,
    /// Whether it is to be taken for a server elsewhere: nothing is ever ready, nothing known from memory.
    pub remote: bool,
}

impl Faults {
    /// What a caller that tries again need not notice.
    pub const MILD: Faults = Faults {
        refused: 80,
        delayed: 300,
        watch_ends: 60,
        ..Faults::NONE
    };
    pub const HARSH: Faults = Faults {
        refused: 40,
        lost_answers: 40,
        lost_requests: 30,
        late: 30,
        delayed: 300,
        watch_ends: 40,
        watch_stalls: 5,
        watch_compactions: 10,
        remote: false,
    };
    pub const REMOTE: Faults = Faults {
        remote: true,
        ..Faults::HARSH
    };
    pub const NONE: Faults = Faults {
        refused: 0,
        lost_answers: 0,
        lost_requests: 0,
        late: 0,
        delayed: 0,
        watch_ends: 0,
        watch_stalls: 0,
        watch_compactions: 0,
        remote: false,
    };
}

/// A store that fails as its seed says. Cheap to clone; clones share.
#[derive(Clone, Debug)]
pub struct Faulty(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Store>,
    faults: Faults,
    random: Mutex<StdRng>,
    calm: AtomicBool,
    /// Up to where somebody else has compacted.
    compacted: AtomicU64,
    /// Writes that are still to happen after their failure has been reported.
    late: AtomicUsize,
}

/// What happens to a write.
#[derive(Clone, Copy)]
enum Fate {
    Done,
    Refused,
    AnswerLost,
    RequestLost,
    Late,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Store>, faults: Faults, seed: u64) -> Faulty {
        Faulty(Arc::new(Shared {
            inner,
            faults,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            calm: AtomicBool::new(false),
            compacted: AtomicU64::new(0),
            late: AtomicUsize::new(0),
        }))
    }

    /// Nothing fails from now on. Answers when everything that is late has happened. Watches that fell silent stay so.
    pub async fn calm(&self) {
        self.0.calm.store(true, Ordering::SeqCst);
        while self.0.late.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn happens(&self, of_a_thousand: u32) -> bool {
        !self.0.calm.load(Ordering::SeqCst) && lock(&self.0.random).random_range(0..1000) < of_a_thousand
    }

    fn fate(&self) -> Fate {
        let faults = &self.0.faults;
        for (share, fate) in [
            (faults.refused, Fate::Refused),
            (faults.lost_answers, Fate::AnswerLost),
            (faults.lost_requests, Fate::RequestLost),
            (faults.late, Fate::Late),
        ] {
            if self.happens(share) {
                return fate;
            }
        }
        Fate::Done
    }

    /// Whether what lies at `revision` can still be read.
    fn check(&self, revision: Option<Revision>) -> Result<()> {
        let oldest = Revision(self.0.compacted.load(Ordering::SeqCst));
        match revision {
            Some(revision) if revision < oldest => Err(Error::Compacted { oldest }),
            _ => Ok(()),
        }
    }

    /// How long something that is delayed takes.
    fn delay(&self) -> Option<Duration> {
        let happens = self.happens(self.0.faults.delayed);
        happens.then(|| Duration::from_micros(lock(&self.0.random).random_range(0..3000)))
    }

    async fn dally(&self) {
        match self.delay() {
            Some(delay) if delay.as_micros() % 2 == 0 => tokio::time::sleep(delay).await,
            Some(_) => tokio::task::yield_now().await,
            None => {}
        }
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        self.dally().await;
        if self.happens(self.0.faults.refused) {
            return Err(refused());
        }
        let answer = read.await;
        self.dally().await;
        answer
    }

    async fn write(
        &self,
        key: &str,
        value: Option<Bytes>,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Revision> {
        self.dally().await;
        let fate = self.fate();
        match fate {
            Fate::Refused => return Err(refused()),
            Fate::RequestLost => return Err(unconfirmed()),
            Fate::Late => {
                let (faulty, key) = (self.clone(), key.to_owned());
                self.0.late.fetch_add(1, Ordering::SeqCst);
                let after = Duration::from_millis(lock(&self.0.random).random_range(0..10));
                fairlead_telemetry::task::spawn("test-late-write", async move {
                    tokio::time::sleep(after).await;
                    // Nobody is there to be told.
                    _ = faulty.do_write(&key, value, expect, lifetime).await;
                    faulty.0.late.fetch_sub(1, Ordering::SeqCst);
                });
                return Err(unconfirmed());
            }
            Fate::AnswerLost | Fate::Done => {}
        }
        let answer = self.do_write(key, value, expect, lifetime).await;
        self.dally().await;
        match fate {
            Fate::AnswerLost => Err(unconfirmed()),
            _ => answer,
        }
    }

    async fn do_write(
        &self,
        key: &str,
        value: Option<Bytes>,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Revision> {
        match value {
            Some(value) => self.0.inner.put(key, value, expect, lifetime).await,
            None => self.0.inner.delete(key, expect).await,
        }
    }
}

fn refused() -> Error {
    Error::Unavailable("injected".into())
}

fn unconfirmed() -> Error {
    Error::Indeterminate("injected".into())
}

impl Store for Faulty {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>> {
        Box::pin(self.read(self.0.inner.get(key)))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>> {
        Box::pin(async move {
            self.check(at)?;
            let read = async { self.0.inner.range(prefix, start, limit, at).await };
            self.read(read).await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(self.write(key, Some(value), expect, lifetime))
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(self.write(key, None, expect, None))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(async move {
            self.check(Some(after))?;
            let inner = self.read(async { self.0.inner.watch(prefix, after).await }).await?;
            let watch: Box<dyn Watch> = Box::new(FaultyWatch {
                inner,
                store: self.clone(),
                ahead: VecDeque::new(),
                held: None,
                ended: None,
                silent: false,
                waker: None,
            });
            Ok(watch)
        })
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        Box::pin(async move { self.read(async { self.0.inner.revision().await }).await })
    }

    fn last_change(&self, prefix: &str) -> Option<Revision> {
        (!self.0.faults.remote)
            .then(|| self.0.inner.last_change(prefix))
            .flatten()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.read(async { self.0.inner.compact(revision).await }).await })
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        self.0.inner.health()
    }
}

/// A watch that is late, torn into small batches, broken off, or falls silent.
struct FaultyWatch {
    inner: Box<dyn Watch>,
    store: Faulty,
    /// The rest of a batch that was divided between revisions.
    ahead: VecDeque<Batch>,
    held: Option<Pin<Box<Sleep>>>,
    ended: Option<Error>,
    silent: bool,
    waker: Option<Waker>,
}

impl FaultyWatch {
    /// Whether the next batch may come now; decides what comes instead.
    fn may_deliver(&mut self) -> Result<bool> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let faults = self.store.0.faults;
        if !self.silent && self.store.happens(faults.watch_stalls) {
            self.silent = true;
        }
        if !self.silent && self.store.happens(faults.watch_ends) {
            let error = self
                .ended
                .insert(Error::Unavailable("injected: the watch was broken off".into()));
            return Err(error.clone());
        }
        Ok(!self.silent)
    }

    /// Somebody else has compacted up to `revision`, which this watch has not reached.
    fn overtake(&mut self, revision: Revision) -> Error {
        self.store.0.compacted.fetch_max(revision.0, Ordering::SeqCst);
        self.ended.insert(Error::Compacted { oldest: revision }).clone()
    }

    /// Divides a batch where revisions end, sometimes.
    fn divide(&mut self, batch: Batch) -> Batch {
        if batch.changes.len() < 2 || !self.store.happens(self.store.0.faults.delayed) {
            return batch;
        }
        for change in batch.changes {
            match self.ahead.back_mut().filter(|last| last.revision == change.revision) {
                Some(last) => last.changes.push(change),
                None => self.ahead.push_back(Batch {
                    revision: change.revision,
                    changes: vec![change],
                }),
            }
        }
        if let Some(last) = self.ahead.back_mut() {
            last.revision = batch.revision;
        }
        self.ahead.pop_front().unwrap_or_default()
    }
}

impl Watch for FaultyWatch {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch>> {
        self.waker = Some(context.waker().clone());
        if let Some(batch) = self.ahead.pop_front() {
            return Poll::Ready(Ok(batch));
        }
        if self.held.is_none() && !self.may_deliver()? {
            return Poll::Pending;
        }
        if self.held.is_none()
            && let Some(delay) = self.store.delay()
        {
            self.held = Some(Box::pin(tokio::time::sleep(delay)));
        }
        if let Some(held) = &mut self.held {
            if held.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.held = None;
        }
        self.inner.poll_next(context).map(|batch| {
            let batch = batch?;
            if self.store.happens(self.store.0.faults.watch_compactions) {
                return Err(self.overtake(batch.revision));
            }
            Ok(self.divide(batch))
        })
    }

    fn ready(&mut self) -> Result<Option<Batch>> {
        if self.store.0.faults.remote {
            return Ok(None);
        }
        if let Some(batch) = self.ahead.pop_front() {
            return Ok(Some(batch));
        }
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if self.silent || self.held.is_some() {
            return Ok(None);
        }
        Ok(self.inner.ready()?.map(|batch| self.divide(batch)))
    }

    fn hurry(&mut self) {
        if let Some(waker) = self.waker.take_if(|_| !self.silent) {
            waker.wake();
        }
        self.inner.hurry();
    }
}
