//! ClusterTrustBundleAttest: who publishes trust for a signer needs permission for that signer.

use super::Plugin;
use super::certificate_approval::{GROUP, may};
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct ClusterTrustBundleAttest;

impl Plugin for ClusterTrustBundleAttest {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        (attributes.creates() || attributes.updates()) && attributes.is(GROUP, "clustertrustbundles")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let signer = attributes.object.str_at(&["spec", "signerName"]);
            if signer.is_empty() || attributes.updates() && only_metadata_for_collection(attributes) {
                return Ok(());
            }
            if may(attributes, cluster, "attest", signer).await {
                return Ok(());
            }
            let signer = go_quote(signer);
            Err(attributes.forbidden(format_args!("user not permitted to attest for signerName {signer}")))
        })
    }
}

/// Whether an update changes nothing but what the garbage collector and storage migration change.
fn only_metadata_for_collection(attributes: &Attributes) -> bool {
    let rest = |object: &Node| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "selfLink", "resourceVersion"] {
            object.remove_at(&["metadata", field]);
        }
        object
    };
    rest(&attributes.object) == rest(&attributes.old_object)
}
