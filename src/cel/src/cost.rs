//! How much an expression may cost, before anything is known but the schema.
//!
//! Source of the numbers: cel-go checker/cost.go, ext/{lists,sets}.go; kubernetes/apiserver pkg/cel/library/cost.go.
//! They are part of the API: which rules a CRD may have depends on them.

mod calls;
mod size;

pub use size::{Range, Size};

use crate::ast::{Comprehension, Expr, Kind, Literal};
use crate::check::Checked;
use crate::decl::Decl;
use crate::types::Type;
use std::collections::HashMap;

pub const LIST_COST: u64 = 10;
pub const MAP_COST: u64 = 30;
pub const STRUCT_COST: u64 = 40;
/// Of a character that is looked at.
pub const TRAVERSAL: f64 = 0.1;
/// Of a character of a regular expression.
pub const REGEX: f64 = 0.25;

/// Estimates the cost of an expression whose variables are of the declared type `root`.
pub fn estimate(checked: &Checked, root: Option<&Decl>) -> Range {
    let mut estimator = Estimator {
        checked,
        root,
        sizes: HashMap::new(),
        entries: HashMap::new(),
        paths: HashMap::new(),
        locals: Vec::new(),
    };
    estimator.expr(&checked.root)
}

/// Where in the declared types an expression leads: `Some(None)` is somewhere that is not declared.
type Path<'d> = Option<Option<&'d Decl>>;

#[derive(Clone, Copy)]
enum Step<'s> {
    Field(&'s str),
    Element,
    Key,
}

/// The sizes of a list's or map's keys and values.
#[derive(Clone, Copy)]
struct Entries {
    is_list: bool,
    key: Size,
    value: Size,
}

struct Local<'d> {
    name: String,
    path: Path<'d>,
    size: Option<Size>,
    entries: Option<Entries>,
}

struct Estimator<'d> {
    checked: &'d Checked,
    root: Option<&'d Decl>,
    sizes: HashMap<u32, Size>,
    entries: HashMap<u32, Entries>,
    paths: HashMap<u32, Path<'d>>,
    locals: Vec<Local<'d>>,
}

/// An argument, as the costs of functions see it.
#[derive(Clone, Copy)]
struct Arg<'e, 'd> {
    expr: &'e Expr,
    path: Path<'d>,
    size: Option<Size>,
}

