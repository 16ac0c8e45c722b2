//! What a ValidatingAdmissionPolicy says of one request and one parameter.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/policy/validating/validator.go.
// PERFORMANCE: per-request path

use super::ignores_failures;
use crate::expressions::{Expression, Program, Scene, all_true};
use fairlead_api::Node;
use fairlead_cel::admission::{BUDGET, Declared, Output};
use fairlead_cel::{LazyValue, Value};

/// A policy, compiled.
pub struct Validator {
    program: Program,
    validations: Vec<Expression>,
    /// What else is known of each validation.
    told: Vec<Told>,
    messages: Vec<Expression>,
    annotations: Vec<Expression>,
    keys: Vec<String>,
    ignores_failures: bool,
}

/// What a validation says when it fails.
struct Told {
    message: String,
    reason: String,
    /// The place of its message among those that are expressions.
    expression: Option<usize>,
}

/// What a policy says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is refused, by the place of the validation.
    pub refusals: Vec<Refusal>,
    pub annotations: Vec<Annotation>,
    /// What could not be evaluated, and does not matter to the write.
    pub ignored: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The validation that refuses.
    pub index: usize,
    pub message: String,
    /// Empty where the validation does not say.
    pub reason: String,
}

/// An annotation for the audit event.
#[derive(Debug, PartialEq, Eq)]
pub enum Annotation {
    Value { key: String, value: String },
    Failed(String),
}

/// How long a message that an expression makes may be, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;
/// No expression costs more.
const MOST: u64 = 2_000_000;

