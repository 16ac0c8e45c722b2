//! What a call costs, once its arguments are known.
// PERFORMANCE: per-request path

use crate::cost::{LIST_COST, REGEX, STRUCT_COST, TRAVERSAL};
use crate::value::{Extension, Value};

/// The cost of a call beside its arguments.
pub fn call(function: &str, overload: &str, args: &[Value], result: Option<&Value>) -> u64 {
    let size = |i: usize| args.get(i).map_or(1, Value::cost_size);
    let text = |i: usize, factor: f64| (size(i) as f64 * factor * TRAVERSAL).ceil() as u64;
    if let Some(cost) = list(overload, args, result) {
        return cost;
    }
    match function {
        "check" => 350_000,
        "fieldSelector" | "labelSelector" => {
            let requirements = (size(1) as f64 * 0.5).ceil() * (LIST_COST + STRUCT_COST) as f64;
            LIST_COST + text(1, 1.0) + requirements as u64
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => text(0, 1.0),
        "replace" | "split" | "ip.isCanonical" => text(0, 2.0),
        "join" => result.map_or(0, |r| (r.cost_size() as f64 * 2.0 * TRAVERSAL).ceil() as u64),
        "find" | "findAll" => regex(size(0), size(1)),
        "ip" if overload != "cidr_ip" => text(0, 1.0),
        "containsIP" => {
            let other = if overload == "cidr_contains_ip_string" {
                text(1, 1.0)
            } else {
                0
            };
            text(0, 2.0) + other
        }
        "containsCIDR" => {
            let other = if overload == "cidr_contains_cidr_string" {
                text(1, 1.0)
            } else {
                0
            };
            text(0, 2.0) + text(0, 1.0) + 1 + other
        }
        "validate" => match &args[0] {
            Value::Extension(extension) => match &**extension {
                Extension::Format(format) => regex(size(1), format.regex_size),
                _ => 1,
            },
            _ => 1,
        },
        "contains" => text(0, 1.0).saturating_mul(text(1, 1.0)),
        "matches" => regex(size(0), size(1)),
        "startsWith" | "endsWith" | "format" | "strings.quote" => text(0, 1.0),
        "bytes" | "string" if matches!(args.first(), Some(Value::String(_) | Value::Bytes(_))) => text(0, 1.0),
        "@in" if args.get(1).is_some_and(|c| c.items().is_some()) => size(1),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => {
            if matches!(args.first(), Some(Value::Extension(_))) {
                return 1;
            }
            (size(0).min(size(1)) as f64 * TRAVERSAL).ceil() as u64
        }
        "_+_" if matches!(args.first(), Some(Value::String(_) | Value::Bytes(_))) => {
            (size(0).saturating_add(size(1)) as f64 * TRAVERSAL).ceil() as u64
        }
        _ => 1,
    }
}

/// The cost of a match.
pub fn regex(text: u64, pattern: u64) -> u64 {
    let text = ((1.0 + text as f64) * TRAVERSAL).ceil() as u64;
    text.saturating_mul((pattern as f64 * REGEX).ceil() as u64)
}

/// cel-go's own prices of lists and sets.
fn list(overload: &str, args: &[Value], result: Option<&Value>) -> Option<u64> {
    let size = |i: usize| args.get(i).map_or(1, Value::cost_size);
    let allocating = |factor: f64, size: u64| ((size as f64 * factor) as u64).saturating_add(1 + LIST_COST);
    let compared = |i: usize| {
        let first = args.get(i).and_then(|v| v.items()?.into_iter().next());
        let is_text = matches!(first, Some(Value::String(_) | Value::Bytes(_)));
        let factor = if is_text { 2.0 + TRAVERSAL } else { 2.0 };
        allocating(factor, size(i).saturating_mul(size(i)))
    };
    Some(match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => size(0).saturating_mul(size(1)).saturating_add(1),
        "list_sets_equivalent_list" => size(0).saturating_mul(size(1)).saturating_mul(2).saturating_add(1),
        "list_slice" | "lists_range" | "list_reverse" => allocating(1.0, result.map_or(0, Value::cost_size)),
        "list_flatten" | "list_flatten_int" => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => *depth as f64,
                _ => 1.0,
            };
            allocating(depth, size(0))
        }
        "list_distinct" => compared(0),
        other => {
            let rest = other.strip_prefix("list_")?;
            if rest.ends_with("_sort") {
                compared(0)
            } else if rest.ends_with("_sortByAssociatedKeys") {
                compared(1)
            } else {
                return None;
            }
        }
    })
}

/// The cost of looking at all of a value.
fn traversal(value: &Value) -> u64 {
    match value {
        Value::String(s) => (s.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(b) => (b.len() as f64 * TRAVERSAL) as u64,
        Value::Map(map) => map.iter().map(|(k, v)| traversal(&k.to_value()) + traversal(v)).sum(),
        Value::Json(json) if !json.is_list() => json
            .entries()
            .map(|(k, node, ty)| traversal(&k.to_value()) + Value::from_node(node, ty).map_or(1, |v| traversal(&v)))
            .sum(),
        other => other.items().map_or(1, |items| items.iter().map(traversal).sum()),
    }
}
