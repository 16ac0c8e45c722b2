//! NamespaceExists: every write needs its namespace to exist. Off unless asked for; NamespaceLifecycle does more.

use super::Plugin;
use crate::{Attributes, Cluster, Operation};
use fairlead_api::{GroupResource, Status, StatusResult};
use futures_util::future::BoxFuture;

#[derive(Default)]
pub struct NamespaceExists;

impl Plugin for NamespaceExists {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        let place = !attributes.namespace.is_empty() && !attributes.is("", "namespaces");
        place && attributes.operation != Operation::Connect
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, cluster: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let name = attributes.namespace.as_str();
            match cluster.find("", "namespaces", "", name).await {
                Some(_) => Ok(()),
                None => Err(Status::not_found(&GroupResource::new("", "namespaces"), name)),
            }
        })
    }
}
