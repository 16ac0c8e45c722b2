//! [`Env`]: what an expression may name.

use crate::library::json_patch::ESCAPE_KEY;
use crate::library::{self, Function};
use crate::types::Type;
use std::collections::BTreeMap;

/// Variables and types that expressions can use beside the libraries.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Vec<(String, Type)>,
    /// Objects that expressions can make, by name.
    objects: BTreeMap<String, Type>,
    /// The name of values that are worked out when they are used, and what they are.
    lazy: Option<(&'static str, Vec<(String, Type)>)>,
    /// Whether patches can be made.
    patches: bool,
}

impl Env {
    pub fn new() -> Env {
        Env::default()
    }

    /// Declares a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, ty: Type) -> Env {
        self.variables.push((name.into(), ty));
        self
    }

    /// Declares a type whose objects expressions may make: `Name{field: value}`.
    #[must_use]
    pub fn with_object(mut self, ty: Type) -> Env {
        self.objects.insert(ty.name().to_owned(), ty);
        self
    }

    /// Declares `name.x` for values that are worked out when they are used; of two with the same name, the later one.
    #[must_use]
    pub fn with_lazy(mut self, name: &'static str, values: Vec<(String, Type)>) -> Env {
        self.lazy = Some((name, values));
        self
    }

    /// Declares what patches are made of: `Object…{}` with any fields, and `JSONPatch{}`.
    #[must_use]
    pub fn with_patches(mut self) -> Env {
        let fields = ["op", "from", "path"].map(|name| (name.to_owned(), Type::String));
        let value = ("value".to_owned(), Type::Dyn);
        self.patches = true;
        self.with_object(Type::object("JSONPatch", fields.into_iter().chain([value]).collect()))
    }

    /// Whether lazy values have this name.
    pub fn is_lazy(&self, name: &str) -> bool {
        self.lazy.as_ref().is_some_and(|(lazy, _)| *lazy == name)
    }

    /// The place of a lazy value.
    pub fn lazy_field(&self, name: &str, field: &str) -> Option<usize> {
        let (_, values) = self.lazy.as_ref().filter(|(lazy, _)| *lazy == name)?;
        values.iter().rposition(|(n, _)| n == field)
    }

    /// The place of a variable among those declared.
    pub fn variable(&self, name: &str) -> Option<usize> {
        self.variables.iter().rposition(|(n, _)| n == name)
    }

    /// The type of what a name stands for: a variable, or a type, which is a value too.
    pub fn ident(&self, name: &str) -> Option<Type> {
        if let Some(index) = self.variable(name) {
            return Some(self.variables[index].1.clone());
        }
        if let Some((_, values)) = self.lazy.as_ref().filter(|(lazy, _)| *lazy == name) {
            return Some(Type::object("kubernetes.variables", values.iter().cloned().collect()));
        }
        self.type_named(name).map(Type::type_of)
    }

    /// The type of this name.
    pub fn type_named(&self, name: &str) -> Option<Type> {
        if let Some(object) = self.objects.get(name) {
            return Some(object.clone());
        }
        if self.patches && (name == "Object" || name.starts_with("Object.")) {
            return Some(Type::open_object(name));
        }
        Some(match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "null_type" => Type::Null,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "type" => Type::Type(None),
            "dyn" => Type::Dyn,
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "net.IP" => Type::opaque("net.IP"),
            "net.CIDR" => Type::opaque("net.CIDR"),
            "optional_type" => Type::optional(Type::Dyn),
            "kubernetes.URL" | "kubernetes.Quantity" | "kubernetes.Semver" | "kubernetes.NamedFormat" => {
                Type::object(name, BTreeMap::new())
            }
            _ => return None,
        })
    }

    pub fn function(&self, name: &str) -> Option<&'static Function> {
        library::function(name).filter(|_| self.patches || name != ESCAPE_KEY)
    }
}
