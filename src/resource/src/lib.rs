//! The resource engine: one pipeline of verbs over [`definition::ResourceDefinition`]s.
//!
//! - [`definition`]: a resource as data. - [`hooks`]: what a schema cannot say.
//! - [`request`]: what comes in and goes out. - [`Engine`]: the verbs.

pub mod definition;
pub mod hooks;
pub mod request;

pub use definition::{ResourceDefinition, Scope, Subresource, SubresourceBehavior, Verb};
pub use hooks::{HookContext, Hooks};
pub use request::{Body, Request, Response, View};

/// The verbs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {}
