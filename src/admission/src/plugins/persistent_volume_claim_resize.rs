//! PersistentVolumeClaimResize: only bound claims of classes that allow it may grow.

use super::{Plugin, now};
use crate::{Attributes, Cluster};
use fairlead_api::quantity::Quantity;
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.updates() && attributes.is_main("", "persistentvolumeclaims")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(check(attributes, cluster))
    }
}

fn check(attributes: &Attributes, cluster: &Cluster) -> StatusResult<()> {
    let (claim, old) = (&attributes.object, &*attributes.old_object);
    if size(claim) <= size(old) {
        return Ok(());
    }
    if old.str_at(&["status", "phase"]) != "Bound" {
        return Err(attributes.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let class = class(claim);
    let stored = || cluster.lookup.get("storage.k8s.io", "storageclasses", "", class);
    let same = !class.is_empty() && class == self::class(old);
    let growable = |class: &Node| class.get("allowVolumeExpansion").and_then(Node::as_bool) == Some(true);
    if same && stored().is_some_and(|class| growable(&class)) {
        return Ok(());
    }
    Err(attributes.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}

fn size(claim: &Node) -> Quantity {
    Quantity::parse(claim.str_at(&["spec", "resources", "requests", "storage"])).unwrap_or(Quantity::ZERO)
}

/// The class of a claim: the old annotation wins over the field.
pub(crate) fn class(claim: &Node) -> &str {
    let annotated = claim.annotations().and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"));
    match annotated.and_then(Node::as_str) {
        Some(class) => class,
        None => claim.str_at(&["spec", "storageClassName"]),
    }
}
