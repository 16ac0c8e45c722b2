//! Numbers: ranges of their formats, `minimum`, `maximum` and `multipleOf`, with integers compared as integers.

use super::outcome::{Outcome, path, pathless};
use super::view::View;
use fairlead_api::field::go_float;
use fairlead_api::{FieldError, Node};

const MAX_JSON_INTEGER: f64 = 9_007_199_254_740_991.0;

pub(super) fn check_number(at: &str, view: View, node: &Node) -> Outcome {
    let mut result = Outcome::matched(1);
    let kind = Kind::of(view);
    let value = match node {
        Node::Int(i) => Value::Int(*i),
        other => Value::Float(other.as_f64().unwrap_or_default()),
    };
    if let Some(error) = kind.out_of_range(value, "Checked", at) {
        result.add(error);
    }
    let Some(v) = view.validation() else { return result };
    let fail = |words: &str, limit: &str| {
        FieldError::invalid(
            &path(at),
            node.clone(),
            format!("{at} in body should be {words} {limit}"),
        )
    };
    if let Some(factor) = v.multiple_of {
        let error = kind.out_of_range(Value::Float(factor), "MultipleOf", at);
        let (multiple, shown) = match value {
            Value::Int(i) if error.is_none() => (is_multiple(i, factor as i64), (factor as i64).to_string()),
            other => (is_float_multiple(other.as_f64(), factor), go_float(factor)),
        };
        error.into_iter().for_each(|e| result.add(e));
        match multiple {
            Some(true) => {}
            Some(false) => result.add(fail("a multiple of", &shown)),
            None => {
                let detail = format!("factor MultipleOf declared for {at} must be positive: {shown}");
                let shown = if matches!(value, Value::Int(_)) {
                    Node::Int(factor as i64)
                } else {
                    Node::Float(factor)
                };
                result.add(FieldError::invalid(&path(at), shown, detail));
            }
        }
    }
    let mut bound = |limit: f64, name: &str, exclusive: bool, below: bool| {
        let error = kind.out_of_range(Value::Float(limit), name, at);
        let (over, shown) = match value {
            Value::Int(i) if error.is_none() => (
                beyond(&i, &(limit as i64), exclusive, below),
                (limit as i64).to_string(),
            ),
            other => (beyond(&other.as_f64(), &limit, exclusive, below), go_float(limit)),
        };
        error.into_iter().for_each(|e| result.add(e));
        if over {
            let words = match (below, exclusive) {
                (true, true) => "greater than",
                (true, false) => "greater than or equal to",
                (false, true) => "less than",
                (false, false) => "less than or equal to",
            };
            result.add(fail(words, &shown));
        }
    };
    if let Some(minimum) = v.minimum {
        bound(minimum, "Minimum boundary", v.exclusive_minimum, true);
    }
    if let Some(maximum) = v.maximum {
        bound(maximum, "Maximum boundary", v.exclusive_maximum, false);
    }
    result
}

/// Whether Go's reflection takes `value` for the listed one: numbers are converted to the listed kind first.
pub(super) fn equals_as(value: &Node, listed: &Node) -> bool {
    match (value, listed) {
        (Node::Int(a), Node::Float(b)) => *a as f64 == *b,
        // COMPAT: the conversion cuts, so 1.5 is among [1].
        (Node::Float(a), Node::Int(b)) => *a as i64 == *b,
        (a, b) => a == b,
    }
}

/// Whether a float is whole, give or take what a division of decimals loses.
pub(super) fn is_json_integer(f: f64) -> bool {
    if !f.is_finite() || f.abs() > MAX_JSON_INTEGER {
        return false;
    }
    let whole = f.trunc();
    if f == whole {
        return true;
    }
    let difference = (f - whole).abs();
    f > 0.0 && whole != 0.0 && difference / (f.abs() + whole.abs()) < 1e-9
}

#[derive(Clone, Copy)]
enum Value {
    Int(i64),
    Float(f64),
}

impl Value {
    fn as_f64(self) -> f64 {
        match self {
            Value::Int(i) => i as f64,
            Value::Float(f) => f,
        }
    }
}

struct Kind<'a> {
    /// `integer`, `number`, or empty where the type is neither or not one.
    name: &'static str,
    format: &'a str,
}

impl<'a> Kind<'a> {
    fn of(view: View<'a>) -> Kind<'a> {
        match view.types() {
            ["integer"] => Kind {
                name: "integer",
                format: view.format(),
            },
            ["number"] => Kind {
                name: "number",
                format: view.format(),
            },
            _ => Kind { name: "", format: "" },
        }
    }

    /// The complaint about a number that its type cannot hold.
    fn out_of_range(&self, value: Value, what: &str, at: &str) -> Option<FieldError> {
        let fits = match (self.name, self.format, value) {
            ("integer", "int32", Value::Int(i)) => i32::try_from(i).is_ok(),
            ("integer", "int32", Value::Float(f)) => {
                f.fract() == 0.0 && f.abs() <= 2_147_483_648.0 && f != 2_147_483_648.0
            }
            ("integer", _, Value::Float(f)) => {
                f.fract() == 0.0 && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&f)
            }
            ("number", "float", value) => (value.as_f64() as f32).is_finite(),
            _ => true,
        };
        if fits {
            return None;
        }
        let format = match self.format {
            "" => "(default format)".to_owned(),
            format => format!("with format {format}"),
        };
        Some(pathless(format!(
            "{what} value must be of type {} {format} in {at}",
            self.name
        )))
    }
}

fn beyond<T: PartialOrd>(value: &T, limit: &T, exclusive: bool, below: bool) -> bool {
    let outside = if below { value < limit } else { value > limit };
    outside || (exclusive && value == limit)
}

/// `None` where the factor makes no sense.
fn is_multiple(value: i64, factor: i64) -> Option<bool> {
    (factor > 0).then(|| value % factor == 0)
}

fn is_float_multiple(value: f64, factor: f64) -> Option<bool> {
    (factor > 0.0).then(|| {
        is_json_integer(if factor < 1.0 {
            1.0 / factor * value
        } else {
            value / factor
        })
    })
}
