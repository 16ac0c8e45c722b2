//! Lists: Kubernetes' functions and version 3 of cel-go's.
//!
//! Source: kubernetes/apiserver pkg/cel/library/lists.go, cel-go ext/lists.go.
// PERFORMANCE: per-request path

use super::Row;
use super::operators::{extreme, function_add};
use crate::value::{EvalError, Result, Value, compare, equal};
use std::cmp::Ordering;

/// An overload for every type with an order.
macro_rules! for_comparable {
    ($shape:ident $prefix:literal $suffix:literal) => {
        for_comparable!(@ $shape $prefix $suffix; "int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
    };
    (@ to_bool $prefix:literal $suffix:literal; $($ty:literal),+) => {
        &[$((concat!($prefix, $ty, $suffix), concat!("list(", $ty, ").() -> bool"))),+]
    };
    (@ to_list $prefix:literal $suffix:literal; $($ty:literal),+) => {
        &[$((concat!($prefix, $ty, $suffix), concat!("list(", $ty, ").() -> list(", $ty, ")"))),+]
    };
    (@ to_item $prefix:literal $suffix:literal; $($ty:literal),+) => {
        &[$((concat!($prefix, $ty, $suffix, $ty), concat!("list(", $ty, ").() -> ", $ty))),+]
    };
    (@ by_keys $prefix:literal $suffix:literal; $($ty:literal),+) => {
        &[$((concat!($prefix, $ty, $suffix), concat!("list(T).(list(", $ty, ")) -> list(T)"))),+]
    };
}

pub const FUNCTIONS: &[Row] = &[
    (
        "isSorted",
        for_comparable!(to_bool "list_" "_is_sorted_bool"),
        is_sorted,
    ),
    (
        "sum",
        &[
            ("list_int_sum_int", "list(int).() -> int"),
            ("list_uint_sum_uint", "list(uint).() -> uint"),
            ("list_double_sum_double", "list(double).() -> double"),
            ("list_duration_sum_duration", "list(duration).() -> duration"),
        ],
        sum,
    ),
    ("max", for_comparable!(to_item "list_" "_max_"), |args| {
        extreme(&items(args)?, Ordering::Greater)?.ok_or_else(|| EvalError::new("max called on empty list"))
    }),
    ("min", for_comparable!(to_item "list_" "_min_"), |args| {
        extreme(&items(args)?, Ordering::Less)?.ok_or_else(|| EvalError::new("min called on empty list"))
    }),
    (
        "indexOf",
        &[
            ("list_a_index_of_int", "list(A).(A) -> int"),
            ("string_index_of_string", "string.(string) -> int"),
            ("string_index_of_string_int", "string.(string, int) -> int"),
        ],
        |args| match args[0].items() {
            Some(items) => Ok(place(items.iter().position(|v| equal(v, &args[1])))),
            None => super::strings::index_of(args).map(Value::Int),
        },
    ),
    (
        "lastIndexOf",
        &[
            ("list_a_last_index_of_int", "list(A).(A) -> int"),
            ("string_last_index_of_string", "string.(string) -> int"),
            ("string_last_index_of_string_int", "string.(string, int) -> int"),
        ],
        |args| match args[0].items() {
            Some(items) => Ok(place(items.iter().rposition(|v| equal(v, &args[1])))),
            None => super::strings::last_index_of(args).map(Value::Int),
        },
    ),
    ("slice", &[("list_slice", "list(T).(int, int) -> list(T)")], slice),
    (
        "flatten",
        &[
            ("list_flatten", "list(list(T)).() -> list(T)"),
            ("list_flatten_int", "list(dyn).(int) -> list(dyn)"),
        ],
        |args| {
            let depth = match args.get(1) {
                None => 1,
                Some(Value::Int(depth)) if *depth >= 0 => *depth,
                Some(Value::Int(_)) => return Err(EvalError::new("level must be non-negative")),
                Some(_) => return Err(EvalError::no_such_overload()),
            };
            let mut out = Vec::new();
            flatten(items(args)?, depth, &mut out);
            Ok(Value::list(out))
        },
    ),
    ("sort", for_comparable!(to_list "list_" "_sort"), |args| {
        let items = items(args)?;
        sorted_by(items.clone(), &items)
    }),
    (
        "@sortByAssociatedKeys",
        for_comparable!(by_keys "list_" "_sortByAssociatedKeys"),
        |args| {
            let keys = args[1].items().ok_or_else(EvalError::no_such_overload)?;
            sorted_by(items(args)?, &keys)
        },
    ),
    (
        "lists.range",
        &[("lists_range", "(int) -> list(int)")],
        |args| match args[0] {
            // A list that could never be paid for is not made.
            Value::Int(n) if n > 1_000_000 => Err(EvalError::TooExpensive),
            Value::Int(n) => Ok(Value::list((0..n).map(Value::Int).collect())),
            _ => Err(EvalError::no_such_overload()),
        },
    ),
    ("reverse", &[("list_reverse", "list(T).() -> list(T)")], |args| {
        let mut items = items(args)?;
        items.reverse();
        Ok(Value::list(items))
    }),
    ("distinct", &[("list_distinct", "list(T).() -> list(T)")], |args| {
        let mut kept: Vec<Value> = Vec::new();
        for item in items(args)? {
            if !kept.iter().any(|v| equal(v, &item)) {
                kept.push(item);
            }
        }
        Ok(Value::list(kept))
    }),
];

fn items<'a>(args: &[Value<'a>]) -> Result<Vec<Value<'a>>> {
    args[0].items().ok_or_else(EvalError::no_such_overload)
}

