//! Types of expressions, and how they unify.
//!
//! Source of the rules: cel-go checker/types.go, checker/mapping.go.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// The type of an expression.
#[derive(Clone, Debug)]
pub enum Type {
    Dyn,
    /// Of what is wrong already: it fits everywhere.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// A type as a value: what `type(x)` answers; `None` is `type` itself.
    Type(Option<Arc<Type>>),
    /// Named types with parameters: `optional_type`, `net.IP`.
    Opaque(&'static str, Arc<[Type]>),
    Object(Arc<Object>),
    /// A type parameter of a function.
    Param(&'static str),
    /// A type still to be found.
    Var(u32),
}

/// A type with fields. Two are the same when their names are.
#[derive(Debug, Default)]
pub struct Object {
    pub name: String,
    pub fields: BTreeMap<String, Type>,
    /// Whether it may have any other field, too.
    pub open: bool,
}

pub const OPTIONAL: &str = "optional_type";

impl Type {
    pub fn list(items: Type) -> Type {
        Type::List(Arc::new(items))
    }

    pub fn map(keys: Type, values: Type) -> Type {
        Type::Map(Arc::new((keys, values)))
    }

    pub fn optional(inner: Type) -> Type {
        Type::Opaque(OPTIONAL, Arc::new([inner]))
    }

    /// A named type without fields or parameters.
    pub fn opaque(name: &'static str) -> Type {
        Type::Opaque(name, Arc::new([]))
    }

    /// A named type with fields.
    pub fn object(name: impl Into<String>, fields: BTreeMap<String, Type>) -> Type {
        Type::Object(Arc::new(Object {
            name: name.into(),
            fields,
            open: false,
        }))
    }

    /// A named type that may have any fields.
    pub fn open_object(name: impl Into<String>) -> Type {
        Type::Object(Arc::new(Object {
            name: name.into(),
            open: true,
            ..Object::default()
        }))
    }

    pub fn type_of(of: Type) -> Type {
        Type::Type(Some(Arc::new(of)))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    pub fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// What an optional may hold.
    pub fn unwrap_optional(&self) -> Option<&Type> {
        match self {
            Type::Opaque(OPTIONAL, params) => params.first(),
            _ => None,
        }
    }

    fn params(&self) -> Params<'_> {
        match self {
            Type::List(items) => Params::One(items),
            Type::Map(of) => Params::Two(&of.0, &of.1),
            Type::Opaque(_, params) => Params::Many(params),
            Type::Type(Some(of)) => Params::One(of),
            _ => Params::Many(&[]),
        }
    }

    /// Whether two types are written alike.
    pub fn same(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            (Type::Param(a), Type::Param(b)) => a == b,
            (Type::Var(a), Type::Var(b)) => a == b,
            (Type::Opaque(a, p), Type::Opaque(b, q)) => {
                a == b && p.len() == q.len() && p.iter().zip(q.iter()).all(|(a, b)| a.same(b))
            }
            (Type::List(a), Type::List(b)) => a.same(b),
            (Type::Map(a), Type::Map(b)) => a.0.same(&b.0) && a.1.same(&b.1),
            (Type::Type(a), Type::Type(b)) => match (a, b) {
                (Some(a), Some(b)) => a.same(b),
                (None, None) => true,
                _ => false,
            },
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// The name of the type of values, as `type(x)` shows it.
    pub fn name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Error => "error",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Type(_) => "type",
            Type::Opaque(name, _) | Type::Param(name) => name,
            Type::Object(object) => &object.name,
            Type::Var(_) => "",
        }
    }
}

/// A type as cel-go's runtime shows it, which spells some otherwise than its checker does.
pub struct Runtime<'t>(pub &'t Type);

impl fmt::Display for Runtime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0.name())?;
        let params = self.0.params().iter();
        for (i, param) in params.iter().enumerate() {
            f.write_str(if i == 0 { "(" } else { ", " })?;
            Runtime(param).fmt(f)?;
        }
        if params.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

enum Params<'a> {
    One(&'a Type),
    Two(&'a Type, &'a Type),
    Many(&'a [Type]),
}

impl<'a> Params<'a> {
    fn iter(&self) -> Vec<&'a Type> {
        match self {
            Params::One(a) => vec![a],
            Params::Two(a, b) => vec![a, b],
            Params::Many(types) => types.iter().collect(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Var(id) => write!(f, "_var{id}"),
            other => {
                f.write_str(other.name())?;
                let params = other.params().iter();
                for (i, param) in params.iter().enumerate() {
                    f.write_str(if i == 0 { "(" } else { ", " })?;
                    param.fmt(f)?;
                }
                if params.is_empty() { Ok(()) } else { f.write_str(")") }
            }
        }
    }
}

/// What is known of types that were still to be found.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    found: HashMap<u32, Type>,
    next: u32,
    /// What was known before each change, to take back what did not work out.
    trail: Vec<(u32, Option<Type>)>,
}

impl Mapping {
    pub fn new_var(&mut self) -> Type {
        self.next += 1;
        Type::Var(self.next - 1)
    }

