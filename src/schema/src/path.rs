//! Where a walk stands, as a list on the stack: nothing is allocated until something must be told.

use crate::types::{Field, Shape, TypeRef};
use fairlead_api::json;
use std::fmt::Write;

pub(crate) struct Path<'a> {
    pub parent: Option<&'a Path<'a>>,
    pub step: Step<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    /// With what stands before all paths.
    Root(&'a str),
    /// A declared field, and the struct it belongs to.
    Field(&'a Field, TypeRef<'a>),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// As in messages about unknown fields: `spec.containers[0].foo`.
    pub fn json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_json(out);
        }
        match self.step {
            Step::Root(prefix) => out.push_str(prefix),
            Step::Index(i) => write!(out, "[{i}]").expect("writing to a String cannot fail"),
            Step::Field(Field { name, .. }, _) => push_name(name, out),
            Step::Key(name) => push_name(name, out),
        }
    }

    /// The steps into the document, below what stands before all paths.
    pub fn steps(&self) -> Vec<json::Step> {
        let mut steps = self.parent.map_or_else(Vec::new, Path::steps);
        match self.step {
            Step::Root(_) => {}
            Step::Index(i) => steps.push(json::Step::Index(i)),
            Step::Field(Field { name, .. }, _) => steps.push(json::Step::Key(name.to_string())),
            Step::Key(name) => steps.push(json::Step::Key(name.to_owned())),
        }
        steps
    }

    /// As in Go's type errors: the fields on the way, with embedded structs and without indices and keys, and the
    /// struct of the innermost one.
    pub fn go_fields(&self) -> Option<(TypeRef<'a>, String)> {
        let mut owner = None;
        let mut names: Vec<&str> = Vec::new();
        let mut at = Some(self);
        while let Some(path) = at {
            if let Step::Field(field, of) = path.step {
                owner = owner.or(Some(of));
                names.push(&field.name);
                if !field.embedded.is_empty() {
                    names.push(&field.embedded);
                }
            }
            at = path.parent;
        }
        names.reverse();
        owner.map(|owner| (owner, names.join(".")))
    }
}

fn push_name(name: &str, out: &mut String) {
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(name);
}

/// Whether every step of `path` is declared, or a key of a map.
pub(crate) fn is_declared(path: &str, schema: TypeRef) -> bool {
    if path.is_empty() {
        return true;
    }
    match schema.shape() {
        Shape::Struct(fields) => {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            fields
                .get(&path[..end])
                .is_some_and(|f| is_declared(after_name(&path[end..]), schema.with(f.ty)))
        }
        Shape::List(items) => match path.strip_prefix('[').and_then(|p| p.split_once(']')) {
            Some((_, rest)) => is_declared(after_name(rest), schema.with(*items)),
            None => false,
        },
        Shape::Map(values) => {
            // Keys may have dots and brackets in them: any split that leads on is good.
            let values = schema.with(*values);
            let splits = path.match_indices(['.', '[']).map(|(i, _)| i);
            splits
                .chain([path.len()])
                .any(|end| is_declared(after_name(&path[end..]), values))
        }
        _ => false,
    }
}

fn after_name(rest: &str) -> &str {
    rest.strip_prefix('.').unwrap_or(rest)
}
