//! The type checker: every expression gets a type, every call its overloads.
//!
//! Source of the rules, wording and order: cel-go checker/checker.go.

use crate::ast::{Comprehension, Entry, Expr, Kind, Literal};
use crate::env::Env;
use crate::escape;
use crate::library::{Function, Overload, string_format};
use crate::parse::Tree;
use crate::source::Issue;
use crate::types::{Mapping, Object, Type, instantiate, most_general};
use fairlead_api::time::GoDuration;
use fairlead_schema::Pattern;

/// What the checker found, by expression.
#[derive(Debug)]
pub struct Checked {
    pub root: Expr,
    /// Types by id.
    types: Vec<Type>,
    /// Overloads of calls by id.
    overloads: Vec<Vec<&'static str>>,
}

impl Checked {
    pub fn type_of(&self, expr: &Expr) -> &Type {
        &self.types[expr.id as usize]
    }

    pub fn overloads(&self, expr: &Expr) -> &[&'static str] {
        &self.overloads[expr.id as usize]
    }
}

/// Checks a parsed expression.
///
/// # Errors
/// All mistakes in it.
pub fn check(mut tree: Tree, env: &Env) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        env,
        mapping: Mapping::default(),
        types: vec![Type::Error; tree.ids as usize],
        overloads: vec![Vec::new(); tree.ids as usize],
        scopes: Vec::new(),
        issues: Vec::new(),
    };
    checker.expr(&mut tree.root);
    for ty in &mut checker.types {
        *ty = checker.mapping.resolve(ty, true);
    }
    let checked = Checked {
        root: tree.root,
        types: checker.types,
        overloads: checker.overloads,
    };
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let issues = validate(&checked);
    if issues.is_empty() { Ok(checked) } else { Err(issues) }
}