    /// Whether a value of type `from` may stand where `to` is asked for; remembers what that says of open types.
    pub fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(&[(from, to)])
    }

    /// [`Mapping::assign`] of several, all or nothing.
    pub fn assign_all(&mut self, pairs: &[(&Type, &Type)]) -> bool {
        self.trail.clear();
        let fits = pairs.iter().all(|(from, to)| self.fits(from, to));
        while let Some((var, before)) = self.trail.pop().filter(|_| !fits) {
            match before {
                Some(known) => self.found.insert(var, known),
                None => self.found.remove(&var),
            };
        }
        fits
    }

    fn learn(&mut self, var: u32, ty: Type) {
        let before = self.found.insert(var, ty);
        self.trail.push((var, before));
    }

    fn fits(&mut self, from: &Type, to: &Type) -> bool {
        if let Type::Var(to_var) = to {
            match self.is_substitution(from, *to_var) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Var(from_var) = from {
            return self.is_substitution(to, *from_var).0;
        }
        if from.is_dyn_or_error() || to.is_dyn_or_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp
            ),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Opaque(a, p), Type::Opaque(b, q)) => {
                a == b && p.len() == q.len() && p.iter().zip(q.iter()).all(|(a, b)| self.fits(a, b))
            }
            (a, b) => a.same(b),
        }
    }

    /// Whether a type may be what an open one stands for, and whether that was known to stand for something.
    fn is_substitution(&mut self, of: &Type, var: u32) -> (bool, bool) {
        if matches!(of, Type::Var(v) if *v == var) {
            return (true, true);
        }
        let Some(known) = self.found.get(&var).cloned() else {
            let free = self.is_free_of(of, var);
            if free {
                self.learn(var, of.clone());
            }
            return (free, false);
        };
        if of.same(&known) {
            return (true, true);
        }
        if !self.fits(of, &known) {
            return (false, true);
        }
        let general = most_general(of, &known);
        if self.is_free_of(&general, var) {
            self.learn(var, general);
        }
        (true, true)
    }

    /// Whether an open type does not occur in another.
    fn is_free_of(&self, within: &Type, var: u32) -> bool {
        match within {
            Type::Var(v) if *v == var => false,
            Type::Var(v) => self.found.get(v).is_none_or(|known| self.is_free_of(known, var)),
            other => other.params().iter().iter().all(|p| self.is_free_of(p, var)),
        }
    }

    /// The type with everything found put in; what is still open stays open, or becomes dyn.
    pub fn resolve(&self, ty: &Type, open_is_dyn: bool) -> Type {
        match ty {
            Type::Var(v) => match self.found.get(v) {
                Some(known) => self.resolve(known, open_is_dyn),
                None if open_is_dyn => Type::Dyn,
                None => ty.clone(),
            },
            Type::Param(_) if open_is_dyn => Type::Dyn,
            Type::List(items) => Type::list(self.resolve(items, open_is_dyn)),
            Type::Map(of) => Type::map(self.resolve(&of.0, open_is_dyn), self.resolve(&of.1, open_is_dyn)),
            Type::Opaque(name, params) if !params.is_empty() => {
                Type::Opaque(name, params.iter().map(|p| self.resolve(p, open_is_dyn)).collect())
            }
            Type::Type(Some(of)) => Type::type_of(self.resolve(of, open_is_dyn)),
            other => other.clone(),
        }
    }
}

/// Replaces the parameters of a function's types.
pub fn instantiate(ty: &Type, params: &[(&'static str, Type)]) -> Type {
    match ty {
        Type::Param(name) => params
            .iter()
            .find(|(n, _)| n == name)
            .map_or_else(|| ty.clone(), |(_, fresh)| fresh.clone()),
        Type::List(items) => Type::list(instantiate(items, params)),
        Type::Map(of) => Type::map(instantiate(&of.0, params), instantiate(&of.1, params)),
        Type::Opaque(name, of) if !of.is_empty() => {
            Type::Opaque(name, of.iter().map(|p| instantiate(p, params)).collect())
        }
        Type::Type(Some(of)) => Type::type_of(instantiate(of, params)),
        other => other.clone(),
    }
}

/// The names of the parameters in a type.
pub fn params_in(ty: &Type, names: &mut Vec<&'static str>) {
    if let Type::Param(name) = ty
        && !names.contains(name)
    {
        names.push(name);
    }
    for param in ty.params().iter() {
        params_in(param, names);
    }
}

/// The more general of two types that fit each other.
pub fn most_general(a: &Type, b: &Type) -> Type {
    if is_less_specific(a, b) { a.clone() } else { b.clone() }
}

fn is_less_specific(a: &Type, b: &Type) -> bool {
    let open = |t: &Type| matches!(t, Type::Dyn | Type::Var(_) | Type::Param(_));
    if open(a) {
        return true;
    }
    if open(b) {
        return false;
    }
    match (a, b) {
        (Type::Opaque(x, p), Type::Opaque(y, q)) => {
            x == y && p.len() == q.len() && p.iter().zip(q.iter()).all(|(a, b)| is_less_specific(a, b))
        }
        (Type::List(a), Type::List(b)) => is_less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => is_less_specific(&a.0, &b.0) && is_less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a.same(b),
    }
}
