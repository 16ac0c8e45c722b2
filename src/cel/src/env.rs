//! [`Env`]: what an expression may name.

use crate::library::{self, Function};
use crate::types::Type;
use std::collections::BTreeMap;

/// Variables and types that expressions can use beside the libraries.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Vec<(String, Type)>,
    /// Objects that expressions can make, by name.
    objects: BTreeMap<String, Type>,
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

    /// The place of a variable among those declared.
    pub fn variable(&self, name: &str) -> Option<usize> {
        self.variables.iter().rposition(|(n, _)| n == name)
    }

    /// The type of what a name stands for: a variable, or a type, which is a value too.
    pub fn ident(&self, name: &str) -> Option<Type> {
        if let Some(index) = self.variable(name) {
            return Some(self.variables[index].1.clone());
        }
        self.type_named(name).map(Type::type_of)
    }

    /// The type of this name.
    pub fn type_named(&self, name: &str) -> Option<Type> {
        if let Some(object) = self.objects.get(name) {
            return Some(object.clone());
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
        library::function(name)
    }
}
