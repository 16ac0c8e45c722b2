//! `x-kubernetes-validations`: rules compile, and what they may cost stays within bounds.

use super::options::Options;
use fairlead_api::{FieldErrors, FieldPath, Node};
use fairlead_schema::TypeRef;

/// What rules of a schema need to know of its place.
pub struct Scope<'a> {
    pub ty: Option<TypeRef<'a>>,
    /// How often values of this place can occur in one object; `None` is without bound.
    pub cardinality: Option<u64>,
}

impl<'a> Scope<'a> {
    pub fn root(ty: TypeRef<'a>) -> Scope<'a> {
        Scope { ty: Some(ty), cardinality: Some(1) }
    }

    pub fn property(&self, _schema: &Node, name: &str) -> Scope<'a> {
        Scope { ty: self.ty.and_then(|t| t.member(name)), cardinality: self.cardinality }
    }

    pub fn values(&self, _schema: &Node) -> Scope<'a> {
        Scope { ty: self.ty.and_then(|t| t.member("")), cardinality: self.cardinality }
    }

    pub fn items(&self, _schema: &Node) -> Scope<'a> {
        Scope { ty: self.ty.and_then(TypeRef::items), cardinality: self.cardinality }
    }
}

pub fn check(
    _schema: &Node,
    _path: &FieldPath,
    _scope: &Scope,
    _uncorrelated: Option<&FieldPath>,
    _options: &Options,
    _errors: &mut FieldErrors,
) {
}
