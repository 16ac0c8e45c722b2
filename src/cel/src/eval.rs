//! Evaluation of plans, within a budget.
//!
//! Source of the costs: cel-go interpreter/runtimecost.go, kubernetes/apiserver pkg/cel/library/cost.go.
// PERFORMANCE: per-request path

mod price;

use crate::cost::{LIST_COST, MAP_COST, STRUCT_COST};
use crate::lazy::Lazy;
use crate::library::{operators, optional, regex};
use crate::plan::{Asked, Loop, Plan, RegexCall, Step, Unwrap};
use crate::value::{EvalError, Key, Result, Struct, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One evaluation.
pub struct Run<'p, 'a> {
    /// The declared variables in order; `None` where one has no value.
    variables: &'p [Option<Value<'a>>],
    lazy: Option<&'p Lazy<'p, 'a>>,
    locals: Vec<Value<'a>>,
    pub cost: u64,
    limit: u64,
}

impl<'p, 'a> Run<'p, 'a> {
    pub fn new(variables: &'p [Option<Value<'a>>], lazy: Option<&'p Lazy<'p, 'a>>, limit: u64) -> Run<'p, 'a> {
        Run {
            variables,
            lazy,
            locals: Vec::new(),
            cost: 0,
            limit,
        }
    }

    fn pay(&mut self, cost: u64) -> Result<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            Err(EvalError::TooExpensive)
        } else {
            Ok(())
        }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// Where it has none, or costs too much.
    pub fn eval(&mut self, plan: &Plan) -> Result<Value<'a>> {
        match plan {
            Plan::Const(value) => Ok(value.clone()),
            Plan::Variable(place, name) => {
                self.pay(1)?;
                let value = self.variables.get(*place).and_then(Option::as_ref);
                value
                    .cloned()
                    .ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))
            }
            Plan::Lazy(place, asked) => self.lazily(*place, *asked),
            Plan::Local(place) => {
                self.pay(1)?;
                Ok(self.locals[*place].clone())
            }
            Plan::Select { operand, field, test } => self.select(operand, field, *test),
            Plan::Index(of) => self.index(of),
            Plan::OptionalSelect(of) => {
                let args = [self.eval(&of[0])?, self.eval(&of[1])?];
                self.pay(1)?;
                optional::select(&args)
            }
            Plan::And(of) => self.logic(of, false),
            Plan::Or(of) => self.logic(of, true),
            Plan::Conditional(of) => match self.eval(&of[0])? {
                Value::Bool(true) => self.eval(&of[1]),
                Value::Bool(false) => self.eval(&of[2]),
                _ => Err(EvalError::no_such_overload()),
            },
            Plan::NotStrictlyFalse(of) => match self.eval(of) {
                Err(error) if error.is_final() => Err(error),
                value => {
                    self.pay(1)?;
                    Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false)))))
                }
            },
            Plan::OptionalOr(of, unwrap) => self.optional_or(of, *unwrap),
            Plan::Call(call) => {
                let args = self.all(&call.args)?;
                let result = (call.eval)(&args);
                let cost = price::call(&call.function, call.overload, &args, result.as_ref().ok());
                self.pay(cost)?;
                result
            }
            Plan::Regex(call) => self.regex(call),
            Plan::List { elements, optional } => self.list(elements, optional),
            Plan::Map(entries) => self.map(entries),
            Plan::Struct { name, fields } => self.structure(name, fields),
            Plan::Bind(of) => {
                let value = self.eval(&of[0])?;
                self.locals.push(value);
                let result = self.eval(&of[1]);
                self.locals.pop();
                self.pay(LIST_COST)?;
                result
            }
            Plan::Loop(of) => self.looping(of),
        }
    }

    /// A value that is worked out when it is first asked for; that is paid for elsewhere.
    fn lazily(&mut self, place: usize, asked: Asked) -> Result<Value<'a>> {
        self.pay(if asked == Asked::Presence { 1 } else { 2 })?;
        let lazy = self.lazy.ok_or_else(EvalError::no_such_overload)?;
        let value = lazy.get(place, self.variables)?;
        Ok(match asked {
            Asked::Value => value,
            Asked::Presence => Value::Bool(true),
            Asked::Optional => Value::some(value),
        })
    }

    fn all(&mut self, plans: &[Plan]) -> Result<Vec<Value<'a>>> {
        let mut values = Vec::with_capacity(plans.len());
        for plan in plans {
            values.push(self.eval(plan)?);
        }
        Ok(values)
    }

    fn select(&mut self, operand: &Plan, field: &str, test: bool) -> Result<Value<'a>> {
        let value = self.eval(operand)?;
        if !test {
            self.pay(1)?;
        }
        if let Value::Optional(inner) = &value {
            let found = match inner {
                Some(inner) => inner.field(field)?,
                None => None,
            };
            return Ok(if test {
                Value::Bool(found.is_some())
            } else {
                found.map_or(Value::Optional(None), Value::some)
            });
        }
        match value.field(field)? {
            found if test => Ok(Value::Bool(found.is_some())),
            Some(found) => Ok(found),
            None => Err(EvalError::no_such_key(field)),
        }
    }

    fn index(&mut self, of: &[Plan; 2]) -> Result<Value<'a>> {
        let (container, key) = (self.eval(&of[0])?, self.eval(&of[1])?);
        self.pay(1)?;
        operators::index(&container, &key)
    }

    /// `&&` and `||`: one side that decides makes up for an error of the other.
    fn logic(&mut self, of: &[Plan; 2], decisive: bool) -> Result<Value<'a>> {
        let first = self.eval(&of[0]);
        match &first {
            Ok(Value::Bool(b)) if *b == decisive => return first,
            Err(error) if error.is_final() => return first,
            _ => {}
        }
        let second = self.eval(&of[1]);
        match (&first, second) {
            (_, Ok(Value::Bool(b))) if b == decisive => Ok(Value::Bool(b)),
            (_, Err(error)) if error.is_final() => Err(error),
            (Ok(Value::Bool(_)), second @ (Ok(Value::Bool(_)) | Err(_))) => second,
            (Err(_), _) => first,
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn optional_or(&mut self, of: &[Plan; 2], unwrap: Unwrap) -> Result<Value<'a>> {
        match self.eval(&of[0])? {
            Value::Optional(Some(inner)) if unwrap == Unwrap::Yes => Ok(inner.as_ref().clone()),
            some @ Value::Optional(Some(_)) => Ok(some),
            Value::Optional(None) => self.eval(&of[1]),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn regex(&mut self, call: &RegexCall) -> Result<Value<'a>> {
        let value = self.eval(&call.text)?;
        let limit = call.limit.as_ref().map(|l| self.eval(l)).transpose()?;
        let text = value.as_str().ok_or_else(EvalError::no_such_overload)?;
        self.pay(price::regex(value.cost_size(), call.pattern_size))?;
        match call.function.as_str() {
            "matches" => Ok(Value::Bool(call.regex.is_match(text))),
            "find" => Ok(regex::find(text, &call.regex)),
            _ => regex::find_all(text, &call.regex, limit.as_ref()),
        }
    }

    fn list(&mut self, elements: &[Plan], optional: &[usize]) -> Result<Value<'a>> {
        let mut items = Vec::with_capacity(elements.len());
        for (i, element) in elements.iter().enumerate() {
            let value = self.eval(element)?;
            if optional.contains(&i) {
                items.extend(unwrapped(value)?);
            } else {
                items.push(value);
            }
        }
        self.pay(LIST_COST)?;
        Ok(Value::list(items))
    }

    fn map(&mut self, entries: &[(Plan, Plan, bool)]) -> Result<Value<'a>> {
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let (key, value) = (Key::of(self.eval(key)?)?, self.eval(value)?);
            let value = if *optional { unwrapped(value)? } else { Some(value) };
            let Some(value) = value else { continue };
            if map.contains_key(&key) {
                let shown = crate::library::string_format::shown(&key.to_value());
                return Err(EvalError::new(format!("Failed with repeated key \"{shown}\"")));
            }
            map.insert(key, value);
        }
        self.pay(MAP_COST)?;
        Ok(Value::Map(Arc::new(map)))
    }

    fn structure(&mut self, name: &str, fields: &[(String, Plan, bool)]) -> Result<Value<'a>> {
        let mut made = Vec::with_capacity(fields.len());
        for (field, plan, optional) in fields {
            let value = self.eval(plan)?;
            let value = if *optional { unwrapped(value)? } else { Some(value) };
            if let Some(value) = value {
                made.push((field.clone(), value));
            }
        }
        self.pay(STRUCT_COST)?;
        Ok(Value::Struct(Arc::new(Struct {
            name: name.to_owned(),
            fields: made,
        })))
    }

    fn looping(&mut self, of: &Loop) -> Result<Value<'a>> {
        let range = self.eval(&of.range)?;
        let elements = elements(&range, of.two_variables)?;
        let init = self.eval(&of.init)?;
        let depth = self.locals.len();
        self.locals.push(init);
        let result = self.iterate(of, elements, depth);
        let result = result.and_then(|()| self.eval(&of.result));
        self.locals.truncate(depth);
        result
    }

    /// Runs the loop; an error that a later element makes up for is kept in the accumulator's place.
    fn iterate(&mut self, of: &Loop, elements: Vec<(Value<'a>, Option<Value<'a>>)>, depth: usize) -> Result<()> {
        let mut failed: Option<EvalError> = None;
        for (first, second) in elements {
            self.locals.truncate(depth + 1);
            self.locals.push(first);
            self.locals.extend(second);
            if failed.is_none() && !matches!(self.eval(&of.condition)?, Value::Bool(true)) {
                break;
            }
            match self.step(&of.step, depth, failed.take()) {
                Ok(()) => {}
                Err(error) if error.is_final() => return Err(error),
                Err(error) if of.keeps_errors() => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        self.locals.truncate(depth + 1);
        failed.map_or(Ok(()), Err)
    }

    fn step(&mut self, step: &Step, depth: usize, failed: Option<EvalError>) -> Result<()> {
        match step {
            Step::Any(plan) => {
                let next = match failed {
                    None => self.eval(plan)?,
                    Some(error) => self.after_error(plan, error)?,
                };
                self.locals[depth] = next;
            }
            Step::Append { filter, item } => {
                if self.passes(filter.as_ref())? {
                    let item = self.eval(item)?;
                    self.pay(1 + LIST_COST + 1)?;
                    let Value::List(list) = &mut self.locals[depth] else {
                        return Err(EvalError::no_such_overload());
                    };
                    Arc::make_mut(list).push(item);
                } else {
                    self.pay(1)?;
                }
            }
            Step::Insert { filter, key, value } => {
                if self.passes(filter.as_ref())? {
                    let key = key.as_ref().map(|k| self.eval(k)).transpose()?;
                    let value = self.eval(value)?;
                    self.pay(2)?;
                    let Value::Map(map) = &mut self.locals[depth] else {
                        return Err(EvalError::no_such_overload());
                    };
                    crate::library::collections::insert_into(Arc::make_mut(map), key, value)?;
                } else {
                    self.pay(1)?;
                }
            }
        }
        Ok(())
    }

    fn passes(&mut self, filter: Option<&Plan>) -> Result<bool> {
        match filter.map(|f| self.eval(f)).transpose()? {
            None | Some(Value::Bool(true)) => Ok(true),
            Some(Value::Bool(false)) => Ok(false),
            Some(_) => Err(EvalError::no_such_overload()),
        }
    }

    /// `accu && x` or `accu || x` where the accumulator is an error: `x` may still decide.
    fn after_error(&mut self, plan: &Plan, error: EvalError) -> Result<Value<'a>> {
        let (of, decisive) = match plan {
            Plan::And(of) => (of, false),
            Plan::Or(of) => (of, true),
            _ => return Err(error),
        };
        match self.eval(&of[1]) {
            Ok(Value::Bool(b)) if b == decisive => Ok(Value::Bool(b)),
            Err(last) if last.is_final() => Err(last),
            _ => Err(error),
        }
    }
}

