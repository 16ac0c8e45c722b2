//! Events from before the cache was loaded, out of the store's history, for watchers that resume after a restart.

use crate::cache::ring::Event;
use crate::cache::{Cache, Inner, Snapshot, WatchScope, Watcher, read, write};
use crate::cached::Cached;
use crate::feed::lock;
use crate::store::{Change, Error, Result, Revision};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Whether the ring has been filled from history since it was last empty. Many watchers may ask; one reads.
pub(super) type Refilled = Arc<OnceCell<()>>;

impl Cache {
    /// As [`Cache::watch`]. Where `after` lies before everything in memory, the events between are taken from the
    /// store's history first: as far back as that goes, and as many as fit.
    ///
    /// # Errors
    /// [`Error::Compacted`].
    pub async fn watch_from(&self, after: Revision, scope: WatchScope) -> Result<Watcher> {
        match self.watch(Some(after), scope.clone()) {
            Err(Error::Compacted { .. }) => {}
            result => return result,
        }
        let refilled = lock(&self.0.refilled).clone();
        if let Err(error) = refilled.get_or_try_init(|| self.refill()).await {
            tracing::warn!(prefix = %self.0.prefix, %error, "the history of the store cannot be read");
        }
        self.watch(Some(after), scope)
    }

    async fn refill(&self) -> Result<()> {
        let front = read(&self.0.ring).front();
        let past = self.0.store.past(&self.0.prefix, Revision(front.floor), front.room);
        let Some(past) = past.await? else { return Ok(()) };
        let inner = self.0.clone();
        let latest = self.latest();
        let decoded = tokio::task::spawn_blocking(move || {
            let events = inner.events(&latest, past.changes);
            write(&inner.ring).prepend(front, events, past.after.0);
        });
        decoded.await.map_err(|error| Error::Unavailable(error.to_string()))
    }
}

impl Inner {
    /// Events as they were when the changes happened. What is still there is shared with the latest state.
    fn events(&self, latest: &Snapshot, changes: Vec<Change>) -> Vec<Event> {
        let mut states: HashMap<Arc<str>, Option<Arc<Cached>>> = HashMap::new();
        let decode = |key: &str, value: &Bytes, revision: Revision| match latest.get(key) {
            Some(object) if object.revision == revision => Some(object.clone()),
            _ => self.decode.decode(key, value, revision).ok().map(Arc::new),
        };
        let event = |change: Change| {
            let key = &change.key[self.prefix.len()..];
            let known = states.remove(key);
            let previous = known.unwrap_or_else(|| {
                let entry = change.previous.as_ref()?;
                decode(key, &entry.value, entry.mod_revision)
            });
            let object = change
                .value
                .as_ref()
                .and_then(|value| decode(key, value, change.revision));
            states.insert(key.into(), object.clone());
            let revision = change.revision.0;
            match (object, previous) {
                (Some(object), previous) => Some(Event {
                    revision,
                    object,
                    previous,
                    deleted: false,
                }),
                (None, Some(previous)) => {
                    let last = change.previous.as_ref().map(|entry| &entry.value);
                    Some(Event {
                        revision,
                        object: Arc::new(self.last_state(&previous, last, change.revision)),
                        previous: Some(previous),
                        deleted: true,
                    })
                }
                (None, None) => None,
            }
        };
        changes.into_iter().filter_map(event).collect()
    }
}
