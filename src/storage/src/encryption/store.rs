//! [`Encrypted`]: a store whose values are sealed in the store below and plain for everybody above.
// PERFORMANCE: per-request path

use crate::encryption::Encryption;
use crate::encryption::providers::{Opened, Place, Refused, open_plain};
use crate::store::{Batch, Change, Entry, Error, Expect, Past, Range, Result, Revision, Store, StoreObserver, Watch};
use bytes::Bytes;
use fairlead_api::GroupResource;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// One resource's view of a store.
pub(super) struct Encrypted {
    inner: Arc<dyn Store>,
    values: Arc<Values>,
}

/// Seals and opens the values of one resource with whatever keyring is in force.
struct Values {
    encryption: Encryption,
    resource: GroupResource,
}

impl Encrypted {
    pub fn new(inner: Arc<dyn Store>, encryption: Encryption, resource: GroupResource) -> Encrypted {
        Encrypted {
            inner,
            values: Arc::new(Values { encryption, resource }),
        }
    }
}

impl Values {
    fn seal(&self, key: &str, plain: Bytes) -> Result<Bytes> {
        let keyring = self.encryption.0.keyring.load_full();
        let Some(chain) = keyring.of(&self.resource) else {
            return Ok(plain);
        };
        let whole = self.whole(key);
        chain
            .seal(&plain, &self.place(&whole))
            .map_err(|refused| failed(&whole, refused))
    }

    async fn open(&self, key: &str, sealed: Bytes) -> Result<Opened> {
        let keyring = self.encryption.0.keyring.load_full();
        let whole = self.whole(key);
        let opened = match keyring.of(&self.resource) {
            Some(chain) => chain.open(&sealed, &self.place(&whole)).await,
            None => open_plain(&sealed).map(|()| Opened {
                value: sealed,
                stale: false,
            }),
        };
        opened.map_err(|refused| failed(&whole, refused))
    }

    async fn entry(&self, entry: Entry) -> Result<Entry> {
        let value = self.open(&entry.key, entry.value).await?.value;
        Ok(Entry { value, ..entry })
    }

    async fn batch(self: Arc<Self>, mut batch: Batch) -> Result<Batch> {
        for change in &mut batch.changes {
            self.change(change).await?;
        }
        Ok(batch)
    }

    /// As far back as it can be read.
    async fn past(&self, mut past: Past) -> Past {
        for index in (0..past.changes.len()).rev() {
            if let Err(error) = self.whole_change(&mut past.changes[index]).await {
                tracing::debug!(%error, "history ends at a value that cannot be read");
                past.after = past.changes[index].revision;
                past.changes.drain(..=index);
                break;
            }
        }
        past
    }

    async fn whole_change(&self, change: &mut Change) -> Result<()> {
        if let Some(sealed) = change.value.take() {
            change.value = Some(self.open(&change.key, sealed).await?.value);
        }
        if let Some(previous) = change.previous.take() {
            change.previous = Some(self.entry(previous).await?);
        }
        Ok(())
    }

    async fn change(&self, change: &mut Change) -> Result<()> {
        if let Some(sealed) = change.value.take() {
            change.value = Some(self.open(&change.key, sealed).await?.value);
        }
        if let Some(previous) = change.previous.take() {
            // A last state nobody can read must not keep the delete from being seen.
            change.previous = self.entry(previous).await.ok();
        }
        Ok(())
    }

    fn whole(&self, key: &str) -> String {
        format!("{}{key}", self.encryption.0.prefix)
    }

    fn place<'a>(&'a self, whole: &'a str) -> Place<'a> {
        Place {
            resource: &self.resource,
            key: whole,
            metrics: &self.encryption.0.metrics,
        }
    }
}

fn failed(key: &str, refused: Refused) -> Error {
    Error::Transform {
        passing: refused.status.is_some(),
        message: format!("unable to transform key {key:?}: {}", refused.message),
    }
}

