//! [`Lazy`]: named values that expressions may use and that are worked out when one first does.
//!
//! Source: kubernetes/apiserver pkg/admission/plugin/cel/composition.go, pkg/cel/lazy/lazy.go.
// PERFORMANCE: per-request path

use crate::program::{PER_CALL_LIMIT, Program};
use crate::value::{EvalError, Result, Value};
use fairlead_api::field::go_quote;
use std::cell::{Cell, RefCell};

/// A named expression, or why it does not compile.
#[derive(Debug)]
pub struct LazyValue {
    pub name: String,
    pub program: std::result::Result<Program, String>,
}

/// The values of one evaluation, in the order of [`Env::with_lazy`](crate::Env::with_lazy).
pub struct Lazy<'p, 'a> {
    values: &'p [LazyValue],
    known: RefCell<Vec<Option<Result<Value<'a>>>>>,
    cost: Cell<u64>,
}

impl<'p, 'a> Lazy<'p, 'a> {
    pub fn new(values: &'p [LazyValue]) -> Lazy<'p, 'a> {
        Lazy {
            values,
            known: RefCell::new(vec![None; values.len()]),
            cost: Cell::new(0),
        }
    }

    /// What has been worked out since this was last asked cost.
    pub fn take_cost(&self) -> u64 {
        self.cost.take()
    }

    pub(crate) fn get(&self, place: usize, variables: &[Option<Value<'a>>]) -> Result<Value<'a>> {
        let known = self.known.borrow().get(place).cloned().flatten();
        if let Some(known) = known {
            return known;
        }
        let value = self.values.get(place).ok_or_else(EvalError::no_such_overload)?;
        let result = self.work_out(value, variables);
        if !matches!(result, Err(EvalError::Pending)) {
            self.known.borrow_mut()[place] = Some(result.clone());
        }
        result
    }

    fn work_out(&self, value: &LazyValue, variables: &[Option<Value<'a>>]) -> Result<Value<'a>> {
        let named = || go_quote(&value.name);
        let failed = |what: &str, why: &dyn std::fmt::Display| {
            EvalError::new(format!("composited variable {} fails to {what}: {why}", named()))
        };
        let program = value.program.as_ref().map_err(|why| failed("compile", why))?;
        let outcome = program.run_with(variables, Some(self), PER_CALL_LIMIT);
        self.cost.set(self.cost.get().saturating_add(outcome.cost));
        match outcome.value {
            Err(EvalError::Pending) => Err(EvalError::Pending),
            Err(why) => Err(failed("evaluate", &why)),
            Ok(value) => Ok(value),
        }
    }
}
