//! Functions: what they are called with, what they answer, and how.
//!
//! One file a library; each has a table of functions, whose signatures are written as text: `string.(int) -> bool`
//! is a member of strings. What is here is what Kubernetes 1.35 offers, since expressions must outlive a downgrade.

pub mod authz;
pub mod cidr;
pub mod collections;
pub mod format;
pub mod ip;
pub mod json_patch;
pub mod lists;
pub mod operators;
pub mod optional;
pub mod quantity;
pub mod regex;
pub mod semver;
mod signature;
pub mod standard;
pub mod string_format;
pub mod strings;
pub mod time;
pub mod url;

use crate::types::Type;
use crate::value::{Result, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Evaluates a call, the target first.
pub type Eval = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>>;

/// A line of a library's table: name, overloads (id and signature), implementation.
pub type Row = (&'static str, &'static [(&'static str, &'static str)], Eval);

pub struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
    pub eval: Eval,
}

pub struct Overload {
    pub id: &'static str,
    pub member: bool,
    /// The target, if any, first.
    pub params: Vec<Type>,
    pub result: Type,
    /// The names of the types that calls choose.
    pub type_params: Vec<&'static str>,
    pub eval: Eval,
}

/// The function of this name.
pub fn function(name: &str) -> Option<&'static Function> {
    static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
        let tables: [&[Row]; 16] = [
            operators::FUNCTIONS,
            standard::FUNCTIONS,
            collections::FUNCTIONS,
            time::FUNCTIONS,
            strings::FUNCTIONS,
            string_format::FUNCTIONS,
            optional::FUNCTIONS,
            lists::FUNCTIONS,
            regex::FUNCTIONS,
            url::FUNCTIONS,
            ip::FUNCTIONS,
            cidr::FUNCTIONS,
            quantity::FUNCTIONS,
            semver::FUNCTIONS,
            authz::FUNCTIONS,
            json_patch::FUNCTIONS,
        ];
        let mut functions: HashMap<&'static str, Function> = HashMap::new();
        for (name, overloads, eval) in tables.into_iter().flatten().chain(format::FUNCTIONS) {
            let function = functions.entry(name).or_insert_with(|| Function {
                name,
                overloads: Vec::new(),
                eval: *eval,
            });
            for (id, signature) in *overloads {
                function.overloads.push(signature::parse(id, signature, *eval));
            }
        }
        functions
    });
    FUNCTIONS.get(name)
}
