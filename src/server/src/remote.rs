//! [`Remote`]: the seam to the gateway. The binary puts the two together.

use crate::body::Response;
use crate::request::Identified;
use fairlead_discovery::RemoteGroupVersion;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Passes requests on to the API server that serves their group-version.
pub trait Remote: Send + Sync {
    /// The answer of the backend, or one that says why there is none. Bodies are streamed both ways.
    fn proxy(&self, request: Identified, backend: Arc<RemoteGroupVersion>) -> BoxFuture<'static, Response>;
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
