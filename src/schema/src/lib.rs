//! Schemas: what an object may look like, for built-in kinds and CRDs alike.
//!
//! [`types`] is the compiled form. Walks over it, each in its own file: decode (coerce and refuse as Go would),
//! prune, default, validate; [`types::Schema`] is read from and written to OpenAPI.

mod custom;
mod decode;
mod default;
mod go;
mod object_meta;
mod openapi_in;
mod openapi_out;
mod path;
mod pattern;
mod prune;
mod settled;
#[cfg(test)]
mod test_types;
pub mod types;
mod validate;

pub use custom::{CustomDecodeError, coerce_embedded, decode_custom};
pub use decode::{DecodeError, Unknown, complete, decode, decode_at, forget_empty, known_duplicates, zero};
pub use default::{drop_nulls, set_defaults};
pub use go::go_name;
pub use openapi_in::{SchemaError, compile};
pub use openapi_out::{NoNotes, OpenApi, TypeNotes, open_api, referenced};
pub use pattern::{Pattern, PatternError, go_regex};
pub use prune::{prune, prune_value};
pub use settled::is_settled;
pub use types::{Field, Fields, ListSemantics, PatchStrategy, Schema, Shape, Type, TypeId, TypeRef, Types, Validation};
pub use validate::{
    RuleEvaluator, RuleSite, is_known_format, matches_format, validate, validate_embedded, validate_keywords,
    validate_lists, validate_rules,
};
