//! Storage: the [`store::Store`] contract, its implementations, and the watch cache that serves every read.
//!
//! - [`store`]: the contract: operations, guarantees, failure.
//! - [`embedded`]: the durable store in this process; [`memory`]: the one that dies with it; [`etcd`]: the shared one.
//! - [`compaction`]: the loop that forgets history.
//! - [`encryption`]: values encrypted at rest, over any store.
//! - [`cache`]: the watch cache; [`cached`]: an object as the cache keeps it.

pub mod cache;
pub mod cached;
pub mod compaction;
pub mod embedded;
pub mod encryption;
pub mod etcd;
mod feed;
mod index;
pub mod memory;
mod past;
pub mod store;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod testing;

pub use cache::{
    Cache, CacheConfig, CacheEvent, Form, Listed, Made, Snapshot, Stats, Step, Term, Turn, WatchScope, Watcher,
};
pub use cached::{Cached, Cells, Decode, Forms, Header, Json, Labels, Texts, Uid};
pub use embedded::{Embedded, EmbeddedConfig};
pub use encryption::Encryption;
pub use etcd::{Etcd, EtcdConfig};
pub use memory::Memory;
pub use store::{Entry, Error, Expect, Past, Revision, Store, StoreObserver};
