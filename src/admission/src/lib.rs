//! Admission: what may change or refuse a write between decoding and storing.

pub mod attributes;

pub use attributes::{Attributes, Operation};

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
