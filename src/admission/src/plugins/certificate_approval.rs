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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, run, update};
    use fairlead_api::node;

    #[test]
    fn approval_needs_permission_for_the_signer() {
        let request = node!({"kind": "CertificateSigningRequest", "metadata": {"name": "r"}, "spec": {"signerName": "a.b/c"}});
        let mut attributes = update(REQUESTS, request.clone(), request);
        attributes.resource.group = GROUP.into();
        attributes.subresource = "approval".into();
        let refused = run(&CertificateApproval, &mut attributes, &Fake::default().cluster()).unwrap_err();
        assert!(refused.ends_with("user not permitted to approve requests with signerName \"a.b/c\""), "{refused}");
        let allowed = Fake::default().allowing("approve").cluster();
        assert_eq!(run(&CertificateApproval, &mut attributes, &allowed), Ok(()));
    }
}