impl Validator {
    /// Compiles a policy. What does not compile is told when it is evaluated.
    pub fn compile(policy: &Node) -> Validator {
        let (program, compiler) = Program::compile(policy);
        let spec = policy.get("spec").unwrap_or(&Node::Null);
        let declared = program.declared;
        let compile = |text: &str, output| Expression::compile(&compiler, text, declared, output);
        let message = Declared {
            authorizer: false,
            ..declared
        };
        let (mut validations, mut told, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for validation in spec.list("validations") {
            validations.push(compile(validation.str("expression"), Output::Bool));
            let text = validation.str("messageExpression");
            told.push(Told {
                message: validation.str("message").trim().to_owned(),
                reason: validation.str("reason").to_owned(),
                expression: (!text.is_empty()).then_some(messages.len()),
            });
            if !text.is_empty() {
                messages.push(Expression::compile(&compiler, text, message, Output::String));
            }
        }
        let annotations = spec.list("auditAnnotations").iter();
        let mut validator = Validator {
            validations,
            told,
            messages,
            annotations: annotations
                .clone()
                .map(|annotation| compile(annotation.str("valueExpression"), Output::StringOrNull))
                .collect(),
            keys: annotations.map(|annotation| annotation.str("key").to_owned()).collect(),
            ignores_failures: ignores_failures(policy),
            program,
        };
        let all = [&validator.validations, &validator.messages, &validator.annotations];
        let uses = validator.program.uses.and(all.into_iter().flatten());
        validator.program.uses = uses;
        validator
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Evaluates the policy.
    pub async fn validate(&self, scene: &Scene<'_>) -> Verdict {
        let variables = &self.program.variables;
        let conditions: Vec<&Expression> = self.program.conditions.iter().collect();
        if !conditions.is_empty() {
            match all_true(&conditions, variables, scene).await {
                Ok(true) => {}
                Ok(false) => return Verdict::default(),
                Err(why) => return self.failed(&why),
            }
        }
        let validations: Vec<&Expression> = self.validations.iter().collect();
        let (results, left) = match scene.evaluate(&validations, variables, BUDGET).await {
            Ok(evaluated) => evaluated,
            Err(why) => return self.failed(why),
        };
        let scene = scene.clone().without_authorizer();
        let messages = self.messages(&results, variables, &scene, left).await;
        let mut verdict = Verdict::default();
        for (index, result) in results.iter().enumerate() {
            let told = &self.told[index];
            let failure = match (result, &messages) {
                (Err(why), _) => Some(why.clone()),
                (_, Err(why)) => Some(format!("failed messageExpression: {why}")),
                (Ok(Value::Bool(true)), _) => continue,
                _ => None,
            };
            let (message, reason) = match failure {
                Some(why) if self.ignores_failures => {
                    verdict.ignored.push(why);
                    continue;
                }
                Some(why) => (why, ""),
                None => {
                    let made = told
                        .expression
                        .and_then(|place| messages.as_ref().ok()?.get(place)?.clone());
                    (self.message(index, made), told.reason.as_str())
                }
            };
            verdict.refusals.push(Refusal {
                index,
                message,
                reason: reason.to_owned(),
            });
        }
        match self.annotate(variables, &scene).await {
            Ok(annotations) => verdict.annotations = annotations,
            Err(why) => return self.failed(why),
        }
        verdict
    }

    /// The messages that expressions make, where they are needed or may cost too much, which is told of passing
    /// validations, too.
    async fn messages(
        &self,
        results: &[Result<Value<'_>, String>],
        variables: &[LazyValue],
        scene: &Scene<'_>,
        budget: u64,
    ) -> Result<Vec<Option<String>>, &'static str> {
        let passed = results.iter().all(|result| matches!(result, Ok(Value::Bool(true))));
        let expressions = (self.messages.len() + variables.len()) as u64;
        if self.messages.is_empty() || passed && budget / MOST >= expressions {
            return Ok(Vec::new());
        }
        let messages: Vec<&Expression> = self.messages.iter().collect();
        let (made, _) = scene.evaluate(&messages, variables, budget).await?;
        let text = |value: Result<Value, String>| Some(value.ok()?.as_str()?.trim().to_owned());
        Ok(made.into_iter().map(text).collect())
    }

    fn message(&self, index: usize, made: Option<String>) -> String {
        let fits = |text: &String| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
        let written = &self.told[index].message;
        match made.filter(fits) {
            Some(text) => text,
            None if !written.is_empty() => written.clone(),
            None => format!("failed expression: {}", self.validations[index].text.trim()),
        }
    }

    async fn annotate(&self, variables: &[LazyValue], scene: &Scene<'_>) -> Result<Vec<Annotation>, &'static str> {
        if self.annotations.is_empty() {
            return Ok(Vec::new());
        }
        let expressions: Vec<&Expression> = self.annotations.iter().collect();
        let (values, _) = scene.evaluate(&expressions, variables, BUDGET).await?;
        let annotations = values
            .into_iter()
            .zip(&self.keys)
            .filter_map(|(value, key)| match value {
                Ok(value) => {
                    let value = value.as_str()?.trim();
                    (!value.is_empty()).then(|| Annotation::Value {
                        key: key.clone(),
                        value: value.to_owned(),
                    })
                }
                Err(why) => (!self.ignores_failures).then_some(Annotation::Failed(why)),
            });
        Ok(annotations.collect())
    }

    /// The verdict of a policy that cannot be evaluated.
    fn failed(&self, why: &str) -> Verdict {
        let message = why.to_owned();
        let mut verdict = Verdict::default();
        if self.ignores_failures {
            verdict.ignored.push(message);
        } else {
            verdict.refusals.push(Refusal {
                index: 0,
                message,
                reason: String::new(),
            });
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use futures_util::FutureExt;

    fn verdict(spec: Node, object: &Node) -> Verdict {
        let mut policy = node!({"metadata": {"name": "p"}});
        policy.set("spec", spec);
        let scene = Scene::new(object, &Node::Null, &Node::Null);
        let validator = Validator::compile(&policy);
        validator.validate(&scene).now_or_never().expect("nothing to wait for")
    }

    fn messages(verdict: &Verdict) -> Vec<&str> {
        verdict
            .refusals
            .iter()
            .map(|refusal| refusal.message.as_str())
            .collect()
    }

    #[test]
    fn messages_fall_back() {
        let spec = node!({
        "variables": [{"name": "n", "expression": "size(object.data)"}],
        "validations": [
            {"expression": "variables.n > 2", "messageExpression": "'only ' + string(variables.n)", "message": "few"},
            {"expression": "variables.n > 2 ", "messageExpression": "'a\\nb'", "message": " few "},
            {"expression": " variables.n > 2 ", "messageExpression": "object.nope"},
            {"expression": "variables.n == 2"},
            {"expression": "object.no == 2", "reason": "Forbidden"},
        ]});
        let verdict = verdict(spec, &node!({"data": {"a": "1", "b": "2"}}));
        assert_eq!(
            messages(&verdict),
            [
                "only 2",
                "few",
                "failed expression: variables.n > 2",
                "expression 'object.no == 2' resulted in error: no such key: no",
            ]
        );
        let indices: Vec<usize> = verdict.refusals.iter().map(|refusal| refusal.index).collect();
        assert_eq!(indices, [0, 1, 2, 4]);
        assert!(verdict.refusals.iter().all(|refusal| refusal.reason.is_empty()));
    }

    #[test]
    fn failures_can_be_ignored_and_refusals_cannot() {
        let spec = || {
            node!({"failurePolicy": "Ignore", "validations": [
                {"expression": "object.no == 2"}, {"expression": "object.a == 2", "reason": "Forbidden"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "object.no"}]})
        };
        let verdict = verdict(spec(), &node!({"a": 1}));
        assert_eq!(messages(&verdict), ["failed expression: object.a == 2"]);
        assert_eq!(verdict.refusals[0].reason, "Forbidden");
        assert!(verdict.annotations.is_empty());
    }

    #[test]
    fn what_does_not_compile_is_told_when_it_is_needed() {
        let spec = |condition: &str| {
            let mut spec = node!({"validations": [{"expression": "nope"}]});
            let mut conditions = node!([{"name": "c"}]);
            if let Node::List(conditions) = &mut conditions {
                conditions[0].set("expression", condition);
            }
            spec.set("matchConditions", conditions);
            spec
        };
        let text = "compilation error: compilation failed: ERROR: <input>:1:1: undeclared reference to 'nope'";
        assert!(verdict(spec("false"), &Node::Null).refusals.is_empty());
        assert!(messages(&verdict(spec("true"), &Node::Null))[0].starts_with(text));
    }

    #[test]
    fn annotations_may_be_left_out() {
        let spec = node!({"auditAnnotations": [
            {"key": "a", "valueExpression": "' x '"}, {"key": "b", "valueExpression": "null"},
            {"key": "c", "valueExpression": "' '"}, {"key": "d", "valueExpression": "authorizer.path('/a').check('get').reason()"}]});
        assert_eq!(
            verdict(spec, &Node::Null).annotations,
            [
                Annotation::Value { key: "a".into(), value: "x".into() },
                Annotation::Failed("expression 'authorizer.path('/a').check('get').reason()' resulted in error: no such attribute(s): authorizer".into()),
            ]
        );
    }
}