impl<'d> Estimator<'d> {
    fn expr(&mut self, expr: &Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) => Range::ZERO,
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path,
                    None => Some(self.root),
                };
                self.paths.insert(expr.id, path);
                Range::fixed(1)
            }
            Kind::Select {
                operand, test: true, ..
            } => self.expr(operand),
            Kind::Select { operand, field, .. } => {
                let mut cost = self.expr(operand);
                if matches!(
                    self.checked.type_of(operand),
                    Type::Map(_) | Type::Object(_) | Type::Var(_) | Type::Param(_)
                ) {
                    cost = cost.add(Range::fixed(1));
                }
                let path = self.step(self.path(operand), Step::Field(field));
                self.paths.insert(expr.id, path);
                cost
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List { elements, .. } => {
                let mut cost = Range::fixed(LIST_COST);
                let mut item = Size::none_yet(elements.is_empty());
                for element in elements {
                    cost = cost.add(self.expr(element));
                    item = item.union(self.size_or_unknown(element));
                }
                self.entries.insert(
                    expr.id,
                    Entries {
                        is_list: true,
                        key: Size::fixed(1),
                        value: item,
                    },
                );
                cost
            }
            Kind::Map(entries) => {
                let mut cost = Range::fixed(MAP_COST);
                let empty = Size::none_yet(entries.is_empty());
                let (mut key, mut value) = (empty, empty);
                for entry in entries {
                    cost = cost.add(self.expr(&entry.key)).add(self.expr(&entry.value));
                    key = key.union(self.size_or_unknown(&entry.key));
                    value = value.union(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(
                    expr.id,
                    Entries {
                        is_list: false,
                        key,
                        value,
                    },
                );
                cost
            }
            Kind::Struct { fields, .. } => {
                let cost = Range::fixed(STRUCT_COST);
                fields
                    .iter()
                    .fold(cost, |cost, field| cost.add(self.expr(&field.value)))
            }
            Kind::Comprehension(of) if is_bind(of) => self.bind(expr, of),
            Kind::Comprehension(of) => self.comprehension(expr, of),
        }
    }

    fn comprehension(&mut self, expr: &Expr, of: &Comprehension) -> Range {
        let mut cost = self.expr(&of.range).add(self.expr(&of.init));
        self.push_local(&of.accu, &of.init);
        self.push_iteration(of);
        let step = self.expr(&of.condition).add(self.expr(&of.step));
        for _ in 0..=usize::from(of.var2.is_some()) {
            self.locals.pop();
        }
        cost = cost.add(self.expr(&of.result));
        self.locals.pop();
        let count = self.size_or_unknown(&of.range);
        cost = cost.add(count.times(step));
        match &of.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&of.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = self.entries_of(&of.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        cost
    }

    fn push_iteration(&mut self, of: &Comprehension) {
        let entries = self.entries_of(&of.range);
        let is_list = entries.map_or(matches!(self.checked.type_of(&of.range), Type::List(_)), |e| e.is_list);
        let path = self.path(&of.range);
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        let at_value = self.step(path, Step::Element);
        // The indices of a list are nowhere in its declaration.
        let at_key = if is_list {
            path.map(|_| None).or(Some(self.root))
        } else {
            self.step(path, Step::Key)
        };
        let mut push = |name: &str, path, size| {
            self.locals.push(Local {
                name: name.to_owned(),
                path,
                size,
                entries: None,
            });
        };
        match &of.var2 {
            Some(var2) => {
                push(&of.var, at_key, key);
                push(var2, at_value, value);
            }
            None if is_list => push(&of.var, at_value, value),
            None => push(&of.var, at_key, key),
        }
    }

    fn bind(&mut self, expr: &Expr, of: &Comprehension) -> Range {
        let cost = self.expr(&of.range).add(self.expr(&of.init));
        self.push_local(&of.accu, &of.init);
        let cost = cost.add(self.expr(&of.result));
        self.locals.pop();
        self.copy_sizes(expr, &of.result);
        cost
    }

    fn push_local(&mut self, name: &str, value: &Expr) {
        let local = Local {
            name: name.to_owned(),
            path: self.path(value),
            size: self.size(value),
            entries: self.entries_of(value),
        };
        self.locals.push(local);
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entries) = self.entries_of(from) {
            self.entries.insert(to.id, entries);
        }
    }

    fn local(&self, name: &str) -> Option<&Local<'d>> {
        self.locals.iter().rev().find(|l| l.name == name)
    }

    fn path(&self, expr: &Expr) -> Path<'d> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path;
        }
        self.paths.get(&expr.id).copied().flatten()
    }

    /// COMPAT: what has no path and is stepped into gets one that starts anew: cel-go takes its first part for a variable.
    fn step(&self, path: Path<'d>, step: Step) -> Path<'d> {
        let Some(at) = path else { return Some(self.root) };
        Some(at.and_then(|decl| match step {
            Step::Field(name) => decl.fields.get(name),
            Step::Element => decl.element.as_deref(),
            Step::Key => match &decl.ty {
                Type::Map(_) => Some(&*KEY),
                _ => None,
            },
        }))
    }

    fn arg<'e>(&mut self, expr: &'e Expr) -> Arg<'e, 'd> {
        Arg {
            expr,
            path: self.path(expr),
            size: self.size(expr),
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Size {
        self.size(expr).unwrap_or(Size::UNKNOWN)
    }

    fn size(&mut self, expr: &Expr) -> Option<Size> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let written = match &expr.kind {
            Kind::Literal(Literal::String(s)) => Some(s.chars().count()),
            Kind::Literal(Literal::Bytes(b)) => Some(b.len()),
            Kind::Literal(_) => Some(1),
            Kind::List { elements, .. } => Some(elements.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = written {
            return Some(Size::fixed(size as u64));
        }
        if let Some(size) = declared(self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.checked.type_of(expr)) {
            return Some(Size::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|l| l.size),
            _ => None,
        }
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|l| l.entries),
            _ => None,
        }
    }
}

/// The size that a declaration allows.
fn declared(path: Path) -> Option<Size> {
    path.flatten().map(|decl| Size {
        min: 0,
        max: decl.max_elements,
    })
}

/// Keys of maps, of which a declaration says nothing.
static KEY: std::sync::LazyLock<Decl> = std::sync::LazyLock::new(|| Decl {
    ty: Type::String,
    max_elements: 0,
    min_size: 2,
    element: None,
    fields: std::collections::BTreeMap::new(),
});

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        other => other.unwrap_optional().is_some_and(is_scalar),
    }
}

/// Whether a comprehension only names a value.
pub fn is_bind(of: &Comprehension) -> bool {
    matches!(&of.range.kind, Kind::List { elements, .. } if elements.is_empty())
        && of.condition.literal() == Some(&Literal::Bool(false))
        && of.accu != crate::ast::ACCUMULATOR
}
