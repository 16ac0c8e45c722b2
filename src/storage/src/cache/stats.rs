//! [`Stats`]: what a cache has done and holds, for metrics.
// PERFORMANCE: per-request path

use crate::cache::{Cache, read};
use crate::feed::lock;
use compact_str::CompactString;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the start of the process, except where it says now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Times everything was loaded from the store, and objects that were.
    pub initializations: u64,
    pub init_events: u64,
    /// Lists that went to the store for a state of the past, and objects they read.
    pub store_lists: u64,
    pub store_list_objects: u64,
    /// Changes that came from the store.
    pub events_received: u64,
    /// Events that were handed to watchers.
    pub events_dispatched: u64,
    /// Watchers that fell behind.
    pub terminated_watchers: u64,
    /// Lists by the index they used, `""` for none.
    pub lists: BTreeMap<CompactString, Listed>,
    /// Objects that lists answered with.
    pub listed: u64,
    /// Now: the revision everything is applied up to.
    pub revision: u64,
    /// Now: objects, and the bytes of their JSON.
    pub objects: u64,
    pub object_bytes: u64,
    /// Now: events for watchers, and bytes they may take, and take.
    pub events: u64,
    pub event_bytes: u64,
    pub event_capacity: u64,
    /// Now.
    pub watchers: u64,
}

/// Lists that used one index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    pub lists: u64,
    /// Objects that were looked at.
    pub fetched: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub initializations: AtomicU64,
    pub init_events: AtomicU64,
    pub store_lists: AtomicU64,
    pub store_list_objects: AtomicU64,
    pub events_received: AtomicU64,
    pub events_dispatched: AtomicU64,
    pub terminated_watchers: AtomicU64,
    pub object_bytes: AtomicU64,
    listed: AtomicU64,
    lists: Mutex<BTreeMap<CompactString, Listed>>,
}

pub(super) fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

impl Cache {
    /// Counts a list: the index it used (`""` for none), how many objects it looked at and how many it answered with.
    pub fn listed(&self, index: &str, fetched: usize, returned: usize) {
        let counts = &self.0.counts;
        add(&counts.listed, returned);
        let mut lists = lock(&counts.lists);
        let listed = match lists.get_mut(index) {
            Some(listed) => listed,
            None => lists.entry(index.into()).or_default(),
        };
        listed.lists += 1;
        listed.fetched += fetched as u64;
    }

    pub fn stats(&self) -> Stats {
        let counts = &self.0.counts;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let latest = self.latest();
        let lists = lock(&counts.lists).clone();
        let ring = read(&self.0.ring);
        let (events, event_bytes, event_capacity) = ring.size();
        Stats {
            initializations: count(&counts.initializations),
            init_events: count(&counts.init_events),
            store_lists: count(&counts.store_lists),
            store_list_objects: count(&counts.store_list_objects),
            events_received: count(&counts.events_received),
            events_dispatched: count(&counts.events_dispatched),
            terminated_watchers: count(&counts.terminated_watchers),
            lists,
            listed: count(&counts.listed),
            revision: latest.revision.0,
            objects: latest.len() as u64,
            object_bytes: count(&counts.object_bytes),
            events: events as u64,
            event_bytes: event_bytes as u64,
            event_capacity: event_capacity as u64,
            watchers: ring.watchers() as u64,
        }
    }
}
