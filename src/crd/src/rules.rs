//! `x-kubernetes-validations` of custom resources, evaluated when objects are written.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go.
// PERFORMANCE: per-request path

use crate::validation::normalized_field_path;
use fairlead_api::field::go_quote;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_cel::rules::{Rule, RuleSet, run_message};
use fairlead_cel::{EvalError, Program, Value};
use fairlead_schema::{RuleEvaluator, RuleSite, Schema, Shape, TypeRef, Validation, validate_rules};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::OnceLock;

/// What all rules of one object may cost.
const BUDGET: i64 = 10_000_000;
/// How long a message that an expression makes may be, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// The rules of a schema, compiled when they are first needed.
pub struct RuleTable {
    /// By the address of the validation that holds them, which the schema keeps in place.
    sets: HashMap<usize, OnceLock<Option<RuleSet>>>,
    /// Keeps what the addresses are of.
    _schema: Schema,
}

impl RuleTable {
    /// The table of a schema; `None` where it has no rules.
    pub fn new(schema: &Schema) -> Option<RuleTable> {
        let mut sets = HashMap::new();
        for ty in &schema.types.types {
            if let Some(validation) = ty.validation.as_deref() {
                collect(validation, &mut sets);
            }
        }
        (!sets.is_empty()).then(|| RuleTable {
            sets,
            _schema: schema.clone(),
        })
    }

    /// Evaluates the rules of one object.
    pub fn evaluator(&self) -> Evaluator<'_> {
        Evaluator {
            table: self,
            budget: BUDGET,
            forgiven: Forgiven::Left,
        }
    }

    /// What unchanged values are forgiven in an update, as warnings.
    pub fn warnings(&self, object: &Node, old: &Node, schema: TypeRef) -> Vec<String> {
        let mut evaluator = Evaluator {
            table: self,
            budget: BUDGET,
            forgiven: Forgiven::Wanted,
        };
        let mut forgiven = FieldErrors::new();
        validate_rules(
            object,
            Some(old),
            schema,
            &FieldPath::root(),
            &mut evaluator,
            &mut forgiven,
        );
        forgiven.iter().map(ToString::to_string).collect()
    }

    fn set(&self, site: &RuleSite) -> Option<&RuleSet> {
        let compile = || RuleSet::compile(&site.validation.rules, site.schema, site.is_root);
        self.sets.get(&address(site.validation))?.get_or_init(compile).as_ref()
    }
}

fn address(validation: &Validation) -> usize {
    std::ptr::from_ref(validation).addr()
}

fn collect(validation: &Validation, sets: &mut HashMap<usize, OnceLock<Option<RuleSet>>>) {
    if !validation.rules.is_empty() {
        sets.insert(address(validation), OnceLock::new());
    }
    validation
        .all_of
        .iter()
        .for_each(|part| collect(&part.validation, sets));
}

/// Evaluates rules until the budget of one object is spent.
pub struct Evaluator<'t> {
    table: &'t RuleTable,
    budget: i64,
    /// What is done with failures that are forgiven because the value is as it was stored.
    forgiven: Forgiven,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Forgiven {
    Left,
    /// They are all that is evaluated.
    Wanted,
}

