//! Asking a store for its revision, one request for all who ask at the same time.

use crate::cache::{Cache, Inner};
use crate::feed::lock;
use crate::store::{Error, Result, Revision};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::sync::Arc;

type Round = Shared<BoxFuture<'static, Result<Revision>>>;

/// The request under way and the one after it. Who comes while one is under way cannot use its answer, which may be
/// older than the call, and waits for the next.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    under_way: Option<Round>,
    next: Option<Round>,
}

impl Cache {
    /// The store's revision: no write acknowledged before the call has a higher one.
    pub(super) async fn store_revision(&self) -> Result<Revision> {
        match self.0.store.revision_now() {
            Some(revision) => Ok(revision),
            None => self.0.join().await,
        }
    }
}

impl Inner {
    fn join(self: &Arc<Inner>) -> Round {
        let mut rounds = lock(&self.rounds);
        if let Some(next) = &rounds.next {
            return next.clone();
        }
        let before = rounds.under_way.take();
        let inner = Arc::downgrade(self);
        // Driven by whoever waits for it, so that no one has to answer for the others.
        let round = async move {
            if let Some(before) = before {
                _ = before.await;
            }
            let Some(inner) = inner.upgrade() else {
                return Err(Error::Unavailable("the cache is gone".into()));
            };
            {
                // From here on a newcomer is too late.
                let mut rounds = lock(&inner.rounds);
                rounds.under_way = rounds.next.take();
            }
            inner.store.revision().await
        };
        let round = round.boxed().shared();
        rounds.next = Some(round.clone());
        round
    }
}