impl Store for Encrypted {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>> {
        Box::pin(async move {
            let (entry, revision) = self.inner.get(key).await?;
            let entry = match entry {
                Some(entry) => Some(self.values.entry(entry).await?),
                None => None,
            };
            Ok((entry, revision))
        })
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>> {
        Box::pin(async move {
            let mut range = self.inner.range(prefix, start, limit, at).await?;
            for entry in &mut range.entries {
                let sealed = std::mem::take(&mut entry.value);
                entry.value = self.values.open(&entry.key, sealed).await?.value;
            }
            Ok(range)
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(async move {
            let sealed = self.values.seal(key, value)?;
            let written = self.inner.put(key, sealed, expect, lifetime).await;
            opened_conflict(&self.values, written).await
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(async move { opened_conflict(&self.values, self.inner.delete(key, expect).await).await })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(async move {
            let watch: Box<dyn Watch> = Box::new(Opening {
                inner: self.inner.watch(prefix, after).await?,
                values: self.values.clone(),
                opening: None,
                waker: None,
            });
            Ok(watch)
        })
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        self.inner.revision()
    }

    fn last_change(&self, prefix: &str) -> Option<Revision> {
        self.inner.last_change(prefix)
    }

    fn past<'a>(&'a self, prefix: &'a str, to: Revision, bytes: usize) -> BoxFuture<'a, Result<Option<Past>>> {
        Box::pin(async move {
            let past = self.inner.past(prefix, to, bytes).await?;
            Ok(match past {
                Some(past) => Some(self.values.past(past).await),
                None => None,
            })
        })
    }

    fn outdated<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        Box::pin(async move {
            let (Some(entry), _) = self.inner.get(key).await? else {
                return Ok(None);
            };
            let opened = self.values.open(key, entry.value).await?;
            Ok(opened.stale.then_some(Entry {
                value: opened.value,
                ..entry
            }))
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.inner.compact(revision)
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.health()
    }

    fn observer(&self) -> Option<&dyn StoreObserver> {
        self.inner.observer()
    }
}

async fn opened_conflict(values: &Values, written: Result<Revision>) -> Result<Revision> {
    match written {
        Err(Error::Conflict { current: Some(entry) }) => Err(Error::Conflict {
            current: Some(values.entry(entry).await?),
        }),
        other => other,
    }
}

impl std::fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encrypted")
            .field("resource", &self.values.resource)
            .field("inner", &self.inner)
            .finish()
    }
}

/// A watch that opens what comes. Only a plugin's keys ever make it wait.
struct Opening {
    inner: Box<dyn Watch>,
    values: Arc<Values>,
    /// A batch that waits for a plugin.
    opening: Option<BoxFuture<'static, Result<Batch>>>,
    /// Who waits for the next batch, whoever polls meanwhile.
    waker: Option<Waker>,
}

impl Opening {
    fn poll_opening(&mut self) -> Poll<Result<Batch>> {
        let Some(opening) = &mut self.opening else {
            return Poll::Pending;
        };
        let waker = self.waker.as_ref().unwrap_or(Waker::noop());
        let polled = opening.as_mut().poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            self.opening = None;
        }
        polled
    }

    fn open(&mut self, batch: Batch) -> Poll<Result<Batch>> {
        if batch.changes.is_empty() {
            return Poll::Ready(Ok(batch));
        }
        self.opening = Some(Box::pin(self.values.clone().batch(batch)));
        self.poll_opening()
    }
}

impl Watch for Opening {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Batch>> {
        self.waker = Some(context.waker().clone());
        if self.opening.is_some() {
            return self.poll_opening();
        }
        match self.inner.poll_next(context) {
            Poll::Ready(Ok(batch)) => self.open(batch),
            other => other,
        }
    }

    fn ready(&mut self) -> Result<Option<Batch>> {
        if self.opening.is_none() {
            match self.inner.ready()? {
                Some(batch) => match self.open(batch) {
                    Poll::Ready(opened) => return opened.map(Some),
                    Poll::Pending => return Ok(None),
                },
                None => return Ok(None),
            }
        }
        match self.poll_opening() {
            Poll::Ready(opened) => opened.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn hurry(&mut self) {
        self.inner.hurry();
    }
}
