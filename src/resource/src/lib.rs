//! The resource engine: one pipeline of verbs over [`definition::ResourceDefinition`]s.
//!
//! - [`definition`]: a resource as data. - [`hooks`]: what a schema cannot say.
//! - [`request`]: what comes in and goes out. - [`Engine`]: the verbs, one file each.
//! - [`storage_codec`]: objects as they are stored, and [`storage_codec::StoredObjects`] to read them.
//! - [`at_rest`]: the forms in which built-in kinds are stored beside that one.
//! - [`table`], [`jsonpath`], [`options`]: parts that others use, too.
//!
//! A request becomes a `Call`; reads answer the cache's own objects, writes go through
//! decode, default, mutating admission, prepare, validate, validating admission, store.

mod answer;
pub mod assembled;
pub mod at_rest;
pub mod body;
mod call;
pub mod client;
mod continuation;
mod convert;
mod create;
pub mod definition;
mod delete;
pub mod engine;
mod fields;
pub mod hooks;
pub mod jsonpath;
mod list;
pub mod meta;
mod modify;
pub mod options;
mod patch;
mod patched_text;
pub mod piece;
mod projection;
mod read;
pub mod request;
mod selection;
pub mod storage_codec;
pub mod store_error;
mod strict;
mod subresource;
pub mod table;
mod typed;
mod update;
pub mod versions;
mod view;
mod watch;

pub use body::{NoScheme, Scheme};
pub use client::Client;
pub use definition::{ResourceDefinition, Scope, Subresource, SubresourceBehavior, Verb};
pub use engine::{AllowCreate, AuthorizeCreate, Caches, Engine, EngineConfig};
pub use hooks::{HookContext, Hooks};
pub use request::{Answer, Body, List, MetaVersion, Recording, Request, Response, View};

#[cfg(test)]
mod tests;
