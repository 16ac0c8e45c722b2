//! The resource engine: one pipeline of verbs over [`definition::ResourceDefinition`]s.
//!
//! - [`definition`]: a resource as data. - [`hooks`]: what a schema cannot say.
//! - [`request`]: what comes in and goes out. - [`Engine`]: the verbs.
//! - [`storage_codec`]: objects as they are stored.

pub mod definition;
pub mod engine;
pub mod hooks;
pub mod request;
pub mod storage_codec;

pub use definition::{ResourceDefinition, Scope, Subresource, SubresourceBehavior, Verb};
pub use engine::{AllowCreate, AuthorizeCreate, Engine, EngineConfig};
pub use hooks::{HookContext, Hooks};
pub use request::{Answer, Body, List, MetaVersion, Request, Response, View};
