//! Who serves what: the [`RoutingSnapshot`] and the documents clients learn it from.
//!
//! - [`snapshot`]: all definitions and registrations folded into one immutable value, swapped atomically.
//! - [`legacy`], [`aggregated`]: the discovery documents. [`openapi`]: the others. [`report`]: where all of it comes from.
//!
//! Each group-version owns its part of every document, made on first use and kept as bytes; a new snapshot takes
//! over the parts of group-versions that did not change.

pub mod aggregated;
pub mod document;
pub mod legacy;
pub mod openapi;
pub mod report;
pub mod snapshot;

pub use document::Document;
pub use snapshot::{Origin, Registration, RemoteGroupVersion, Route, Router, RoutingSnapshot};
