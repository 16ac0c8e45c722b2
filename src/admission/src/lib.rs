//! Admission: what may change or refuse a write between decoding and storing.
//!
//! - [`Admission`]: the whole of it, as the engine calls it; [`Chain`] is the one the server has.
//! - [`plugins`]: one file each, and their order.
//! - [`cluster`]: what plugins may look at, by traits the binary implements.
//! - [`webhook`]: asking webhooks.
//! - [`policy`]: what ValidatingAdmissionPolicies and MutatingAdmissionPolicies have in common.
//! - [`expressions`]: CEL of webhooks and policies.
//! - [`metrics`]: how long it takes, and what webhooks do.
//! - [`quota`]: what objects count as towards a ResourceQuota.
//!
//! Related: `fairlead-resource` calls in here; `fairlead-gateway` calls webhooks.

pub mod attributes;
pub mod chain;
pub mod cluster;
pub mod expressions;
pub mod metrics;
pub mod plugins;
pub mod pod;
pub mod policy;
pub mod quota;
pub mod webhook;

#[cfg(test)]
mod testing;

pub use attributes::{Attributes, Operation, Reinvocation};
pub use chain::Chain;
pub use cluster::{Cluster, Lookup};

use fairlead_api::StatusResult;
use futures_util::future::BoxFuture;

/// The whole chain, as the engine calls it.
///
/// Order: `mutate` on the decoded and defaulted object, then the engine prepares and validates it, then `validate`.
pub trait Admission: Send + Sync {
    /// Runs the mutating plugins in order. An error ends the request with it.
    fn mutate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, StatusResult<()>>;

    /// Runs the validating plugins. `attributes.object` is what will be stored; plugins only add warnings and audit.
    fn validate<'a>(&'a self, attributes: &'a mut Attributes) -> BoxFuture<'a, StatusResult<()>>;
}

/// Lets everything through. For tests and for loops that the server runs on its own behalf.
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn mutate<'a>(&'a self, _: &'a mut Attributes) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn validate<'a>(&'a self, _: &'a mut Attributes) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
