//! Storage: the [`store::Store`] contract, its implementations, and the watch cache that serves every read.
//!
//! - [`store`]: the contract: operations, guarantees, failure.
//! - [`cached`]: an object as the cache keeps it.

pub mod cached;
pub mod store;

pub use cached::{Cached, Decode, Forms, Header};
pub use store::{Entry, Error, Expect, Revision, Store};
