//! Signatures from text.

use super::{Eval, Overload};
use crate::types::{Type, params_in};
use std::collections::BTreeMap;

/// Reads `target.(arg, …) -> result`, or `(arg, …) -> result`.
pub fn parse(id: &'static str, text: &'static str, eval: Eval) -> Overload {
    let (call, result) = text.split_once(" -> ").expect("a signature has a result");
    let open = match call.strip_prefix('(') {
        Some(_) => 0,
        None => call.find(".(").expect("a member's arguments follow its target") + 1,
    };
    let member = open > 0;
    let mut params = Vec::new();
    if member {
        params.push(whole(&call[..open - 1]));
    }
    let mut rest = call[open + 1..].strip_suffix(')').expect("arguments end");
    while !rest.is_empty() {
        let (ty, after) = ty(rest);
        params.push(ty);
        rest = after.strip_prefix(", ").unwrap_or(after);
    }
    let result = whole(result);
    let mut type_params = Vec::new();
    params
        .iter()
        .chain([&result])
        .for_each(|t| params_in(t, &mut type_params));
    Overload {
        id,
        member,
        params,
        result,
        type_params,
        eval,
    }
}

fn whole(text: &'static str) -> Type {
    let (ty, rest) = ty(text);
    assert!(rest.is_empty(), "a signature is well formed: {text}");
    ty
}

fn ty(text: &'static str) -> (Type, &'static str) {
    let end = text.find(['(', ')', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(mut rest) = rest.strip_prefix('(') else {
        return (named(name), rest);
    };
    let mut params = Vec::new();
    loop {
        let (param, after) = ty(rest);
        params.push(param);
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => {
                rest = after.strip_prefix(')').expect("parameters end");
                break;
            }
        }
    }
    let mut params = params.into_iter();
    let mut next = || params.next().expect("a type has its parameters");
    let ty = match name {
        "list" => Type::list(next()),
        "optional" => Type::optional(next()),
        "type" => Type::type_of(next()),
        "map" => Type::map(next(), next()),
        other => unreachable!("no type has parameters but the known: {other}"),
    };
    (ty, rest)
}

fn named(name: &'static str) -> Type {
    let object = |name: &str| Type::object(name, BTreeMap::new());
    match name {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "url" => object("kubernetes.URL"),
        "quantity" => object("kubernetes.Quantity"),
        "semver" => object("kubernetes.Semver"),
        "format" => object("kubernetes.NamedFormat"),
        "ip" => Type::opaque("net.IP"),
        "cidr" => Type::opaque("net.CIDR"),
        "authorizer" => object("kubernetes.authorization.Authorizer"),
        "path" => object("kubernetes.authorization.PathCheck"),
        "group" => object("kubernetes.authorization.GroupCheck"),
        "resource" => object("kubernetes.authorization.ResourceCheck"),
        "decision" => object("kubernetes.authorization.Decision"),
        param => Type::Param(param),
    }
}
