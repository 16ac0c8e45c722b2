//! DefaultStorageClass: claims that name no storage class get the one that is marked as default.

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;
use std::sync::Arc;

#[derive(Default)]
pub struct DefaultStorageClass;

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const BETA_IS_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";

impl Plugin for DefaultStorageClass {
    fn mutates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.creates() && attributes.is_main("", "persistentvolumeclaims")
    }

    fn mutate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        let claim = &mut attributes.object;
        let annotated = claim.annotations().is_some_and(|annotations| annotations.contains_key(BETA_CLASS));
        let named = claim.at(&["spec", "storageClassName"]).is_some_and(|name| !name.is_null());
        if !annotated && !named {
            let classes = cluster.lookup.list("storage.k8s.io", "storageclasses", "");
            if let Some(class) = newest_marked(classes, &[IS_DEFAULT, BETA_IS_DEFAULT]) {
                claim.set_at(&["spec", "storageClassName"], class.name());
            }
        }
        now(Ok(()))
    }
}

/// Of the objects that one of these annotations marks with `true`, the newest; of equally old ones the first by name.
pub(super) fn newest_marked(objects: Vec<Arc<Node>>, annotations: &[&str]) -> Option<Arc<Node>> {
    let marked = |object: &Arc<Node>| {
        object.annotations().is_some_and(|given| {
            annotations.iter().any(|name| given.get(name).and_then(Node::as_str) == Some("true"))
        })
    };
    let age = |object: &Node| object.str_at(&["metadata", "creationTimestamp"]).to_owned();
    objects.into_iter().filter(marked).max_by(|a, b| age(a).cmp(&age(b)).then_with(|| b.name().cmp(a.name())))
}
