//! CEL as Kubernetes has it: expressions are parsed, checked against declared types, priced, and run over JSON trees.
//!
//! - [`Env`] says what an expression may name; [`Program::compile`] makes one of its text.
//! - [`Program::run`] evaluates it within a budget; [`Value`] is what comes out.
//! - [`Decl`] is what a schema declares; [`Program::estimate`] is the price by it.
//! - [`rules`] are `x-kubernetes-validations`; [`admission`] is what webhooks and policies may name.
//!
//! Pure: no IO, no async, no clock. The parser is the `cel` crate's.

pub mod admission;
pub mod ast;
mod check;
pub mod cost;
pub mod decl;
mod env;
pub mod escape;
mod eval;
mod lazy;
mod library;
mod macros;
mod parse;
mod plan;
mod program;
pub mod rules;
mod source;
pub mod types;
pub mod value;

pub use decl::Decl;
pub use env::Env;
pub use lazy::{Lazy, LazyValue};
pub use library::authz::{Authority, Authz, Question, Ruling, Target};
pub use program::{CompileError, Outcome, PER_CALL_LIMIT, Program};
pub use source::{Issue, Issues};
pub use types::Type;
pub use value::{EvalError, Value};
