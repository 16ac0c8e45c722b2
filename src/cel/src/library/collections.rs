//! Sizes, sets, and the function that two-variable comprehensions build maps with.
// PERFORMANCE: per-request path

use super::Row;
use crate::value::{EvalError, Key, Result, Value, equal};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const FUNCTIONS: &[Row] = &[
    (
        "size",
        &[
            ("size_bytes", "(bytes) -> int"),
            ("bytes_size", "bytes.() -> int"),
            ("size_list", "(list(A)) -> int"),
            ("list_size", "list(A).() -> int"),
            ("size_map", "(map(A, B)) -> int"),
            ("map_size", "map(A, B).() -> int"),
            ("size_string", "(string) -> int"),
            ("string_size", "string.() -> int"),
        ],
        |args| {
            args[0]
                .size()
                .map(|n| Value::Int(n as i64))
                .ok_or_else(EvalError::no_such_overload)
        },
    ),
    (
        "sets.contains",
        &[("list_sets_contains_list", "(list(T), list(T)) -> bool")],
        |args| {
            let (a, b) = lists(args)?;
            Ok(Value::Bool(contains(&a, &b)))
        },
    ),
    (
        "sets.equivalent",
        &[("list_sets_equivalent_list", "(list(T), list(T)) -> bool")],
        |args| {
            let (a, b) = lists(args)?;
            Ok(Value::Bool(contains(&a, &b) && contains(&b, &a)))
        },
    ),
    (
        "sets.intersects",
        &[("list_sets_intersects_list", "(list(T), list(T)) -> bool")],
        |args| {
            let (a, b) = lists(args)?;
            Ok(Value::Bool(a.iter().any(|v| b.iter().any(|w| equal(v, w)))))
        },
    ),
    (
        "cel.@mapInsert",
        &[
            ("@mapInsert_map_key_value", "(map(K, V), K, V) -> map(K, V)"),
            ("@mapInsert_map_map", "(map(K, V), map(K, V)) -> map(K, V)"),
        ],
        insert,
    ),
];

fn lists<'a>(args: &[Value<'a>]) -> Result<(Vec<Value<'a>>, Vec<Value<'a>>)> {
    args[0]
        .items()
        .zip(args[1].items())
        .ok_or_else(EvalError::no_such_overload)
}

fn contains(list: &[Value], sublist: &[Value]) -> bool {
    sublist.iter().all(|v| list.iter().any(|w| equal(v, w)))
}

fn insert<'a>(args: &[Value<'a>]) -> Result<Value<'a>> {
    let Value::Map(map) = &args[0] else {
        return Err(EvalError::no_such_overload());
    };
    let mut map = map.clone();
    let entries = Arc::make_mut(&mut map);
    match args {
        [_, key, value] => insert_into(entries, Some(key.clone()), value.clone())?,
        [_, more] => insert_into(entries, None, more.clone())?,
        _ => return Err(EvalError::no_such_overload()),
    }
    Ok(Value::Map(map))
}

/// Puts an entry into a map, or without a key all entries of another.
///
/// # Errors
/// Where a key is there already, or can be none.
pub fn insert_into<'a>(map: &mut BTreeMap<Key<'a>, Value<'a>>, key: Option<Value<'a>>, value: Value<'a>) -> Result<()> {
    match (key, value) {
        (Some(key), value) => put(map, Key::of(key)?, value),
        (None, Value::Map(more)) => more
            .iter()
            .try_for_each(|(key, value)| put(map, key.clone(), value.clone())),
        (None, Value::Json(json)) if !json.is_list() => json
            .entries()
            .try_for_each(|(key, node, ty)| put(map, key, Value::from_node(node, ty)?)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn put<'a>(map: &mut BTreeMap<Key<'a>, Value<'a>>, key: Key<'a>, value: Value<'a>) -> Result<()> {
    if map.contains_key(&key) {
        let shown = match &key {
            Key::Bool(b) => b.to_string(),
            Key::Int(i) => i.to_string(),
            Key::Uint(u) => u.to_string(),
            Key::String(s) => s.to_string(),
        };
        return Err(EvalError::new(format!("insert failed: key {shown} already exists")));
    }
    map.insert(key, value);
    Ok(())
}
