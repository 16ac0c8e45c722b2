//! [`Slices`]: the EndpointSlices of a Service, without a look at those of all others.
// PERFORMANCE: per-request path

use crate::objects::CachedObjects;
use compact_str::CompactString;
use fairlead_api::Node;
use fairlead_auth::ObjectSource;
use fairlead_auth::objects::Changes;
use fairlead_gateway::changes::service_of;
use fairlead_gateway::objects::ENDPOINT_SLICES;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// An index that is brought up to date when it is asked.
#[derive(Default)]
pub struct Slices(Mutex<Index>);

#[derive(Default)]
struct Index {
    version: u64,
    services: HashMap<Key, BTreeMap<CompactString, Arc<Node>>>,
    /// The Service of every slice, by the slice's own name.
    belongs: HashMap<Key, CompactString>,
}

/// Namespace and name.
type Key = (CompactString, CompactString);

impl Slices {
    pub fn of(&self, objects: &CachedObjects, namespace: &str, service: &str) -> Vec<Arc<Node>> {
        let (group, plural) = ENDPOINT_SLICES;
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if objects.version(group, plural) != index.version {
            let (version, changes) = objects.changes(group, plural, index.version);
            index.take_in(changes);
            index.version = version;
        }
        let slices = index.services.get(&(namespace.into(), service.into()));
        slices.map_or(Vec::new(), |slices| slices.values().cloned().collect())
    }
}

impl Index {
    fn take_in(&mut self, changes: Changes) {
        match changes {
            Changes::All(all) => {
                *self = Index::default();
                for slice in all {
                    self.put((slice.namespace().into(), slice.name().into()), slice);
                }
            }
            Changes::Some(some) => {
                for change in some {
                    let key = (change.namespace, change.name);
                    self.remove(&key);
                    if let Some(slice) = change.object {
                        self.put(key, slice);
                    }
                }
            }
        }
    }

    fn put(&mut self, (namespace, name): Key, slice: Arc<Node>) {
        let service = CompactString::from(service_of(&slice));
        let slices = self.services.entry((namespace.clone(), service.clone()));
        slices.or_default().insert(name.clone(), slice);
        self.belongs.insert((namespace, name), service);
    }

    fn remove(&mut self, key: &Key) {
        let Some(service) = self.belongs.remove(key) else {
            return;
        };
        let of = (key.0.clone(), service);
        if let Some(slices) = self.services.get_mut(&of) {
            slices.remove(&key.1);
            if slices.is_empty() {
                self.services.remove(&of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use fairlead_auth::objects::Change;

    fn slice(name: &str, service: &str) -> Arc<Node> {
        let mut slice = node!({"metadata": {"name": name, "namespace": "n", "labels": {}}});
        slice.set_at(&["metadata", "labels", "kubernetes.io/service-name"], service);
        Arc::new(slice)
    }

    #[test]
    fn slices_move_between_services() {
        let mut index = Index::default();
        let names = |index: &Index, service: &str| {
            let slices = index.services.get(&("n".into(), service.into()));
            slices.map_or(Vec::new(), |s| s.keys().map(ToString::to_string).collect::<Vec<_>>())
        };
        index.take_in(Changes::All(vec![
            slice("a", "one"),
            slice("b", "one"),
            slice("c", "two"),
        ]));
        assert_eq!(names(&index, "one"), ["a", "b"]);
        let change = |name: &str, object| Change {
            namespace: "n".into(),
            name: name.into(),
            object,
        };
        index.take_in(Changes::Some(vec![
            change("b", Some(slice("b", "two"))),
            change("a", None),
        ]));
        assert_eq!(
            (names(&index, "one"), names(&index, "two")),
            (vec![], vec!["b".to_owned(), "c".to_owned()])
        );
        index.take_in(Changes::All(vec![slice("d", "one")]));
        assert_eq!((index.services.len(), index.belongs.len()), (1, 1));
    }
}
