//! [`Remote`]: the seam to the gateway. The binary puts the two together.

use crate::body::Response;
use crate::request::Identified;
use fairlead_api::Node;
use fairlead_discovery::openapi::Components;
use fairlead_discovery::{RemoteGroupVersion, RoutingSnapshot};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Passes requests on to the API server that serves their group-version.
pub trait Remote: Send + Sync {
    /// The answer of the backend, or one that says why there is none. Bodies are streamed both ways.
    fn proxy(&self, request: Identified, backend: Arc<RemoteGroupVersion>) -> BoxFuture<'static, Response>;

    /// Who serves what and how well that is known; `None` where nobody keeps track.
    fn report(&self, _: &RoutingSnapshot, _: &dyn Components) -> Option<Node> {
        None
    }
}

/// A server that knows no other.
pub struct NoRemote;

impl Remote for NoRemote {
    fn proxy(&self, request: Identified, _: Arc<RemoteGroupVersion>) -> BoxFuture<'static, Response> {
        let status = fairlead_api::Status::unavailable("no backend is configured");
        let response = crate::encode::status(&status, &request.known.parts.headers, &request.known.query);
        Box::pin(std::future::ready(response))
    }
}