struct Checker<'e> {
    env: &'e Env,
    mapping: Mapping,
    types: Vec<Type>,
    overloads: Vec<Vec<&'static str>>,
    /// Variables of comprehensions, the innermost last.
    scopes: Vec<(String, Type)>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn report(&mut self, at: u32, message: String) {
        self.issues.push(Issue { at: Some(at), message });
    }

    fn set(&mut self, expr: &Expr, ty: Type) {
        self.types[expr.id as usize] = ty;
    }

    fn of(&self, expr: &Expr) -> Type {
        self.types[expr.id as usize].clone()
    }

    fn resolved(&self, ty: &Type) -> Type {
        self.mapping.resolve(ty, false)
    }

    fn undeclared(&mut self, at: u32, name: &str) {
        self.report(at, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn lookup(&self, name: &str) -> Option<Type> {
        let local = self
            .scopes
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, ty)| ty.clone());
        local.or_else(|| self.env.ident(name))
    }

    fn expr(&mut self, expr: &mut Expr) {
        let ty = match &mut expr.kind {
            Kind::Literal(literal) => match literal {
                Literal::Null => Type::Null,
                Literal::Bool(_) => Type::Bool,
                Literal::Int(_) => Type::Int,
                Literal::Uint(_) => Type::Uint,
                Literal::Double(_) => Type::Double,
                Literal::String(_) => Type::String,
                Literal::Bytes(_) => Type::Bytes,
            },
            Kind::Ident(name) => match self.lookup(name) {
                Some(ty) => ty,
                None => {
                    let name = name.clone();
                    self.undeclared(expr.at, &name);
                    Type::Error
                }
            },
            Kind::Select { .. } => return self.select(expr),
            Kind::Call { .. } => return self.call(expr),
            Kind::List { elements, optional } => {
                let mut item_type = None;
                for (i, element) in elements.iter_mut().enumerate() {
                    self.expr(element);
                    let ty = self.element(element, optional.contains(&i));
                    item_type = Some(self.join(item_type, ty));
                }
                Type::list(item_type.unwrap_or_else(|| self.mapping.new_var()))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { .. } => return self.structure(expr),
            Kind::Comprehension(of) => self.comprehension(of),
        };
        self.set(expr, ty);
    }

    /// The type of an element; what an optional one holds.
    fn element(&mut self, element: &Expr, is_optional: bool) -> Type {
        let ty = self.of(element);
        if !is_optional {
            return ty;
        }
        if let Some(inner) = ty.unwrap_optional() {
            return inner.clone();
        }
        if !ty.is_dyn() {
            self.report(
                element.at,
                format!("expected type '{}' but found '{ty}'", Type::optional(ty.clone())),
            );
        }
        ty
    }

    fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.expr(&mut entry.key);
            let key = self.of(&entry.key);
            keys = Some(self.join(keys, key));
            self.expr(&mut entry.value);
            let value = self.element(&entry.value, entry.optional);
            values = Some(self.join(values, value));
        }
        let keys = keys.unwrap_or_else(|| self.mapping.new_var());
        let values = values.unwrap_or_else(|| self.mapping.new_var());
        Type::map(keys, values)
    }

    /// The type of two elements of one list or map. Types may mix here; a check of literals minds that later.
    fn join(&mut self, before: Option<Type>, ty: Type) -> Type {
        match before {
            None => ty,
            Some(before) if self.mapping.assign(&before, &ty) => most_general(&before, &ty),
            Some(_) => Type::Dyn,
        }
    }

    fn select(&mut self, expr: &mut Expr) {
        if let Some(name) = expr.qualified_name()
            && let Some(ty) = self.qualified(&name)
        {
            // The whole name is one variable, or one type.
            expr.kind = Kind::Ident(name);
            self.set(expr, ty);
            return;
        }
        let Kind::Select { operand, field, test } = &mut expr.kind else {
            return;
        };
        let (field, test) = (field.clone(), *test);
        self.expr(operand);
        let operand_type = self.resolved(&self.of(operand));
        let ty = self.field(expr.at, &operand_type, &field, false);
        let ty = if test { Type::Bool } else { self.resolved(&ty) };
        self.set(expr, ty);
    }

    /// The type of a dotted name that is declared as such, unless its first part is a variable around it.
    fn qualified(&self, name: &str) -> Option<Type> {
        let first = name.split('.').next().unwrap_or_default();
        if self.scopes.iter().any(|(n, _)| n == first) {
            return None;
        }
        self.env.ident(name)
    }

    fn field(&mut self, at: u32, operand: &Type, field: &str, optional: bool) -> Type {
        let unwrapped = operand.unwrap_optional();
        let target = unwrapped.unwrap_or(operand).clone();
        let found = match &target {
            Type::Map(of) => of.1.clone(),
            Type::Object(object) => match declared_field(object, field) {
                Some(ty) => ty.clone(),
                None if object.open => Type::Dyn,
                None => {
                    self.report(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Var(_) | Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.report(at, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if unwrapped.is_some() || optional {
            Type::optional(found)
        } else {
            found
        }
    }

    fn call(&mut self, expr: &mut Expr) {
        let at = expr.at;
        let Kind::Call { function, target, args } = &mut expr.kind else {
            return;
        };
        if function == "_?._" {
            return self.optional_select(expr);
        }
        for arg in args.iter_mut() {
            self.expr(arg);
        }
        // `a.b.c()` may be a function of a namespace.
        if let Some(on) = target
            && let Some(prefix) = on.qualified_name()
            && let Some(found) = self.env.function(&format!("{prefix}.{function}"))
        {
            *function = found.name.to_owned();
            *target = None;
        }
        if let Some(on) = target {
            self.expr(on);
        }
        let Some(found) = self.env.function(function) else {
            let name = function.clone();
            self.undeclared(at, &name);
            self.set(expr, Type::Error);
            return;
        };
        self.resolve(expr, found);
    }

    fn optional_select(&mut self, expr: &mut Expr) {
        let at = expr.at;
        let Kind::Call { args, .. } = &mut expr.kind else {
            return;
        };
        let Some(Literal::String(field)) = args.get(1).and_then(Expr::literal).cloned() else {
            self.report(at, "unsupported optional field selection".into());
            return;
        };
        self.set(&args[1], Type::String);
        self.expr(&mut args[0]);
        let operand = self.resolved(&self.of(&args[0]));
        let ty = self.field(at, &operand, &field, true);
        let ty = self.resolved(&ty);
        self.set(expr, ty);
        self.overloads[expr.id as usize].push("select_optional_field");
    }

    fn resolve(&mut self, expr: &Expr, function: &'static Function) {
        let Kind::Call { target, args, .. } = &expr.kind else {
            return;
        };
        let given: Vec<Type> = target.as_deref().into_iter().chain(args).map(|a| self.of(a)).collect();
        if matches!(function.name, "_&&_" | "_||_") {
            return self.logic(expr, function, args, &given);
        }
        let mut result: Option<Type> = None;
        for overload in function.overloads.iter().filter(|o| o.member == target.is_some()) {
            let Some(ty) = self.apply(overload, &given) else {
                continue;
            };
            self.overloads[expr.id as usize].push(overload.id);
            result = Some(match result {
                None => ty,
                Some(before) if before.is_dyn() || before.same(&ty) => before,
                Some(_) => Type::Dyn,
            });
        }
        let ty = result.unwrap_or_else(|| {
            let shown: Vec<String> = given
                .iter()
                .map(|t| self.mapping.resolve(t, true).to_string())
                .collect();
            let signature = match (&target, &shown[..]) {
                (Some(_), [on, rest @ ..]) => format!("{on}.({})", rest.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            let message = format!(
                "found no matching overload for '{}' applied to '{signature}'",
                function.name
            );
            self.report(expr.at, message);
            Type::Error
        });
        self.set(expr, ty);
    }

    /// The result of an overload, where it takes these arguments.
    fn apply(&mut self, overload: &Overload, given: &[Type]) -> Option<Type> {
        if overload.params.len() != given.len() {
            return None;
        }
        let fresh: Vec<(&'static str, Type)> = overload
            .type_params
            .iter()
            .map(|name| (*name, self.mapping.new_var()))
            .collect();
        let params: Vec<Type> = overload.params.iter().map(|p| instantiate(p, &fresh)).collect();
        let pairs: Vec<(&Type, &Type)> = given.iter().zip(&params).collect();
        if !self.mapping.assign_all(&pairs) {
            return None;
        }
        Some(self.resolved(&instantiate(&overload.result, &fresh)))
    }

    fn logic(&mut self, expr: &Expr, function: &'static Function, args: &[Expr], given: &[Type]) {
        let mut ty = Type::Bool;
        for (arg, given) in args.iter().zip(given) {
            if !self.mapping.assign(given, &Type::Bool) {
                let given = self.resolved(given);
                self.report(arg.at, format!("expected type 'bool' but found '{given}'"));
                ty = Type::Error;
            }
        }
        self.overloads[expr.id as usize].push(function.overloads[0].id);
        self.set(expr, ty);
    }

    fn structure(&mut self, expr: &mut Expr) {
        let at = expr.at;
        let Kind::Struct { name, fields } = &mut expr.kind else {
            return;
        };
        let object = match self.env.ident(name) {
            None => {
                let name = name.clone();
                self.undeclared(at, &name);
                self.set(expr, Type::Error);
                return;
            }
            Some(Type::Type(Some(of))) => match &*of {
                Type::Object(object) => Some(object.clone()),
                other => {
                    self.report(at, format!("'{}' is not a message type", other.name()));
                    None
                }
            },
            Some(other) => {
                self.report(at, format!("'{}' is not a type", other.name()));
                None
            }
        };
        for field in fields.iter_mut() {
            self.expr(&mut field.value);
            let given = self.element(&field.value, field.optional);
            let declared = match object.as_ref().map(|o| o.fields.get(&field.name)) {
                Some(Some(ty)) => ty.clone(),
                Some(None) if object.as_ref().is_some_and(|o| o.open) => Type::Dyn,
                Some(None) => {
                    self.report(field.at, format!("undefined field '{}'", field.name));
                    Type::Error
                }
                None => Type::Error,
            };
            if !self.mapping.assign(&declared, &given) {
                let message = format!(
                    "expected type of field '{}' is '{declared}' but provided type is '{given}'",
                    field.name
                );
                self.report(field.at, message);
            }
        }
        let ty = object.map_or(Type::Error, Type::Object);
        self.set(expr, ty);
    }

    fn comprehension(&mut self, of: &mut Comprehension) -> Type {
        self.expr(&mut of.range);
        self.expr(&mut of.init);
        let range = self.resolved(&self.of(&of.range));
        let accu = self.of(&of.init);
        let (first, second) = match &range {
            Type::List(items) if of.var2.is_some() => (Type::Int, (**items).clone()),
            Type::List(items) => ((**items).clone(), Type::Error),
            Type::Map(entries) => (entries.0.clone(), entries.1.clone()),
            Type::Dyn | Type::Error | Type::Var(_) | Type::Param(_) => {
                self.mapping.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(of.range.at, message);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scopes.len();
        self.scopes.push((of.accu.clone(), accu.clone()));
        self.scopes.push((of.var.clone(), first));
        if let Some(var2) = &of.var2 {
            self.scopes.push((var2.clone(), second));
        }
        self.expr(&mut of.condition);
        self.expect(&of.condition, &Type::Bool);
        self.expr(&mut of.step);
        self.expect(&of.step, &accu);
        self.scopes.truncate(depth + 1);
        self.expr(&mut of.result);
        self.scopes.truncate(depth);
        self.resolved(&self.of(&of.result))
    }

    fn expect(&mut self, expr: &Expr, wanted: &Type) {
        let found = self.of(expr);
        if !self.mapping.assign(wanted, &found) {
            let message = format!(
                "expected type '{}' but found '{}'",
                self.resolved(wanted),
                self.resolved(&found)
            );
            self.report(expr.at, message);
        }
    }
}

/// A field, also where its name is a reserved word written plainly.
fn declared_field<'o>(object: &'o Object, field: &str) -> Option<&'o Type> {
    let reserved = || {
        escape::is_reserved(field)
            .then(|| object.fields.get(&format!("__{field}__")))
            .flatten()
    };
    object.fields.get(field).or_else(reserved)
}

// === checks of literals, once types are known ===

fn validate(checked: &Checked) -> Vec<Issue> {
    let mut issues = Vec::new();
    each_in(&checked.root, false, &mut |expr, exempt| {
        literals(expr, exempt, checked, &mut issues)
    });
    issues
}

/// Visits every expression.
pub fn each<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    each_in(expr, false, &mut |expr, _| visit(expr));
}

/// Visits every expression; the flag tells whether it is inside a `format`, where types may mix.
fn each_in<'e>(expr: &'e Expr, exempt: bool, visit: &mut dyn FnMut(&'e Expr, bool)) {
    visit(expr, exempt);
    let exempt = exempt || matches!(&expr.kind, Kind::Call { function, .. } if function == "format");
    let mut next = |e: &'e Expr| each_in(e, exempt, visit);
    match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => {}
        Kind::Select { operand, .. } => next(operand),
        Kind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).for_each(next),
        Kind::List { elements, .. } => elements.iter().for_each(next),
        Kind::Map(entries) => entries.iter().flat_map(|e| [&e.key, &e.value]).for_each(next),
        Kind::Struct { fields, .. } => fields.iter().for_each(|f| next(&f.value)),
        Kind::Comprehension(c) => [&c.range, &c.init, &c.condition, &c.step, &c.result]
            .into_iter()
            .for_each(next),
    }
}

fn literals(expr: &Expr, exempt: bool, checked: &Checked, issues: &mut Vec<Issue>) {
    let mut report = |at: u32, message: String| issues.push(Issue { at: Some(at), message });
    match &expr.kind {
        Kind::Call { function, target, args } => {
            let text = |e: Option<&Expr>| match e.and_then(Expr::literal) {
                Some(Literal::String(text)) => Some(text.clone()),
                _ => None,
            };
            match (function.as_str(), &args[..]) {
                ("duration", [arg]) if text(Some(arg)).is_some_and(|t| GoDuration::parse(&t).is_err()) => {
                    report(arg.at, "invalid duration argument".into());
                }
                ("timestamp", [arg])
                    if text(Some(arg)).is_some_and(|t| fairlead_api::Timestamp::parse(&t).is_none()) =>
                {
                    report(arg.at, "invalid timestamp argument".into());
                }
                ("matches", _) => {
                    let pattern = if target.is_some() { args.first() } else { args.get(1) };
                    if let (Some(arg), Some(source)) = (pattern, text(pattern))
                        && Pattern::new(&source).is_err()
                    {
                        report(arg.at, "invalid matches argument".into());
                    }
                }
                ("format", [arg]) => {
                    if let (Some(source), Kind::List { elements, .. }) = (text(target.as_deref()), &arg.kind) {
                        let type_of = |e: &Expr| checked.type_of(e).clone();
                        if let Some((at, why)) = string_format::check_call(expr, &source, elements, &type_of) {
                            report(at, why);
                        }
                    }
                }
                _ => {}
            }
        }
        Kind::List { elements, optional } if !exempt => {
            let ty = |(i, e): (usize, &Expr)| element_type(checked, e, optional.contains(&i));
            let mut first: Option<Type> = None;
            for (i, element) in elements.iter().enumerate() {
                let ty = ty((i, element));
                match &first {
                    None => first = Some(ty),
                    Some(first) if !first.same(&ty) => {
                        report(element.at, format!("expected type '{first}' but found '{ty}'"));
                        break;
                    }
                    Some(_) => {}
                }
            }
        }
        Kind::Map(entries) if !exempt => {
            let (mut key, mut value): (Option<Type>, Option<Type>) = (None, None);
            for entry in entries {
                let types = (
                    checked.type_of(&entry.key).clone(),
                    element_type(checked, &entry.value, entry.optional),
                );
                for (before, ty, at) in [(&mut key, types.0, entry.key.at), (&mut value, types.1, entry.value.at)] {
                    match before {
                        None => *before = Some(ty),
                        Some(first) if !first.same(&ty) => {
                            report(at, format!("expected type '{first}' but found '{ty}'"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        _ => {}
    }
}

fn element_type(checked: &Checked, element: &Expr, optional: bool) -> Type {
    let ty = checked.type_of(element);
    match ty.unwrap_optional().filter(|_| optional) {
        Some(inner) => inner.clone(),
        None => ty.clone(),
    }
}
