//! The place where CEL expressions of webhooks and policies are compiled while an object is validated.
//!
//! What an expression is for decides which variables it has and what it must evaluate to.

use crate::validation::at::At;
use fairlead_api::{FieldError, FieldErrors};
use fairlead_cel::admission::{self, Declared, Output, Refusal};

/// What an expression is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Of a webhook or a policy: a boolean.
    MatchCondition,
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
    variables: admission::Compiler,
}

impl Compiler {
    /// For expressions without variables.
    pub fn new(params: bool) -> Compiler {
        Compiler {
            params,
            variables: admission::Compiler::plain(),
        }
    }

    /// For expressions that may use the variables before them.
    pub fn composing(params: bool) -> Compiler {
        Compiler {
            params,
            variables: admission::Compiler::composing(),
        }
    }

    /// Checks the expression in the member `field`; `text` is what of it is compiled.
    pub fn check(&self, purpose: Purpose, at: &At, field: &str, text: &str, errors: &mut FieldErrors) {
        let (declared, output) = (self.declared(purpose), purpose.output());
        // Whether something is to be judged is asked before there are variables.
        let compiled = match purpose {
            Purpose::MatchCondition => admission::Compiler::plain().compile(text, declared, output),
            _ => self.variables.compile(text, declared, output),
        };
        if let Err(refusal) = compiled {
            let shown = match purpose {
                Purpose::AuditAnnotation => at.str(field),
                _ => text,
            };
            refuse(at, field, shown, refusal, errors);
        }
    }

    /// Checks the expression of a variable and makes the variable known.
    pub fn define(&mut self, at: &At, name: &str, text: &str, errors: &mut FieldErrors) {
        let declared = Declared {
            params: self.params,
            authorizer: true,
            patches: false,
        };
        if let Err((_, refusal)) = self.variables.define(name, text, declared) {
            refuse(at, "expression", text, refusal, errors);
        }
    }

    fn declared(&self, purpose: Purpose) -> Declared {
        Declared {
            params: self.params,
            authorizer: purpose != Purpose::Message,
            patches: matches!(purpose, Purpose::ApplyConfiguration | Purpose::JsonPatch),
        }
    }
}

impl Purpose {
    fn output(self) -> Output {
        match self {
            Purpose::MatchCondition | Purpose::Validation => Output::Bool,
            Purpose::Message => Output::String,
            Purpose::AuditAnnotation => Output::StringOrNull,
            Purpose::ApplyConfiguration => Output::ApplyConfiguration,
            Purpose::JsonPatch => Output::JsonPatch,
        }
    }
}

fn refuse(at: &At, field: &str, shown: &str, refusal: Refusal, errors: &mut FieldErrors) {
    match refusal {
        Refusal::Invalid(detail) => at.invalid(field, shown, detail, errors),
        Refusal::Internal(detail) => errors.push(FieldError::internal(&at.path_of(field), detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn what_does_not_compile_is_shown() {
        let object = node!({"expression": "1"});
        let mut errors = FieldErrors::new();
        Compiler::new(false).check(
            Purpose::MatchCondition,
            &At::named(&object, "m"),
            "expression",
            "1",
            &mut errors,
        );
        assert_eq!(
            errors[0].to_string(),
            "m.expression: Invalid value: \"1\": must evaluate to bool but got int"
        );
    }

    #[test]
    fn variables_are_for_what_comes_after_them() {
        let object = node!({"expression": "x"});
        let at = At::named(&object, "v");
        let mut compiler = Compiler::composing(false);
        let mut errors = FieldErrors::new();
        compiler.check(Purpose::Validation, &at, "expression", "variables.a", &mut errors);
        compiler.define(&at, "a", "true", &mut errors);
        assert_eq!(errors.len(), 1);
        compiler.check(Purpose::Validation, &at, "expression", "variables.a", &mut errors);
        compiler.check(
            Purpose::Message,
            &at,
            "expression",
            "authorizer.path('/').check('get').reason()",
            &mut errors,
        );
        assert_eq!(errors.len(), 2);
    }
}