fn place<'a>(index: Option<usize>) -> Value<'a> {
    Value::Int(index.map_or(-1, |i| i as i64))
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    for pair in items(args)?.windows(2) {
        if compare(&pair[0], &pair[1])?.is_gt() {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let mut items = items(args)?.into_iter();
    // COMPAT: the sum of nothing is an integer whatever the list is of.
    let Some(mut total) = items.next() else {
        return Ok(Value::Int(0));
    };
    for item in items {
        total = function_add(&[total, item])?;
    }
    Ok(total)
}

fn slice<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let items = items(args)?;
    let (Value::Int(start), Value::Int(end)) = (&args[1], &args[2]) else {
        return Err(EvalError::no_such_overload());
    };
    let refuse = |why: String| Err(EvalError::new(format!("cannot slice({start}, {end}), {why}")));
    if *start < 0 || *end < 0 {
        return refuse("negative indexes not supported".into());
    }
    if start > end {
        return refuse("start index must be less than or equal to end index".into());
    }
    if *end > items.len() as i64 {
        return refuse(format!("list is length {}", items.len()));
    }
    Ok(Value::list(items[*start as usize..*end as usize].to_vec()))
}

fn flatten<'a>(items: Vec<Value<'a>>, depth: i64, out: &mut Vec<Value<'a>>) {
    for item in items {
        match item.items().filter(|_| depth > 0) {
            Some(inner) => flatten(inner, depth - 1, out),
            None => out.push(item),
        }
    }
}

fn sorted_by<'a>(items: Vec<Value<'a>>, keys: &[Value<'a>]) -> Result<Value<'a>> {
    if items.len() != keys.len() {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            items.len(),
            keys.len()
        )));
    }
    let Some(first) = keys.first() else {
        return Ok(Value::list(items));
    };
    if compare(first, first).is_err() {
        return Err(EvalError::new("list elements must be comparable"));
    }
    let kind = std::mem::discriminant(first);
    if keys.iter().any(|k| std::mem::discriminant(k) != kind) {
        return Err(EvalError::new("list elements must have the same type"));
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|&a, &b| compare(&keys[a], &keys[b]).unwrap_or(Ordering::Equal));
    Ok(Value::list(order.into_iter().map(|i| items[i].clone()).collect()))
}
