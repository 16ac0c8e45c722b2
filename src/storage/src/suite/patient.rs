//! [`Patient`]: a client that tries again what certainly did not happen, and resumes watches where they broke off.

use crate::store::{Batch, Entry, Error, Expect, Range, Result, Revision, Store, Watch};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

const TRIES: usize = 100;

/// Behaves like the store below on a good day.
#[derive(Clone, Debug)]
pub struct Patient(pub Arc<dyn Store>);

impl Patient {
    async fn again<T, F: Future<Output = Result<T>>>(&self, operation: impl Fn() -> F) -> Result<T> {
        for _ in 0..TRIES {
            match operation().await {
                Err(Error::Unavailable(_)) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
        Err(Error::Unavailable(format!("{TRIES} tries failed")))
    }
}

impl Store for Patient {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>> {
        Box::pin(self.again(move || self.0.get(key)))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>> {
        Box::pin(self.again(move || self.0.range(prefix, start, limit, at)))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(self.again(move || self.0.put(key, value.clone(), expect, lifetime)))
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(self.again(move || self.0.delete(key, expect)))
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(async move {
            let inner = self.again(|| self.0.watch(prefix, after)).await?;
            let watch: Box<dyn Watch> = Box::new(PatientWatch {
                store: self.clone(),
                prefix: prefix.into(),
                reached: after,
                inner: Ok(inner),
            });
            Ok(watch)
        })
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        Box::pin(self.again(|| self.0.revision()))
    }

    fn last_change(&self, prefix: &str) -> Option<Revision> {
        self.0.last_change(prefix)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.again(move || self.0.compact(revision)))
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        self.0.health()
    }
}

struct PatientWatch {
    store: Patient,
    prefix: Arc<str>,
    reached: Revision,
    /// A watch, or one that is being opened.
    inner: Result<Box<dyn Watch>, BoxFuture<'static, Result<Box<dyn Watch>>>>,
}

impl Watch for PatientWatch {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch>> {
        loop {
            match &mut self.inner {
                Err(opening) => self.inner = Ok(ready!(opening.as_mut().poll(context))?),
                Ok(watch) => match ready!(watch.poll_next(context)) {
                    Ok(batch) => {
                        self.reached = batch.revision;
                        return Poll::Ready(Ok(batch));
                    }
                    Err(Error::Unavailable(_)) => {
                        let (store, prefix, after) = (self.store.clone(), self.prefix.clone(), self.reached);
                        self.inner = Err(Box::pin(async move { store.watch(&prefix, after).await }));
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
    }

    fn ready(&mut self) -> Result<Option<Batch>> {
        let Ok(watch) = &mut self.inner else { return Ok(None) };
        match watch.ready() {
            Ok(batch) => {
                self.reached = batch.as_ref().map_or(self.reached, |batch| batch.revision);
                Ok(batch)
            }
            // Told again when polled, which opens it anew.
            Err(Error::Unavailable(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn hurry(&mut self) {
        if let Ok(watch) = &mut self.inner {
            watch.hurry();
        }
    }
}
