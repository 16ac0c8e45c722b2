//! From a checked expression to a [`Plan`]: names are places, constants are values, regular expressions are compiled.

use crate::ast::{ACCUMULATOR, Comprehension, Expr, Kind, Literal};
use crate::check::Checked;
use crate::cost::is_bind;
use crate::env::Env;
use crate::library::{Eval, standard};
use crate::value::{EvalError, Key, Value};
use fairlead_schema::go_regex;
use regex::Regex;
use std::sync::Arc;

/// A step of an evaluation.
#[derive(Debug)]
pub enum Plan {
    Const(Value<'static>),
    /// A declared variable, by its place.
    Variable(usize, Box<str>),
    /// A value that is worked out when it is first asked for.
    Lazy(usize, Asked),
    /// A variable of a comprehension, by its place on the stack.
    Local(usize),
    Select {
        operand: Box<Plan>,
        field: Box<str>,
        /// `has(…)`.
        test: bool,
    },
    Index(Box<[Plan; 2]>),
    OptionalSelect(Box<[Plan; 2]>),
    And(Box<[Plan; 2]>),
    Or(Box<[Plan; 2]>),
    Conditional(Box<[Plan; 3]>),
    NotStrictlyFalse(Box<Plan>),
    /// `or` and `orValue`: the second is evaluated only where the first is empty.
    OptionalOr(Box<[Plan; 2]>, Unwrap),
    Call(Box<Call>),
    /// A match against a constant expression.
    Regex(Box<RegexCall>),
    List {
        elements: Vec<Plan>,
        optional: Vec<usize>,
    },
    Map(Vec<(Plan, Plan, bool)>),
    Struct {
        name: String,
        fields: Vec<(String, Plan, bool)>,
    },
    /// A name for a value.
    Bind(Box<[Plan; 2]>),
    Loop(Box<Loop>),
}

/// What is asked of a lazy value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Value,
    /// `has(…)`.
    Presence,
    /// `…?.`.
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwrap {
    Yes,
    No,
}

pub struct Call {
    pub function: String,
    /// Where it is known which.
    pub overload: &'static str,
    pub eval: Eval,
    pub args: Vec<Plan>,
}

#[derive(Debug)]
pub struct RegexCall {
    pub function: String,
    pub regex: Regex,
    /// How long the expression is, which is what it costs.
    pub pattern_size: u64,
    pub text: Plan,
    pub limit: Option<Plan>,
}

#[derive(Debug)]
pub struct Loop {
    pub range: Plan,
    pub two_variables: bool,
    pub init: Plan,
    pub condition: Plan,
    pub step: Step,
    pub result: Plan,
}

/// What a loop does with every element.
#[derive(Debug)]
pub enum Step {
    /// Makes the next accumulator.
    Any(Plan),
    /// Appends to the accumulator.
    Append { filter: Option<Plan>, item: Plan },
    /// Puts an entry, or a whole map, into the accumulator.
    Insert {
        filter: Option<Plan>,
        key: Option<Plan>,
        value: Plan,
    },
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("function", &self.function)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// Plans an expression.
///
/// # Errors
/// Where a constant part of it cannot be evaluated.
pub fn plan(checked: &Checked, env: &Env) -> Result<Plan, EvalError> {
    Planner {
        checked,
        env,
        locals: Vec::new(),
    }
    .expr(&checked.root)
}

struct Planner<'c> {
    checked: &'c Checked,
    env: &'c Env,
    locals: Vec<String>,
}

impl Planner<'_> {
    fn expr(&mut self, expr: &Expr) -> Result<Plan, EvalError> {
        Ok(match &expr.kind {
            Kind::Literal(literal) => Plan::Const(constant(literal)),
            Kind::Ident(name) => self.ident(name)?,
            Kind::Select { operand, field, test } if let Some(place) = self.lazy(operand, field) => {
                Plan::Lazy(place, if *test { Asked::Presence } else { Asked::Value })
            }
            Kind::Select { operand, field, test } => Plan::Select {
                operand: Box::new(self.expr(operand)?),
                field: field.as_str().into(),
                test: *test,
            },
            Kind::Call { .. } => return self.call(expr),
            Kind::List { elements, optional } => {
                let elements = elements.iter().map(|e| self.expr(e)).collect::<Result<Vec<_>, _>>()?;
                constant_list(elements, optional.clone())
            }
            Kind::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|e| Ok((self.expr(&e.key)?, self.expr(&e.value)?, e.optional)))
                    .collect::<Result<Vec<_>, EvalError>>()?;
                constant_map(entries)
            }
            Kind::Struct { name, fields } => Plan::Struct {
                name: name.clone(),
                fields: fields
                    .iter()
                    .map(|f| Ok((f.name.clone(), self.expr(&f.value)?, f.optional)))
                    .collect::<Result<Vec<_>, EvalError>>()?,
            },
            Kind::Comprehension(of) if is_bind(of) => {
                let value = self.expr(&of.init)?;
                self.locals.push(of.accu.clone());
                let result = self.expr(&of.result);
                self.locals.pop();
                Plan::Bind(Box::new([value, result?]))
            }
            Kind::Comprehension(of) => self.comprehension(of)?,
        })
    }

    fn ident(&self, name: &str) -> Result<Plan, EvalError> {
        if let Some(place) = self.locals.iter().rposition(|n| n == name) {
            return Ok(Plan::Local(place));
        }
        if let Some(place) = self.env.variable(name) {
            return Ok(Plan::Variable(place, name.into()));
        }
        let ty = self
            .env
            .type_named(name)
            .ok_or_else(|| EvalError::new(format!("no such attribute: {name}")))?;
        Ok(Plan::Const(Value::Type(ty)))
    }

    /// The place of a lazy value, where that is what is selected.
    fn lazy(&self, operand: &Expr, field: &str) -> Option<usize> {
        let Kind::Ident(name) = &operand.kind else { return None };
        match self.locals.contains(name) {
            true => None,
            false => self.env.lazy_field(name, field),
        }
    }

    fn comprehension(&mut self, of: &Comprehension) -> Result<Plan, EvalError> {
        let (range, init) = (self.expr(&of.range)?, self.expr(&of.init)?);
        let depth = self.locals.len();
        self.locals.push(of.accu.clone());
        self.locals.push(of.var.clone());
        self.locals.extend(of.var2.clone());
        let condition = self.expr(&of.condition)?;
        let step = self.step(&of.step)?;
        self.locals.truncate(depth + 1);
        let result = self.expr(&of.result)?;
        self.locals.truncate(depth);
        let two_variables = of.var2.is_some();
        Ok(Plan::Loop(Box::new(Loop {
            range,
            two_variables,
            init,
            condition,
            step,
            result,
        })))
    }

    /// Macros build lists and maps one element at a time; done in place, that is not quadratic.
    fn step(&mut self, step: &Expr) -> Result<Step, EvalError> {
        if let Kind::Call { function, args, .. } = &step.kind {
            let (inner, filter) = match (function.as_str(), &args[..]) {
                ("_?_:_", [filter, inner, same]) if same.is_ident(ACCUMULATOR) => (inner, Some(filter)),
                _ => (step, None),
            };
            if let Kind::Call { function, args, .. } = &inner.kind
                && args.first().is_some_and(|a| a.is_ident(ACCUMULATOR))
            {
                match (function.as_str(), &args[1..]) {
                    ("_+_", [list]) => {
                        if let Kind::List { elements, optional } = &list.kind
                            && let ([item], true) = (&elements[..], optional.is_empty())
                        {
                            let filter = filter.map(|f| self.expr(f)).transpose()?;
                            return Ok(Step::Append {
                                filter,
                                item: self.expr(item)?,
                            });
                        }
                    }
                    ("cel.@mapInsert", [key, value]) => {
                        let filter = filter.map(|f| self.expr(f)).transpose()?;
                        return Ok(Step::Insert {
                            filter,
                            key: Some(self.expr(key)?),
                            value: self.expr(value)?,
                        });
                    }
                    ("cel.@mapInsert", [value]) => {
                        let filter = filter.map(|f| self.expr(f)).transpose()?;
                        return Ok(Step::Insert {
                            filter,
                            key: None,
                            value: self.expr(value)?,
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(Step::Any(self.expr(step)?))
    }

    fn call(&mut self, expr: &Expr) -> Result<Plan, EvalError> {
        let Kind::Call { function, target, args } = &expr.kind else {
            return Err(EvalError::no_such_overload());
        };
        if let ("_?._", [on, name]) = (function.as_str(), &args[..])
            && let Some(Literal::String(name)) = name.literal()
            && let Some(place) = self.lazy(on, name)
        {
            return Ok(Plan::Lazy(place, Asked::Optional));
        }
        let mut plans = Vec::with_capacity(args.len() + 1);
        for arg in target.as_deref().into_iter().chain(args) {
            plans.push(self.expr(arg)?);
        }
        Ok(match (function.as_str(), plans.len()) {
            ("_&&_", 2) => Plan::And(pair(plans)),
            ("_||_", 2) => Plan::Or(pair(plans)),
            ("_?_:_", 3) => {
                let three: [Plan; 3] = plans.try_into().expect("three were counted");
                Plan::Conditional(Box::new(three))
            }
            ("@not_strictly_false", 1) => Plan::NotStrictlyFalse(Box::new(plans.pop().expect("one was counted"))),
            ("_[_]", 2) => Plan::Index(pair(plans)),
            ("_?._" | "_[?_]", 2) => Plan::OptionalSelect(pair(plans)),
            ("or", 2) if target.is_some() => Plan::OptionalOr(pair(plans), Unwrap::No),
            ("orValue", 2) if target.is_some() => Plan::OptionalOr(pair(plans), Unwrap::Yes),
            ("matches", 2) | ("find", 2) | ("findAll", 2 | 3) => self.regex(expr, function, plans)?,
            _ => self.plain(expr, function, plans)?,
        })
    }

    fn plain(&self, expr: &Expr, function: &str, args: Vec<Plan>) -> Result<Plan, EvalError> {
        let found = self.env.function(function).ok_or_else(EvalError::no_such_overload)?;
        let overloads = self.checked.overloads(expr);
        let overload = match overloads {
            [one] => one,
            _ => "",
        };
        let eval = found
            .overloads
            .iter()
            .find(|o| o.id == overload)
            .map_or(found.eval, |o| o.eval);
        // Conversions of constants are made once, and fail at once.
        if let ([Plan::Const(value)], true) = (&args[..], standard::is_conversion(function)) {
            return Ok(Plan::Const(eval(std::slice::from_ref(value))?));
        }
        Ok(Plan::Call(Box::new(Call {
            function: function.into(),
            overload,
            eval,
            args,
        })))
    }

    fn regex(&self, expr: &Expr, function: &str, mut args: Vec<Plan>) -> Result<Plan, EvalError> {
        let Plan::Const(Value::String(pattern)) = &args[1] else {
            return self.plain(expr, function, args);
        };
        let regex = go_regex(pattern).map_err(|e| EvalError::new(e.to_string()))?;
        let pattern_size = pattern.chars().count() as u64;
        let limit = if args.len() > 2 { args.pop() } else { None };
        let text = args.swap_remove(0);
        Ok(Plan::Regex(Box::new(RegexCall {
            function: function.into(),
            regex,
            pattern_size,
            text,
            limit,
        })))
    }
}

fn pair(plans: Vec<Plan>) -> Box<[Plan; 2]> {
    let two: [Plan; 2] = plans.try_into().expect("two were counted");
    Box::new(two)
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(i) => Value::Int(*i),
        Literal::Uint(u) => Value::Uint(*u),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(s) => Value::string(s.clone()),
        Literal::Bytes(b) => Value::Bytes(Arc::from(&b[..])),
    }
}

fn constant_list(elements: Vec<Plan>, optional: Vec<usize>) -> Plan {
    let known = |plan: &Plan| match plan {
        Plan::Const(value) => Some(value.clone()),
        _ => None,
    };
    if optional.is_empty()
        && !elements.is_empty()
        && let Some(values) = elements.iter().map(known).collect::<Option<Vec<_>>>()
    {
        return Plan::Const(Value::list(values));
    }
    Plan::List { elements, optional }
}

fn constant_map(entries: Vec<(Plan, Plan, bool)>) -> Plan {
    let known = |entry: &(Plan, Plan, bool)| match entry {
        (Plan::Const(key), Plan::Const(value), false) => Some((Key::of(key.clone()).ok()?, value.clone())),
        _ => None,
    };
    if !entries.is_empty()
        && let Some(known) = entries.iter().map(known).collect::<Option<Vec<_>>>()
    {
        let count = known.len();
        let map: std::collections::BTreeMap<_, _> = known.into_iter().collect();
        // A repeated key is an error when it is evaluated.
        if map.len() == count {
            return Plan::Const(Value::Map(Arc::new(map)));
        }
    }
    Plan::Map(entries)
}
