//! Selectors: label requirements and field requirements, parsed from their string grammars or from objects.
//!
//! Source of the grammar and wording: kubernetes/apimachinery pkg/labels and pkg/fields.
// PERFORMANCE: per-request path

mod field;
mod label;
mod lexer;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

/// Why a selector was refused, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);
