//! [`ObjectSource`]: how authenticators and authorizers read cluster objects.

use compact_str::CompactString;
use fairlead_api::Node;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Read access to stored objects, by group and plural, whatever version they are stored in.
///
/// **Operations**: a change counter, lists, deltas, single objects. Called on every request, so `version` must be an
/// atomic load or two, and nothing here may block on IO except [`latest`](ObjectSource::latest).
/// **Guarantees**: once a write to a resource was acknowledged by this server, `version` has changed and `changes`
/// shows it. **Non-guarantees**: writes through another server may show late, except in `latest`.
pub trait ObjectSource: Send + Sync {
    /// A number that grows whenever an object of the resource is written or deleted.
    fn version(&self, group: &str, plural: &str) -> u64;

    /// All objects of the resource, in any order.
    fn list(&self, group: &str, plural: &str) -> Vec<Arc<Node>>;

    /// `namespace` is empty for cluster-scoped resources.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>>;

    /// What changed since version `since` (0 for everything), and the version this leads to.
    /// Answering [`Changes::All`] is always correct; deltas are what keeps busy resources cheap.
    fn changes(&self, group: &str, plural: &str, since: u64) -> (u64, Changes) {
        let version = self.version(group, plural);
        if since == version && since != 0 {
            (version, Changes::Some(Vec::new()))
        } else {
            (version, Changes::All(self.list(group, plural)))
        }
    }

    /// Like [`get`](ObjectSource::get), but not older than any acknowledged write of any server.
    /// Only called where `get` found nothing.
    fn latest<'a>(
        &'a self,
        group: &'a str,
        plural: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Arc<Node>>> {
        Box::pin(std::future::ready(self.get(group, plural, namespace, name)))
    }
}

/// How a resource changed.
pub enum Changes {
    /// Forget everything; this is all there is.
    All(Vec<Arc<Node>>),
    /// In order of their writes.
    Some(Vec<Change>),
}

/// One object's latest state; `None` where it was deleted.
pub struct Change {
    pub namespace: CompactString,
    pub name: CompactString,
    pub object: Option<Arc<Node>>,
}

/// Finds an object, asking again for the latest state before it says there is none.
pub(crate) async fn find(
    source: &dyn ObjectSource,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Option<Arc<Node>> {
    match source.get(group, plural, namespace, name) {
        Some(object) => Some(object),
        None => source.latest(group, plural, namespace, name).await,
    }
}

/// Objects in memory: for tests, and for tools that work on manifests.
#[derive(Default)]
pub struct MemoryObjects {
    objects: RwLock<BTreeMap<Place, Arc<Node>>>,
    version: AtomicU64,
}

type Place = (String, String, String, String);

impl MemoryObjects {
    pub fn new() -> MemoryObjects {
        MemoryObjects {
            version: AtomicU64::new(1),
            ..MemoryObjects::default()
        }
    }

    pub fn put(&self, group: &str, plural: &str, object: Node) {
        let place = (
            group.to_owned(),
            plural.to_owned(),
            object.namespace().to_owned(),
            object.name().to_owned(),
        );
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place, Arc::new(object));
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    pub fn delete(&self, group: &str, plural: &str, namespace: &str, name: &str) {
        let place = (
            group.to_owned(),
            plural.to_owned(),
            namespace.to_owned(),
            name.to_owned(),
        );
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&place);
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

impl ObjectSource for MemoryObjects {
    fn version(&self, _: &str, _: &str) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    fn list(&self, group: &str, plural: &str) -> Vec<Arc<Node>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects
            .iter()
            .filter(|((g, p, _, _), _)| g == group && p == plural)
            .map(|(_, o)| Arc::clone(o))
            .collect()
    }

    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Node>> {
        let place = (
            group.to_owned(),
            plural.to_owned(),
            namespace.to_owned(),
            name.to_owned(),
        );
        self.objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&place)
            .cloned()
    }
}
