//! CertificateApproval: who approves or denies a request needs permission for its signer.

use super::Plugin;
use crate::cluster::Action;
use crate::{Attributes, Cluster};
use fairlead_api::StatusResult;
use fairlead_api::field::go_quote;
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct CertificateApproval;

pub(super) const GROUP: &str = "certificates.k8s.io";
pub(super) const REQUESTS: &str = "certificatesigningrequests";

impl Plugin for CertificateApproval {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.updates() && attributes.subresource == "approval" && attributes.is(GROUP, REQUESTS)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            // The stored name counts, whatever the update says.
            let signer = attributes.old_object.str_at(&["spec", "signerName"]);
            if may(attributes, cluster, "approve", signer).await {
                return Ok(());
            }
            let signer = go_quote(signer);
            Err(attributes.forbidden(format_args!("user not permitted to approve requests with signerName {signer}")))
        })
    }
}

/// Whether the user may do this for a signer, or for all signers of its domain.
pub(super) async fn may(attributes: &Attributes, cluster: &Cluster, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or("");
    let names = [signer.into(), compact_str::format_compact!("{domain}/*")];
    for name in names {
        let action = Action {
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..Action::default()
        };
        if cluster.permissions.allowed(&attributes.user, action).await {
            return true;
        }
    }
    false
}
