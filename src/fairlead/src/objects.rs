//! [`CachedObjects`]: how authentication and authorization read cluster objects, over the watch caches.
// PERFORMANCE: per-request path

use crate::caches::CacheSet;
use compact_str::CompactString;
use dashmap::DashMap;
use fairlead_api::{GroupResource, Node, json};
use fairlead_auth::ObjectSource;
use fairlead_auth::objects::{Change, Changes};
use fairlead_storage::{Cache, CacheEvent, Cached, Revision, WatchScope, Watcher};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Parsed objects of the resources that somebody asked for, brought up to date whenever they are asked for again.
pub struct CachedObjects {
    caches: CacheSet,
    followed: DashMap<GroupResource, Arc<Followed>>,
}

struct Followed {
    cache: Cache,
    /// Of the cache when `state` was last brought up to date.
    seen: AtomicU64,
    version: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watcher: Option<Watcher>,
    objects: HashMap<Arc<str>, Arc<Node>>,
    /// The newest changes, with the version each led to.
    log: Vec<(u64, Arc<str>, Option<Arc<Node>>)>,
}

/// How many changes are kept for those who come back after a while.
const LOG: usize = 1024;

impl CachedObjects {
    pub fn new(caches: CacheSet) -> CachedObjects {
        CachedObjects {
            caches,
            followed: DashMap::new(),
        }
    }

    /// Lets go of all caches.
    pub fn clear(&self) {
        self.followed.clear();
    }

    fn follow(&self, group: &str, plural: &str) -> Option<Arc<Followed>> {
        let resource = GroupResource::new(group, plural);
        if let Some(followed) = self.followed.get(&resource) {
            return Some(followed.clone());
        }
        let cache = self.caches.of(group, plural)?;
        let made = || {
            Arc::new(Followed {
                cache,
                seen: AtomicU64::new(u64::MAX),
                version: AtomicU64::new(1),
                state: Mutex::default(),
            })
        };
        Some(self.followed.entry(resource).or_insert_with(made).clone())
    }
}

impl Followed {
    /// Takes in what the cache has, and answers the version.
    fn refresh(&self) -> u64 {
        let Revision(now) = self.cache.latest().revision;
        if self.seen.load(Ordering::Acquire) == now {
            return self.version.load(Ordering::Acquire);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version.load(Ordering::Acquire);
        let version = state.catch_up(&self.cache, version);
        self.version.store(version, Ordering::Release);
        self.seen.store(now, Ordering::Release);
        version
    }

    fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.refresh();
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Applies the events since the last time; reads everything where there was none or events were lost.
    fn catch_up(&mut self, cache: &Cache, mut version: u64) -> u64 {
        if let Some(watcher) = &mut self.watcher {
            let mut context = Context::from_waker(Waker::noop());
            loop {
                let (key, object) = match watcher.poll_next(&mut context) {
                    Poll::Pending => {
                        self.log.drain(..self.log.len().saturating_sub(LOG));
                        return version;
                    }
                    Poll::Ready(Ok(CacheEvent::Progress(_))) => continue,
                    Poll::Ready(Ok(CacheEvent::Put { object, .. })) => (object.key.clone(), parse(&object)),
                    Poll::Ready(Ok(CacheEvent::Delete { object, .. })) => (object.key.clone(), None),
                    Poll::Ready(Err(_)) => break,
                };
                version += 1;
                match &object {
                    Some(object) => self.objects.insert(key.clone(), object.clone()),
                    None => self.objects.remove(&key),
                };
                self.log.push((version, key, object));
            }
        }
        let snapshot = cache.latest();
        self.watcher = cache.watch(Some(snapshot.revision), WatchScope::All).ok();
        self.objects = snapshot
            .range("", "")
            .filter_map(|o| Some((o.key.clone(), parse(o)?)))
            .collect();
        self.log.clear();
        version + 1
    }
}

fn parse(object: &Cached) -> Option<Arc<Node>> {
    match json::parse(&object.json.text()) {
        Ok(node) => Some(Arc::new(node)),
        Err(error) => {
            tracing::error!(key = &*object.key, %error, "a cached object is not JSON");
            None
        }
    }
}

/// Where a cache has an object, below its prefix.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

impl ObjectSource for CachedObjects {
    fn version(&self, group: &str, plural: &str) -> u64 {
        self.follow(group, plural).map_or(0, |f| f.refresh())
    }

    fn list(&self, group: &str, plural: &str) -> Vec<Arc<Node>> {
        let Some(followed) = self.follow(group, plural) else {
            return Vec::new();
        };
        followed.with_state(|state| state.objects.values().cloned().collect())
    }

    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>> {
        let cache = self.caches.of(group, plural)?;
        parse(cache.latest().get(&key(namespace, name))?)
    }

    fn changes(&self, group: &str, plural: &str, since: u64) -> (u64, Changes) {
        let Some(followed) = self.follow(group, plural) else {
            return (0, Changes::All(Vec::new()));
        };
        let version = followed.refresh();
        let state = followed.state.lock().unwrap_or_else(PoisonError::into_inner);
        if since == version {
            return (version, Changes::Some(Vec::new()));
        }
        let known = since > 0 && state.log.first().is_some_and(|(first, ..)| *first <= since + 1);
        let changes = if known {
            let newer = state.log.iter().filter(|(v, ..)| *v > since);
            Changes::Some(newer.map(|(_, key, object)| change(key, object.clone())).collect())
        } else {
            Changes::All(state.objects.values().cloned().collect())
        };
        (version, changes)
    }

    fn latest<'a>(
        &'a self,
        group: &'a str,
        plural: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Arc<Node>>> {
        Box::pin(async move {
            let snapshot = self.caches.of(group, plural)?.fresh().await.ok()?;
            parse(snapshot.get(&key(namespace, name))?)
        })
    }
}

fn change(key: &str, object: Option<Arc<Node>>) -> Change {
    let (namespace, name) = key.rsplit_once('/').unwrap_or(("", key));
    Change {
        namespace: CompactString::from(namespace),
        name: CompactString::from(name),
        object,
    }
}
