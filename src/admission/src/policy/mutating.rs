//! What a MutatingAdmissionPolicy makes of one object with one parameter.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/policy/mutating/{compilation,patch}.
// PERFORMANCE: per-request path

use crate::expressions::{Expression, Program, Scene, all_true};
use crate::policy::ignores_failures;
use fairlead_api::Node;
use fairlead_cel::Value;
use fairlead_cel::admission::{BUDGET, Declared, Output};

/// A policy, compiled.
pub struct Mutator {
    program: Program,
    pub mutations: Vec<Mutation>,
    /// Whether the policy wants to see what others change after it.
    pub reinvoked: bool,
    ignores_failures: bool,
}

/// One step of a policy.
#[derive(Debug)]
pub enum Mutation {
    Apply(Expression),
    JsonPatch(Expression),
}

/// What a step does to the object.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// An apply configuration, without type.
    Apply(Node),
    /// A JSON patch.
    JsonPatch(Node),
}

impl Mutator {
    /// Compiles a policy. What does not compile is told when it is evaluated.
    pub fn compile(policy: &Node) -> Mutator {
        let (program, compiler) = Program::compile(policy);
        let spec = policy.get("spec").unwrap_or(&Node::Null);
        let declared = Declared {
            patches: true,
            ..program.declared
        };
        let compile = |text: &str, output| Expression::compile(&compiler, text, declared, output);
        let mutations = spec.list("mutations").iter().filter_map(|mutation| {
            let text = |field: &str| mutation.get(field).map(|of| of.str("expression"));
            Some(match mutation.str("patchType") {
                "JSONPatch" => Mutation::JsonPatch(compile(text("jsonPatch")?, Output::JsonPatch)),
                _ => Mutation::Apply(compile(text("applyConfiguration")?, Output::ApplyConfiguration)),
            })
        });
        let mutations: Vec<Mutation> = mutations.collect();
        let uses = program.uses.and(mutations.iter().map(Mutation::expression));
        Mutator {
            program: Program { uses, ..program },
            mutations,
            reinvoked: spec.str("reinvocationPolicy") == "IfNeeded",
            ignores_failures: ignores_failures(policy),
        }
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Whether the policy is for such a request.
    ///
    /// # Errors
    /// Why that cannot be told, where that is a failure.
    pub async fn matches(&self, scene: &Scene<'_>) -> Result<bool, String> {
        let conditions: Vec<&Expression> = self.program.conditions.iter().collect();
        if conditions.is_empty() {
            return Ok(true);
        }
        match all_true(&conditions, &self.program.variables, scene).await {
            Err(_) if self.ignores_failures => Ok(false),
            matched => matched,
        }
    }

    /// What one of the mutations does to the object of the scene.
    ///
    /// # Errors
    /// Why it does nothing.
    pub async fn change(&self, mutation: &Mutation, scene: &Scene<'_>) -> Result<Change, String> {
        let expression = mutation.expression();
        if let Some(why) = expression.error() {
            return Err(why.to_owned());
        }
        let evaluated = scene.evaluate(&[expression], &self.program.variables, BUDGET).await;
        let value = evaluated?.0.pop().unwrap_or(Ok(Value::Null))?;
        match mutation {
            Mutation::Apply(_) => {
                well_named(&value)?;
                Ok(Change::Apply(value.to_node()?))
            }
            Mutation::JsonPatch(_) => {
                let operations = value.items().unwrap_or_default();
                let operations = operations.iter().map(operation).collect::<Result<_, _>>()?;
                Ok(Change::JsonPatch(Node::List(operations)))
            }
        }
    }
}

impl Mutation {
    fn expression(&self) -> &Expression {
        match self {
            Mutation::Apply(expression) | Mutation::JsonPatch(expression) => expression,
        }
    }
}

fn well_named(value: &Value) -> Result<(), String> {
    match value.misnamed() {
        wrong if wrong.is_empty() => Ok(()),
        wrong => Err(format!("type mismatch: {}", wrong.join("\n"))),
    }
}

/// An operation of a JSON patch. What is always there is written even where the expression does not say it.
fn operation(made: &Value) -> Result<Node, String> {
    let Value::Struct(of) = made else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".into());
    };
    let mut operation = Node::map();
    operation.set("op", "");
    operation.set("path", "");
    for (name, value) in &of.fields {
        if name == "value" {
            well_named(value)?;
        }
        let written = value.to_node().map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?;
        if name != "from" || written.as_str() != Some("") {
            operation.set(name, written);
        }
    }
    Ok(operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use futures_util::FutureExt;

    fn changes(mutations: Node, object: &Node) -> Vec<Result<Change, String>> {
        let mut policy = node!({"spec": {"variables": [{"name": "n", "expression": "object.n + 1"}]}});
        policy.set_at(&["spec", "mutations"], mutations);
        let mutator = Mutator::compile(&policy);
        let scene = Scene::new(object, &Node::Null, &Node::Null);
        let change = |mutation| {
            mutator
                .change(mutation, &scene)
                .now_or_never()
                .expect("nothing to wait for")
        };
        mutator.mutations.iter().map(change).collect()
    }

    #[test]
    fn expressions_make_patches() {
        let mutations = node!([
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{n: variables.n}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('x/y'), value: Object.a{b: 'c'}}, JSONPatch{op: 'move', from: '/f', path: '/t'}]"}},
        ]);
        assert_eq!(
            changes(mutations, &node!({"n": 1})),
            [
                Ok(Change::Apply(node!({"n": 2}))),
                Ok(Change::JsonPatch(node!([
                    {"op": "add", "path": "/a/x~1y", "value": {"b": "c"}},
                    {"op": "move", "path": "/t", "from": "/f"},
                ]))),
            ]
        );
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let mutations = node!([
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{n: object.none}"}},
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{n: Object.m{}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "1"}},
        ]);
        assert_eq!(
            changes(mutations, &node!({"n": 1})),
            [
                "expression 'Object{n: object.none}' resulted in error: no such key: none",
                "type mismatch: unexpected type name \"Object.m\", expected \"Object.n\", which matches field name path from root Object type",
                "must evaluate to list(JSONPatch) but got int",
            ]
            .map(|why| Err(why.to_owned()))
        );
    }
}
