//! [`Switch`]: one store after another, so that tests can restart what is below everything else.

use crate::store::{Entry, Expect, Range, Result, Revision, Store, Watch};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Passes everything on to the store of the moment.
#[derive(Debug)]
pub struct Switch(RwLock<Arc<dyn Store>>);

impl Switch {
    pub fn new(store: Arc<dyn Store>) -> Switch {
        Switch(RwLock::new(store))
    }

    pub fn replace(&self, store: Arc<dyn Store>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = store;
    }

    fn current(&self) -> Arc<dyn Store> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store for Switch {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(Option<Entry>, Revision)>> {
        Box::pin(async move { self.current().get(key).await })
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        start: &'a str,
        limit: usize,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Range>> {
        Box::pin(async move { self.current().range(prefix, start, limit, at).await })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(async move { self.current().put(key, value, expect, lifetime).await })
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Expect) -> BoxFuture<'a, Result<Revision>> {
        Box::pin(async move { self.current().delete(key, expect).await })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        Box::pin(async move { self.current().watch(prefix, after).await })
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision>> {
        Box::pin(async move { self.current().revision().await })
    }

    fn last_change(&self, prefix: &str) -> Option<Revision> {
        self.current().last_change(prefix)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.current().compact(revision).await })
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.current().health().await })
    }
}
