//! Schemas: what an object may look like, for built-in kinds and CRDs alike.
//!
//! [`types`] is the compiled form. Walks over it, each in its own file: decode (coerce and refuse as Go would),
//! prune, default, validate; [`types::Schema`] is read from and written to OpenAPI.

mod go;
pub mod types;

pub use go::{go_json, go_name};
pub use types::{Field, Fields, ListSemantics, PatchStrategy, Schema, Shape, Type, TypeId, TypeRef, Types, Validation};
