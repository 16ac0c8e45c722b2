//! CertificateSigning: who writes a certificate, or a request's conditions, needs permission for its signer.

use super::Plugin;
use super::certificate_approval::{GROUP, REQUESTS, may};
use crate::{Attributes, Cluster};
use fairlead_api::field::go_quote;
use fairlead_api::{Node, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct CertificateSigning;

impl Plugin for CertificateSigning {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.updates() && attributes.subresource == "status" && attributes.is(GROUP, REQUESTS)
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let (new, old) = (&attributes.object, &attributes.old_object);
            let same = |field: &str| {
                let set = |node: &'a Node| node.at(&["status", field]).filter(|value| !value.is_zero());
                set(new) == set(old)
            };
            if same("certificate") && same("conditions") {
                return Ok(());
            }
            let signer = old.str_at(&["spec", "signerName"]);
            if may(attributes, cluster, "sign", signer).await {
                return Ok(());
            }
            let signer = go_quote(signer);
            Err(attributes.forbidden(format_args!("user not permitted to sign requests with signerName {signer}")))
        })
    }
}