impl RuleEvaluator for Evaluator<'_> {
    fn evaluate(&mut self, site: &RuleSite, errors: &mut FieldErrors) -> ControlFlow<()> {
        let shown = type_name(site.schema);
        let refuse = |detail: String| FieldError::invalid(site.path, shown, detail);
        let Some(set) = self.table.set(site) else {
            let why = "failed to convert to declType for CEL validation rules";
            errors.push(refuse(format!("rule compiler initialization error: {why}")));
            return ControlFlow::Continue(());
        };
        if self.budget <= 0 {
            errors.push(refuse(OUT_OF_BUDGET.into()));
            return ControlFlow::Break(());
        }
        let values = Value::from_node(site.value, Some(site.schema)).and_then(|value| {
            Ok((
                value,
                site.old
                    .map(|old| Value::from_node(old, Some(site.schema)))
                    .transpose()?,
            ))
        });
        let (value, old) = match values {
            Ok(values) => values,
            Err(error) => {
                errors.push(refuse(error.to_string()));
                return ControlFlow::Continue(());
            }
        };
        for (rule, source) in set.rules.iter().zip(&site.validation.rules) {
            self.rule(rule, source, site, (&value, old.as_ref()), errors)?;
        }
        ControlFlow::Continue(())
    }
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Evaluator<'_> {
    fn rule<'a>(
        &mut self,
        rule: &Rule,
        source: &Node,
        site: &RuleSite,
        (value, old): (&Value<'a>, Option<&Value<'a>>),
        errors: &mut FieldErrors,
    ) -> ControlFlow<()> {
        let shown = type_name(site.schema);
        let refuse = |detail: String| FieldError::invalid(site.path, shown, detail);
        if let Some(error) = &rule.error {
            errors.push(refuse(format!("rule compile error: {error}")));
            return ControlFlow::Continue(());
        }
        let Some(program) = &rule.program else {
            return ControlFlow::Continue(());
        };
        let is_forgiven = !rule.uses_old_self && site.unchanged;
        if self.forgiven == Forgiven::Wanted && !is_forgiven {
            return ControlFlow::Continue(());
        }
        if rule.uses_old_self && old.is_none() && !rule.optional_old_self {
            return ControlFlow::Continue(());
        }
        let outcome = rule.run(program, value.clone(), old.cloned());
        if self.pay(outcome.cost).is_break() {
            errors.push(refuse(OUT_OF_BUDGET.into()));
            return ControlFlow::Break(());
        }
        match outcome.value {
            Ok(Value::Bool(true)) => return ControlFlow::Continue(()),
            Ok(_) => {}
            Err(_) if self.forgiven == Forgiven::Wanted => return ControlFlow::Continue(()),
            Err(error) => {
                let name = rule_name(source);
                let (detail, ends) = match &error {
                    EvalError::TooExpensive | EvalError::Pending => (
                        format!(
                            "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                        ),
                        true,
                    ),
                    EvalError::Failed(why) if why.starts_with("no such overload") => (
                        format!(
                            "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
                        ),
                        false,
                    ),
                    EvalError::Failed(why) => (format!("{why} evaluating rule: {name}"), false),
                };
                errors.push(refuse(detail));
                return if ends {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                };
            }
        }
        let path = field_path(source, site);
        let told = is_forgiven == (self.forgiven == Forgiven::Wanted);
        let message = rule
            .message
            .as_ref()
            .map(|program| self.message(program, source, value, old));
        let detail = match message {
            Some(Err(why)) => {
                if told {
                    errors.push(FieldError::invalid(&path, shown, why));
                }
                return ControlFlow::Break(());
            }
            Some(Ok(Some(text))) => text,
            _ => match source.str("message") {
                "" => format!("failed rule: {}", rule_name(source)),
                text => text.trim().to_owned(),
            },
        };
        if told {
            errors.push(failed(source, &path, site, shown, detail));
        }
        ControlFlow::Continue(())
    }

    fn pay(&mut self, cost: u64) -> ControlFlow<()> {
        match i64::try_from(cost) {
            Ok(cost) if cost <= self.budget => {
                self.budget -= cost;
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }

    /// What a message expression says; `None` where it says nothing that can be shown, an error where that ends all rules.
    fn message<'a>(
        &mut self,
        program: &Program,
        source: &Node,
        value: &Value<'a>,
        old: Option<&Value<'a>>,
    ) -> Result<Option<String>, String> {
        let outcome = run_message(program, value.clone(), old.cloned());
        if self.pay(outcome.cost).is_break() {
            let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
            return Err(why.into());
        }
        let text = match outcome.value {
            Ok(Value::String(text)) => text,
            Err(EvalError::TooExpensive) => {
                let source = go_quote(source.str("messageExpression"));
                let why =
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression";
                return Err(format!("{why}: {source}"));
            }
            Ok(_) | Err(_) => return Ok(None),
        };
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
        Ok(fits.then(|| text.to_owned()))
    }
}

fn failed(source: &Node, path: &FieldPath, site: &RuleSite, shown: &str, detail: String) -> FieldError {
    let whole = matches!(shown, "object" | "array");
    let with_value = |error: FieldError| if whole { error.omitting_value() } else { error };
    let value = if whole { Node::Null } else { site.value.clone() };
    match source.str("reason") {
        "FieldValueForbidden" => FieldError::forbidden(path, detail),
        "FieldValueRequired" => FieldError::required(path, detail),
        "FieldValueDuplicate" => with_value(FieldError::duplicate(path, value)),
        _ => with_value(FieldError::invalid(path, value, detail)),
    }
}

/// Where a failed rule is reported.
fn field_path(source: &Node, site: &RuleSite) -> FieldPath {
    let given = source.str("fieldPath");
    if given.is_empty() {
        return site.path.clone();
    }
    match normalized_field_path(given, site.schema) {
        Some(path) if !path.is_empty() => site.path.child(&path),
        _ => site.path.clone(),
    }
}

/// How a rule is called in errors: its message, or itself.
fn rule_name(source: &Node) -> &str {
    match source.str("message") {
        "" => source.str("rule").trim(),
        message => message.trim(),
    }
}

/// The `type` of a schema, as errors show it in place of the value.
fn type_name(schema: TypeRef) -> &'static str {
    match schema.shape() {
        Shape::Struct(_) | Shape::Map(_) => "object",
        Shape::List(_) => "array",
        Shape::Bool => "boolean",
        Shape::Int { .. } => "integer",
        Shape::Float => "number",
        Shape::Any | Shape::IntOrString => "",
        _ => "string",
    }
}
