//! [`Program`]: what policies of both kinds begin with: variables and match conditions.

use super::Expression;
use fairlead_api::Node;
use fairlead_cel::LazyValue;
use fairlead_cel::admission::{Compiler, Declared, Output};

/// The part of a policy that decides whether the rest is evaluated, and what all of it may use.
pub struct Program {
    pub variables: Vec<LazyValue>,
    pub conditions: Vec<Expression>,
    /// What the expressions of the policy may name.
    pub declared: Declared,
    pub uses: Uses,
}

/// What expressions need made for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uses {
    pub request: bool,
    pub authorizer: bool,
}

impl Program {
    /// Compiles a policy's variables and conditions; the compiler knows the variables then.
    pub fn compile(policy: &Node) -> (Program, Compiler) {
        let spec = policy.get("spec").unwrap_or(&Node::Null);
        let declared = Declared {
            params: spec.get("paramKind").is_some_and(|kind| !kind.is_null()),
            authorizer: true,
            patches: false,
        };
        let mut compiler = Compiler::composing();
        let variables = spec.list("variables").iter().map(|variable| {
            let defined = compiler.define(variable.str("name"), variable.str("expression"), declared);
            defined.unwrap_or_else(|(variable, _)| variable)
        });
        let variables: Vec<LazyValue> = variables.collect();
        let conditions = spec.list("matchConditions").iter();
        let conditions: Vec<Expression> = conditions
            .map(|condition| Expression::compile(&compiler, condition.str("expression"), declared, Output::Bool))
            .collect();
        let mut uses = Uses::default().and(&conditions);
        for program in variables.iter().filter_map(|variable| variable.program.as_ref().ok()) {
            uses.request |= program.uses("request");
            uses.authorizer |= program.uses("authorizer") || program.uses("authorizer.requestResource");
        }
        let program = Program {
            variables,
            conditions,
            declared,
            uses,
        };
        (program, compiler)
    }
}

impl Uses {
    /// What these and more expressions need.
    #[must_use]
    pub fn and<'e>(mut self, expressions: impl IntoIterator<Item = &'e Expression>) -> Uses {
        for expression in expressions {
            self.request |= expression.uses_request();
            self.authorizer |= expression.uses_authorizer();
        }
        self
    }
}
