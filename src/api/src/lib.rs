//! The vocabulary of the Kubernetes API: what every other crate speaks.
//!
//! - [`Node`] is a JSON tree with Go's number rules; [`Map`] its sorted object.
//! - [`json`] reads and writes it; [`object`] is the view of its metadata.
//! - [`Status`] is the one error that reaches clients; [`field`] holds validation errors and paths.
//! - [`order`] ranks versions.
//! - [`gvk`] names types and resources, [`selector`] selects objects, [`name`] checks names, [`metadata`] whole metadata.
//!
//! Pure: no IO, no async, no clock.

mod alike;
pub mod field;
pub mod gvk;
pub mod json;
pub mod metadata;
pub mod name;
pub mod node;
pub mod object;
pub mod order;
pub mod quantity;
pub mod selector;
pub mod status;
pub mod time;
pub mod url;
pub mod user;
pub mod webhook;

pub use alike::alike;
pub use field::{FieldError, FieldErrors, FieldPath};
pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use node::{Key, Map, Node};
pub use status::{Status, StatusResult};
pub use time::{Clock, Timestamp};
pub use user::UserInfo;
