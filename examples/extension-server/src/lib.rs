//! A small extension API server: group `shipping.example.com/v1alpha1` with namespaced Parcels and cluster-scoped Carriers.
//!
//! What an API server behind an `APIService` has to do, one file each:
//! - [`tls`]: a serving certificate, and the front proxy's client certificate;
//! - [`identity`]: who asks, as the front proxy says in `X-Remote-*` headers;
//! - [`discovery`] and [`openapi`]: what is served, in the three forms clients read;
//! - [`api`]: the verbs; [`watch`]: the stream of changes; [`selector`]: label and field selectors;
//! - [`kinds`]: the two kinds, their columns and their rules; [`storage`]: objects in memory.
//!
//! [`faults`], [`rename`], [`renamed_kind`] and [`common_type`] are not for copying: they are for the tests of what stands in front of this
//! server.

pub mod api;
pub mod common_type;
pub mod discovery;
pub mod faults;
pub mod identity;
pub mod kinds;
pub mod openapi;
pub mod rename;
pub mod renamed_kind;
pub mod selector;
pub mod server;
pub mod storage;
pub mod tls;
pub mod watch;

pub use server::{Options, serve};

/// The group this server serves.
pub const GROUP: &str = "shipping.example.com";
/// Its only version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of its objects.
pub const GROUP_VERSION: &str = "shipping.example.com/v1alpha1";
