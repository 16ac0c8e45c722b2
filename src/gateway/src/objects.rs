//! [`ObjectSource`]: how the gateway reads cluster objects. [`ApiServices`]: how it writes the ones that are its own.

use crate::changes::{Changes, service_of, told_as};
use compact_str::CompactString;
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use tokio::sync::watch;

/// A resource, by group and plural.
pub type Resource = (&'static str, &'static str);

pub const API_SERVICES: Resource = ("apiregistration.k8s.io", "apiservices");
pub const BACKEND_POLICIES: Resource = ("gateway.fairlead.dev", "backendpolicies");
pub const SERVICES: Resource = ("", "services");
pub const ENDPOINT_SLICES: Resource = ("discovery.k8s.io", "endpointslices");

/// The label by which an EndpointSlice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Read access to stored objects. Called on request paths: nothing here may block.
///
/// **Guarantees**: after a write, `changes` shows a new number, and reads from then on show the write.
/// **Non-guarantees**: intermediate states may be passed over.
pub trait ObjectSource: Send + Sync {
    /// `namespace` is empty for cluster-scoped resources.
    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Arc<Node>>;

    /// All objects of the resource, in any order.
    fn list(&self, resource: Resource) -> Vec<Arc<Node>>;

    /// A number that changes with every write to the resource.
    fn changes(&self, resource: Resource) -> watch::Receiver<u64>;

    /// A number that changes with every write to one object; of EndpointSlices, with every write to a slice of the Service
    /// `name`. It may move with others' writes, too. Override where objects are told apart.
    fn changes_of(&self, resource: Resource, _namespace: &str, _name: &str) -> watch::Receiver<u64> {
        self.changes(resource)
    }

    /// The slices of one Service. Override where there is an index.
    fn endpoint_slices(&self, namespace: &str, service: &str) -> Vec<Arc<Node>> {
        let belongs = |slice: &Arc<Node>| slice.namespace() == namespace && service_of(slice) == service;
        let mut slices = self.list(ENDPOINT_SLICES);
        slices.retain(belongs);
        slices
    }
}

/// Writes APIServices on the server's own behalf, with `kube-apiserver` as field manager.
///
/// **Failure**: a conflict or a missing object is no error to dwell on; the change that caused it leads to another round.
pub trait ApiServices: Send + Sync {
    fn create(&self, object: Node) -> BoxFuture<'_, StatusResult<()>>;

    /// `object` carries the resourceVersion it was made from.
    fn update(&self, object: Node) -> BoxFuture<'_, StatusResult<()>>;

    fn update_status(&self, object: Node) -> BoxFuture<'_, StatusResult<()>>;

    fn delete<'a>(&'a self, name: &'a str, uid: &'a str) -> BoxFuture<'a, StatusResult<()>>;
}

/// Writes what BackendPolicies say of themselves.
pub trait BackendPolicies: Send + Sync {
    /// `object` carries the resourceVersion it was made from.
    fn update_policy_status(&self, object: Node) -> BoxFuture<'_, StatusResult<()>>;
}

/// Objects in memory: copies of another server's, or those of tests.
pub struct MemoryObjects {
    objects: RwLock<BTreeMap<Place, Arc<Node>>>,
    named: Changes,
    changes: watch::Sender<u64>,
}

type Place = (Resource, CompactString, CompactString);

impl Default for MemoryObjects {
    fn default() -> MemoryObjects {
        MemoryObjects {
            objects: RwLock::default(),
            named: Changes::default(),
            changes: watch::Sender::new(1),
        }
    }
}

impl MemoryObjects {
    pub fn put(&self, resource: Resource, object: Node) {
        let place = (resource, object.namespace().into(), object.name().into());
        let object = Arc::new(object);
        let old = self.write().insert(place, object.clone());
        self.tell(resource, old.into_iter().chain([object]));
    }

    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) {
        let place = (resource, namespace.into(), name.into());
        let old = self.write().remove(&place);
        self.tell(resource, old);
    }

    fn tell(&self, resource: Resource, changed: impl IntoIterator<Item = Arc<Node>>) {
        for object in changed {
            self.named
                .tell(resource, object.namespace(), told_as(resource, &object));
        }
        self.changes.send_modify(|n| *n += 1);
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Place, Arc<Node>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectSource for MemoryObjects {
    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Arc<Node>> {
        let place = (resource, namespace.into(), name.into());
        self.objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&place)
            .cloned()
    }

    fn list(&self, resource: Resource) -> Vec<Arc<Node>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects
            .iter()
            .filter(|((r, _, _), _)| *r == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn changes(&self, _: Resource) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changes_of(&self, resource: Resource, namespace: &str, name: &str) -> watch::Receiver<u64> {
        self.named.of(resource, namespace, name)
    }
}
