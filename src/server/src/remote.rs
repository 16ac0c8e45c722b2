//! [`Remote`]: the seam to the gateway. The binary puts the two together.

use crate::body::Response;
use crate::request::Identified;
use fairlead_api::Node;
use fairlead_discovery::openapi::Components;
use fairlead_discovery::{RemoteGroupVersion, RoutingSnapshot};
use fairlead_resource::ResourceDefinition;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Passes requests on to the API server that serves their group-version.
pub trait Remote: Send + Sync {
    /// The answer of the backend, or one that says why there is none. Bodies are streamed both ways.
    fn proxy(&self, request: Identified, backend: Arc<RemoteGroupVersion>) -> BoxFuture<'static, Response>;

    /// Whether a subresource is a conversation with somebody in the cluster, for whom requests are passed on as they are.
    fn connects(&self, _: &ResourceDefinition, _subresource: &str) -> bool {
        false
    }

    /// Leads such a conversation. That the path has the method has been seen to.
    fn connect(&self, request: Identified, _: Arc<ResourceDefinition>) -> BoxFuture<'static, Response> {
        Box::pin(std::future::ready(nobody(&request)))
    }

    /// Who serves what and how well that is known; `None` where nobody keeps track.
    fn report(&self, _: &RoutingSnapshot, _: &dyn Components) -> Option<Node> {
        None
    }
}

/// A server that knows no other.
pub struct NoRemote;

impl Remote for NoRemote {
    fn proxy(&self, request: Identified, _: Arc<RemoteGroupVersion>) -> BoxFuture<'static, Response> {
        Box::pin(std::future::ready(nobody(&request)))
    }
}

fn nobody(request: &Identified) -> Response {
    let status = fairlead_api::Status::unavailable("no backend is configured");
    crate::router::failure(&status, &request.known)
}
