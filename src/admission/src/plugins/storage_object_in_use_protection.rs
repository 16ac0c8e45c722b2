//! StorageObjectInUseProtection: claims, volumes and attribute classes stay while somebody uses them, by a finalizer.

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct StorageObjectInUseProtection;

const FINALIZERS: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

impl Plugin for StorageObjectInUseProtection {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.creates() && finalizer(attributes).is_some()
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, _: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        if let Some(finalizer) = finalizer(attributes)
            && !attributes.object.finalizers().any(|given| given == finalizer)
        {
            match attributes.object.make_at(&["metadata", "finalizers"]) {
                Node::List(given) => given.push(Node::string(finalizer)),
                other => *other = Node::List(vec![Node::string(finalizer)]),
            }
        }
        now(Ok(()))
    }
}

fn finalizer(attributes: &Attributes) -> Option<&'static str> {
    let known = FINALIZERS.iter().find(|(group, plural, _)| attributes.is_main(group, plural));
    known.map(|(.., finalizer)| *finalizer)
}
