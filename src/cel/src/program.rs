//! [`Program`]: a compiled expression.

use crate::check;
use crate::cost::{self, Range};
use crate::decl::Decl;
use crate::env::Env;
use crate::eval::Run;
use crate::lazy::Lazy;
use crate::plan::{self, Plan};
use crate::source::Issues;
use crate::types::Type;
use crate::value::{EvalError, Value};
use crate::{ast, parse};

/// How much one evaluation may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// A compiled expression, to be run any number of times.
#[derive(Debug)]
pub struct Program {
    plan: Plan,
    output: Type,
    /// Names of declared variables that occur.
    used: Vec<String>,
    cost: Range,
}

/// Why an expression cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// What is wrong with it, and where.
    Issues(Issues),
    /// A constant part of it cannot be evaluated.
    Instantiation(EvalError),
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub value: Result<Value<'a>, EvalError>,
    pub cost: u64,
}

impl Program {
    /// Compiles an expression. `root` is what its variables are declared as, by which its cost is estimated.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn compile(source: &str, env: &Env, root: Option<&Decl>) -> Result<Program, CompileError> {
        parse::on_large_stack(|| {
            let tree = parse::parse(source).map_err(CompileError::Issues)?;
            let checked =
                check::check(tree, env).map_err(|issues| CompileError::Issues(Issues::new(source, issues)))?;
            let plan = plan::plan(&checked, env).map_err(CompileError::Instantiation)?;
            let mut used = Vec::new();
            variables(&checked.root, env, &mut used);
            Ok(Program {
                plan,
                output: checked.type_of(&checked.root).clone(),
                used,
                cost: cost::estimate(&checked, root),
            })
        })
        .unwrap_or_else(|| {
            Err(CompileError::Instantiation(EvalError::new(
                "the compiler could not be started",
            )))
        })
    }

    /// The type of the result.
    pub fn output(&self) -> &Type {
        &self.output
    }

    /// Whether the expression mentions a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.used.iter().any(|name| name == variable)
    }

    /// What a run costs, at least and at most.
    pub fn estimate(&self) -> Range {
        self.cost
    }

    /// Evaluates the expression with the values of the declared variables, in order of declaration.
    pub fn run<'a>(&self, variables: &[Option<Value<'a>>], limit: u64) -> Outcome<'a> {
        self.run_with(variables, None, limit)
    }

    /// Evaluates the expression with values beside the variables that are worked out when they are needed.
    pub fn run_with<'a>(
        &self,
        variables: &[Option<Value<'a>>],
        lazy: Option<&Lazy<'_, 'a>>,
        limit: u64,
    ) -> Outcome<'a> {
        let mut run = Run::new(variables, lazy, limit);
        let value = run.eval(&self.plan);
        Outcome { value, cost: run.cost }
    }
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            CompileError::Issues(issues) => issues.fmt(f),
            CompileError::Instantiation(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CompileError {}

fn variables(expr: &ast::Expr, env: &Env, used: &mut Vec<String>) {
    check::each(expr, &mut |expr| {
        if let ast::Kind::Ident(name) = &expr.kind
            && (env.variable(name).is_some() || env.is_lazy(name))
            && !used.contains(name)
        {
            used.push(name.clone());
        }
    });
}
