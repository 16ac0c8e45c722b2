//! [`CacheSet`]: the watch cache of every resource, by the prefix its objects lie under.

use crate::cache_metrics::CacheMetrics;
use crate::store::Stores;
use dashmap::DashMap;
use fairlead_api::{GroupResource, Status, StatusResult};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::definition::StorageSpec;
use fairlead_resource::engine::Caches;
use fairlead_resource::storage_codec::StoredObjects;
use fairlead_storage::{Cache, CacheConfig, Encryption, Store};
use fairlead_telemetry::Families;
use std::sync::Arc;
use std::time::Duration;

/// All caches over one store. Cheap to clone.
#[derive(Clone)]
pub struct CacheSet(Arc<Inner>);

struct Inner {
    stores: Stores,
    encryption: Option<Encryption>,
    by_prefix: DashMap<String, Cache>,
    by_owner: DashMap<GroupResource, Cache>,
    /// Of each cache's event ring.
    ring_bytes: usize,
}

/// How old the metrics of caches may be.
const COUNTED_EVERY: Duration = Duration::from_secs(5);
/// Enough for minutes of changes of a busy resource.
const RING_BYTES: usize = 16 << 20;

impl CacheSet {
    /// `encryption` stands between the stores and every cache.
    pub fn new(stores: Stores, encryption: Option<Encryption>) -> CacheSet {
        CacheSet(Arc::new(Inner {
            stores,
            encryption,
            by_prefix: DashMap::new(),
            by_owner: DashMap::new(),
            ring_bytes: RING_BYTES,
        }))
    }

    /// Starts the caches of definitions that have none yet. Versions of one resource share theirs, which reads objects
    /// by the version they are stored in.
    pub fn register(&self, definitions: &[Arc<ResourceDefinition>]) {
        for definition in definitions {
            let stored = definition.gvk() == definition.storage.kind;
            let started = self.0.by_owner.contains_key(&definition.group_resource())
                && self.0.by_prefix.contains_key(&definition.storage.prefix);
            if stored && !started && !definition.storage.prefix.is_empty() {
                self.start(definition, definitions);
            }
        }
        for definition in definitions.iter().filter(|d| !d.storage.prefix.is_empty()) {
            // A second name for the same objects (events of two groups).
            if let Some(cache) = self.get(&definition.storage.prefix) {
                self.0.by_owner.entry(definition.group_resource()).or_insert(cache);
            } else {
                self.start(definition, definitions);
            }
        }
    }

    pub fn get(&self, prefix: &str) -> Option<Cache> {
        self.0.by_prefix.get(prefix).map(|c| c.clone())
    }

    pub fn of(&self, group: &str, plural: &str) -> Option<Cache> {
        self.0
            .by_owner
            .get(&GroupResource::new(group, plural))
            .map(|c| c.clone())
    }

    /// All caches, in no order.
    pub fn all(&self) -> Vec<Cache> {
        self.0.by_prefix.iter().map(|c| c.clone()).collect()
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        self.0.stores.default()
    }

    /// The store that a resource's objects are in, as it is: for what lies beside them and is never encrypted.
    pub fn store_of(&self, resource: &GroupResource) -> Arc<dyn Store> {
        self.0.stores.of(resource).clone()
    }

    /// Tells the metrics of all caches, until it is dropped.
    pub async fn count(self, families: Families) {
        let mut metrics = CacheMetrics::register(&families);
        loop {
            let owners = self.0.by_owner.iter();
            metrics.tell(owners.map(|entry| (entry.key().clone(), entry.stats())).collect());
            tokio::time::sleep(COUNTED_EVERY).await;
        }
    }

    /// Forgets the cache of a resource that is no longer served, or read by other schemas from now on. Its watches end:
    /// clients come back to what there is then.
    pub fn forget(&self, prefix: &str, resource: &GroupResource) {
        self.0.by_owner.remove(resource);
        if let Some((_, cache)) = self.0.by_prefix.remove(prefix) {
            cache.retire();
        }
    }

    /// Ends all caches, before the store goes.
    pub fn clear(&self) {
        self.0.by_prefix.clear();
        self.0.by_owner.clear();
    }

    fn start(&self, definition: &Arc<ResourceDefinition>, all: &[Arc<ResourceDefinition>]) {
        let prefix = &definition.storage.prefix;
        let others = all
            .iter()
            .filter(|d| d.is_custom() && d.storage.prefix == *prefix)
            .cloned()
            .collect();
        let cache = self.0.by_prefix.entry(prefix.clone()).or_insert_with(|| {
            let config = CacheConfig {
                prefix: prefix.clone(),
                decode: Arc::new(StoredObjects::new(definition.clone()).beside(others)),
                ring_bytes: self.0.ring_bytes,
            };
            let store = self.0.stores.of(&definition.group_resource()).clone();
            let store = match &self.0.encryption {
                Some(encryption) => encryption.over(store, definition.storage.owner.clone()),
                None => store,
            };
            Cache::start(store, config)
        });
        self.0
            .by_owner
            .entry(definition.group_resource())
            .or_insert_with(|| cache.clone());
    }
}

impl Caches for CacheSet {
    fn cache(&self, storage: &StorageSpec) -> StatusResult<Cache> {
        self.get(&storage.prefix)
            .ok_or_else(|| Status::unavailable("the resource is not ready yet"))
    }
}
