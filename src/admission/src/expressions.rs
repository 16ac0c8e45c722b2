//! Expressions of webhooks and policies: compiled once, evaluated for requests within a budget.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/cel/{activation,condition}.go.
// PERFORMANCE: per-request path

mod asker;
mod program;

pub use asker::Asker;
pub use program::{Program, Uses};

use crate::{Attributes, Cluster};
use fairlead_api::Node;
use fairlead_cel::admission::{
    AUTHORIZER, Compiler, Declared, MATCH_BUDGET, NAMESPACE_OBJECT, OBJECT, OLD_OBJECT, Output, PARAMS, PLACES,
    REQUEST, REQUEST_RESOURCE,
};

use fairlead_cel::value::Extension;
use fairlead_cel::{Authz, EvalError, Lazy, LazyValue, PER_CALL_LIMIT, Target, Value};
use std::sync::Arc;

/// An expression, or why it cannot be evaluated.
#[derive(Debug)]
pub struct Expression {
    pub text: String,
    program: Result<fairlead_cel::Program, String>,
}

/// What came of expressions: a value, or why there is none.
pub type Results<'a> = Vec<Result<Value<'a>, String>>;

/// How a failure begins for which the budget did not do.
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Expression {
    pub fn compile(compiler: &Compiler, text: &str, declared: Declared, output: Output) -> Expression {
        let program = compiler.compile(text, declared, output);
        Expression {
            text: text.to_owned(),
            program: program.map_err(|refusal| refusal.text().to_owned()),
        }
    }

    /// Why the expression does not compile.
    pub fn error(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }

    pub fn uses_request(&self) -> bool {
        self.uses("request")
    }

    pub fn uses_authorizer(&self) -> bool {
        self.uses("authorizer") || self.uses("authorizer.requestResource")
    }

    fn uses(&self, name: &str) -> bool {
        self.program.as_ref().is_ok_and(|program| program.uses(name))
    }
}

/// What the variables of expressions stand for in one request.
#[derive(Clone)]
pub struct Scene<'a> {
    places: [Option<Value<'a>>; PLACES],
    asker: Option<Arc<Asker>>,
}

impl<'a> Scene<'a> {
    /// Without namespace, parameters and authorizer.
    pub fn new(object: &'a Node, old_object: &'a Node, request: &'a Node) -> Scene<'a> {
        let mut places: [Option<Value>; PLACES] = Default::default();
        places[OBJECT] = Some(Value::untyped(object));
        places[OLD_OBJECT] = Some(Value::untyped(old_object));
        places[REQUEST] = Some(Value::untyped(request));
        places[NAMESPACE_OBJECT] = Some(Value::Null);
        places[PARAMS] = Some(Value::Null);
        Scene { places, asker: None }
    }

    #[must_use]
    pub fn with_namespace(mut self, namespace: &'a Node) -> Scene<'a> {
        self.places[NAMESPACE_OBJECT] = Some(Value::untyped(namespace));
        self
    }

    #[must_use]
    pub fn with_params(mut self, params: &'a Node) -> Scene<'a> {
        self.places[PARAMS] = Some(Value::untyped(params));
        self
    }

    /// With an authorizer that is asked about the user of the request.
    #[must_use]
    pub fn with_authorizer(self, attributes: &Attributes, cluster: &Cluster) -> Scene<'a> {
        let asker = Arc::new(Asker::new(attributes.user.clone(), cluster.permissions.clone()));
        self.with_asker(&asker, attributes)
    }

    /// With an authorizer that others have asked before.
    #[must_use]
    pub fn with_asker(mut self, asker: &Arc<Asker>, attributes: &Attributes) -> Scene<'a> {
        let target = Target::Resource {
            group: attributes.resource.group.to_string(),
            resource: attributes.resource.resource.to_string(),
            subresource: attributes.subresource.to_string(),
            namespace: attributes.namespace.to_string(),
            name: attributes.name.to_string(),
            field_selector: String::new(),
            label_selector: String::new(),
        };
        let value = |authz| Some(Value::extension(Extension::Authz(authz)));
        self.places[AUTHORIZER] = value(Authz::authorizer(asker.clone()));
        self.places[REQUEST_RESOURCE] = value(Authz::request_resource(asker.clone(), target));
        self.asker = Some(asker.clone());
        self
    }

    /// The same without an authorizer.
    #[must_use]
    pub fn without_authorizer(mut self) -> Scene<'a> {
        self.places[AUTHORIZER] = None;
        self.places[REQUEST_RESOURCE] = None;
        self.asker = None;
        self
    }

    /// Evaluates expressions that may use `variables`, and tells what of the budget is left.
    ///
    /// # Errors
    /// The budget does not do; then there are no results at all.
    pub async fn evaluate(
        &self,
        expressions: &[&Expression],
        variables: &[LazyValue],
        budget: u64,
    ) -> Result<(Results<'a>, u64), &'static str> {
        loop {
            match self.try_evaluate(expressions, variables, budget) {
                Ok(evaluated) => return Ok(evaluated),
                Err(Stop::Budget) => return Err(OUT_OF_BUDGET),
                // What has been asked is remembered, so each round gets further.
                Err(Stop::Pending) => match &self.asker {
                    Some(asker) => asker.wait().await,
                    None => return Err(OUT_OF_BUDGET),
                },
            }
        }
    }

    fn try_evaluate(
        &self,
        expressions: &[&Expression],
        variables: &[LazyValue],
        mut budget: u64,
    ) -> Result<(Results<'a>, u64), Stop> {
        let lazy = Lazy::new(variables);
        let mut results = Vec::with_capacity(expressions.len());
        for expression in expressions {
            let program = match &expression.program {
                Ok(program) => program,
                Err(why) => {
                    results.push(Err(format!("compilation error: {why}")));
                    continue;
                }
            };
            let outcome = program.run_with(&self.places, Some(&lazy), PER_CALL_LIMIT);
            if matches!(outcome.value, Err(EvalError::Pending)) {
                return Err(Stop::Pending);
            }
            let cost = outcome.cost.saturating_add(lazy.take_cost());
            budget = budget.checked_sub(cost).ok_or(Stop::Budget)?;
            let text = &expression.text;
            results.push(
                outcome
                    .value
                    .map_err(|why| format!("expression '{text}' resulted in error: {why}")),
            );
        }
        Ok((results, budget))
    }
}

/// Why an evaluation ended early.
enum Stop {
    Budget,
    Pending,
}

/// Whether conditions are all true; one that is false decides even beside one that fails.
///
/// # Errors
/// Why that cannot be told.
pub async fn all_true(conditions: &[&Expression], variables: &[LazyValue], scene: &Scene<'_>) -> Result<bool, String> {
    let (results, _) = scene.evaluate(conditions, variables, MATCH_BUDGET).await?;
    let mut errors: Vec<String> = Vec::new();
    for result in results {
        match result {
            Ok(Value::Bool(false)) => return Ok(false),
            Ok(_) => {}
            Err(why) if errors.contains(&why) => {}
            Err(why) => errors.push(why),
        }
    }
    match &errors[..] {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}