impl Loop {
    /// Whether an element that fails does not end the loop: `all` and `exists`.
    fn keeps_errors(&self) -> bool {
        matches!(&self.step, Step::Any(Plan::And(_) | Plan::Or(_)))
    }
}

fn unwrapped<'a>(value: Value<'a>) -> Result<Option<Value<'a>>> {
    match value {
        Value::Optional(inner) => Ok(inner.map(|v| v.as_ref().clone())),
        _ => Err(EvalError::new(
            "cannot initialize optional entry from non-optional value",
        )),
    }
}

/// What a loop goes over: items, or keys; with two variables indices and items, or keys and values.
fn elements<'a>(range: &Value<'a>, two: bool) -> Result<Vec<(Value<'a>, Option<Value<'a>>)>> {
    if let Some(items) = range.items() {
        let items = items.into_iter();
        return Ok(if two {
            items
                .enumerate()
                .map(|(i, item)| (Value::Int(i as i64), Some(item)))
                .collect()
        } else {
            items.map(|item| (item, None)).collect()
        });
    }
    match range {
        Value::Map(map) => Ok(map
            .iter()
            .map(|(key, value)| (key.to_value(), two.then(|| value.clone())))
            .collect()),
        Value::Json(json) => json
            .entries()
            .map(|(key, node, ty)| {
                let value = two.then(|| Value::from_node(node, ty)).transpose()?;
                Ok((key.to_value(), value))
            })
            .collect(),
        _ => Err(EvalError::new(format!(
            "got '{}', expected iterable type",
            range.type_of().name()
        ))),
    }
}
