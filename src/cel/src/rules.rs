//! `x-kubernetes-validations`: rules of a schema, compiled.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/cel/compilation.go.

use crate::program::Outcome;
use crate::program::{PER_CALL_LIMIT, Program};
use crate::{Decl, Env, Type, Value};
use fairlead_api::Node;
use fairlead_schema::TypeRef;

/// The rules of one place of a schema.
#[derive(Debug)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
    /// How often values of this place fit into a request.
    pub max_cardinality: u64,
}

/// One rule. What is not compiled is empty, or has an error.
#[derive(Debug)]
pub struct Rule {
    pub program: Option<Program>,
    /// Why the rule does not compile.
    pub error: Option<String>,
    pub message: Option<Program>,
    /// Why the message expression does not compile.
    pub message_error: Option<String>,
    /// Whether the rule compares with the stored value.
    pub uses_old_self: bool,
    /// Whether `oldSelf` may be absent, and is an optional value.
    pub optional_old_self: bool,
}

/// The name that types of `self` are shown under. It is no name that expressions could use.
const SELF_TYPE: &str = "selfType1";

impl RuleSet {
    /// Compiles rules for values of a type; `None` where expressions cannot see such values. `is_root` is for whole
    /// resources.
    pub fn compile(rules: &[Node], schema: TypeRef, is_root: bool) -> Option<RuleSet> {
        let decl = Decl::of(schema, is_root || schema.ty().embedded_resource, SELF_TYPE)?;
        let env = |old: Type| Env::new().with("self", decl.ty.clone()).with("oldSelf", old);
        let (plain, optional) = (env(decl.ty.clone()), env(Type::optional(decl.ty.clone())));
        let rules = rules.iter().map(|rule| {
            let is_optional = rule.get("optionalOldSelf").and_then(Node::as_bool) == Some(true);
            Rule::compile(rule, if is_optional { &optional } else { &plain }, &decl, is_optional)
        });
        Some(RuleSet {
            rules: rules.collect(),
            max_cardinality: decl.max_cardinality(),
        })
    }
}

impl Rule {
    fn compile(rule: &Node, env: &Env, decl: &Decl, optional_old_self: bool) -> Rule {
        let mut compiled = Rule {
            program: None,
            error: None,
            message: None,
            message_error: None,
            uses_old_self: false,
            optional_old_self,
        };
        let source = rule.str("rule");
        if source.trim().is_empty() {
            return compiled;
        }
        let words = Words {
            issues: "compilation failed",
            output: "cel expression must evaluate to a bool",
            instantiation: "program instantiation failed",
        };
        match program(source, env, decl, |ty| matches!(ty, Type::Bool), &words) {
            Ok(program) => {
                compiled.uses_old_self = program.uses("oldSelf");
                compiled.program = Some(program);
            }
            Err(error) => {
                compiled.error = Some(error);
                return compiled;
            }
        }
        let message = rule.str("messageExpression");
        if !message.is_empty() {
            let words = Words {
                issues: "messageExpression compilation failed",
                output: "messageExpression must evaluate to a string",
                instantiation: "messageExpression instantiation failed",
            };
            match program(message, env, decl, |ty| matches!(ty, Type::String), &words) {
                Ok(program) => compiled.message = Some(program),
                Err(error) => compiled.message_error = Some(error),
            }
        }
        compiled
    }

    /// Evaluates the rule.
    pub fn run<'a>(&self, program: &Program, value: Value<'a>, old: Option<Value<'a>>) -> Outcome<'a> {
        let old = if self.optional_old_self {
            Some(old.map_or(Value::Optional(None), Value::some))
        } else {
            old
        };
        program.run(&[Some(value), old], PER_CALL_LIMIT)
    }
}

/// How upstream says what is wrong.
struct Words {
    issues: &'static str,
    output: &'static str,
    instantiation: &'static str,
}

fn program(source: &str, env: &Env, decl: &Decl, fits: fn(&Type) -> bool, words: &Words) -> Result<Program, String> {
    use crate::CompileError;
    match Program::compile(source, env, Some(decl)) {
        Ok(program) if fits(program.output()) => Ok(program),
        Ok(_) => Err(words.output.into()),
        Err(CompileError::Issues(issues)) => Err(format!("{}: {issues}", words.issues)),
        Err(CompileError::Instantiation(error)) => Err(format!("{}: {error}", words.instantiation)),
    }
}

/// Evaluates a message expression. Unlike the rule's, its `oldSelf` is never an optional value.
pub fn run_message<'a>(program: &Program, value: Value<'a>, old: Option<Value<'a>>) -> Outcome<'a> {
    program.run(&[Some(value), old], PER_CALL_LIMIT)
}
