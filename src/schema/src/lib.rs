//! Schemas: what an object may look like, for built-in kinds and CRDs alike.
//!
//! [`types`] is the compiled form. Walks over it, each in its own file: decode (coerce and refuse as Go would),
//! prune, default, validate; [`types::Schema`] is read from and written to OpenAPI.

pub mod types;

pub use types::{Field, Fields, ListSemantics, PatchStrategy, Schema, Shape, Type, TypeId, TypeRef, Types, Validation};
