//! `x-kubernetes-validations`: rules compile, and what they may cost stays within bounds.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/{validation,cel_validation}.go.

use super::options::Options;
use super::props::{present, print_rule};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_cel::rules::RuleSet;
use fairlead_schema::TypeRef;
use std::cell::RefCell;
use std::rc::Rc;

/// What one rule may cost.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost together.
const SCHEMA_LIMIT: u64 = 100_000_000;

/// What rules of a schema need to know of its place.
#[derive(Clone)]
pub struct Scope<'a> {
    ty: Option<TypeRef<'a>>,
    is_root: bool,
    /// How often values of this place can occur in one object; `None` is without bound.
    cardinality: Option<u64>,
    /// How often values inside this one can occur for each of it.
    factor: Option<u64>,
    total: Rc<RefCell<Total>>,
}

/// The cost of all rules so far, and the most expensive of them.
#[derive(Default)]
struct Total {
    cost: u64,
    expensive: Vec<(FieldPath, u64)>,
}

impl<'a> Scope<'a> {
    pub fn root(schema: &Node, ty: TypeRef<'a>) -> Scope<'a> {
        Scope {
            ty: Some(ty),
            is_root: true,
            cardinality: Some(1),
            factor: factor(schema),
            total: Rc::default(),
        }
    }

    pub fn property(&self, schema: &Node, name: &str) -> Scope<'a> {
        self.inside(schema, self.ty.and_then(|t| t.member(name)))
    }

    pub fn values(&self, schema: &Node) -> Scope<'a> {
        // No property has an empty name, so this is the type of the other values.
        self.inside(schema, self.ty.and_then(|t| t.member("")))
    }

    pub fn items(&self, schema: &Node) -> Scope<'a> {
        self.inside(schema, self.ty.and_then(TypeRef::items))
    }

    fn inside(&self, schema: &Node, ty: Option<TypeRef<'a>>) -> Scope<'a> {
        let cardinality = self
            .cardinality
            .zip(self.factor)
            .map(|(here, inside)| here.saturating_mul(inside));
        Scope {
            ty,
            is_root: false,
            cardinality,
            factor: factor(schema),
            total: self.total.clone(),
        }
    }

    /// Complains where all rules together cost too much; `path` is the schema's.
    pub fn check_total(&self, path: &FieldPath, errors: &mut FieldErrors) {
        let total = self.total.borrow();
        if total.cost <= SCHEMA_LIMIT {
            return;
        }
        for (rule, _) in &total.expensive {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(rule, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, exceeds(what, total.cost, SCHEMA_LIMIT)));
    }

    fn observe(&self, path: &FieldPath, cost: u64) {
        let mut total = self.total.borrow_mut();
        total.cost = total.cost.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            total.expensive.push((path.clone(), cost));
            total.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            total.expensive.truncate(4);
        }
    }
}

/// How many values a map or list holds at most; `None` is without bound.
fn factor(schema: &Node) -> Option<u64> {
    let bound = |key: &str| schema.get(key).and_then(Node::as_i64).map(|n| n.max(0).unsigned_abs());
    match schema.str("type") {
        "object" if present(schema, "additionalProperties").is_some() => bound("maxProperties"),
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}

/// Compiles the rules of a schema; `path` is theirs.
pub fn check(
    schema: &Node,
    path: &FieldPath,
    scope: &Scope,
    uncorrelated: Option<&FieldPath>,
    options: &Options,
    errors: &mut FieldErrors,
) {
    let rules = schema.list("x-kubernetes-validations");
    let set = scope.ty.and_then(|ty| RuleSet::compile(rules, ty, scope.is_root));
    let Some(set) = set else {
        let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
        errors.push(FieldError::internal(path, detail));
        return;
    };
    let free = !options.unchanged_schemas.is_empty();
    for (i, (rule, compiled)) in rules.iter().zip(&set.rules).enumerate() {
        let at = path.index(i);
        let (rule_at, message_at) = (at.child("rule"), at.child("messageExpression"));
        let max_cost = compiled.program.as_ref().map_or(0, |p| p.estimate().max);
        let cost = max_cost.saturating_mul(scope.cardinality.unwrap_or(set.max_cardinality));
        let mut price = |what: &str, cost: u64, path: &FieldPath| {
            if !free && cost > RULE_LIMIT {
                errors.push(FieldError::forbidden(path, exceeds(what, cost, RULE_LIMIT)));
            }
            scope.observe(path, cost);
        };
        price("estimated rule cost", cost, &rule_at);
        if let Some(message) = &compiled.message {
            // Upstream complains of the rule before it looks at what its message costs; a rule that is wrong has none.
            price("estimated messageExpression cost", message.estimate().max, &message_at);
        }
        let mut refuse = |path: &FieldPath, detail: &str| {
            errors.push(FieldError::invalid(path, Node::Null, detail).showing(print_rule(rule)));
        };
        if let Some(error) = &compiled.error {
            refuse(&rule_at, error);
        }
        if let Some(error) = &compiled.message_error {
            refuse(&message_at, error);
        }
        if compiled.uses_old_self {
            if let Some(uncorrelated) = uncorrelated {
                let detail =
                    format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}");
                errors.push(FieldError::invalid(&rule_at, rule.str("rule"), detail));
            }
        } else if let Some(optional) = present(rule, "optionalOldSelf") {
            let detail = "may not be set if oldSelf is not used in rule";
            errors.push(FieldError::invalid(
                &at.child("optionalOldSelf"),
                optional.clone(),
                detail,
            ));
        }
    }
}

fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
