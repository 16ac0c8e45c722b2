//! Storage: the [`store::Store`] contract, its implementations, and the watch cache that serves every read.
//!
//! - [`store`]: the contract: operations, guarantees, failure.
//! - [`memory`]: the store that dies with the process.
//! - [`cache`]: the watch cache; [`cached`]: an object as the cache keeps it.

pub mod cache;
pub mod cached;
mod feed;
mod index;
pub mod memory;
pub mod store;
#[cfg(test)]
mod testing;

pub use cache::{Cache, CacheConfig, CacheEvent, Snapshot, WatchScope, Watcher};
pub use cached::{Cached, Decode, Forms, Header};
pub use memory::Memory;
pub use store::{Entry, Error, Expect, Revision, Store, StoreObserver};
