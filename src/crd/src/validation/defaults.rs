//! Defaults must be valid by the schema they stand in, and hold nothing that would be pruned.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/defaulting/validation.go.

use super::props::{any, flag, members, present, sub};
use super::structural;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_schema::{
    RuleEvaluator, TypeRef, Unknown, coerce_embedded, compile, decode_custom, prune_value, validate_embedded,
    validate_keywords, validate_rules,
};

/// How a schema's defaults are looked at.
pub struct Check<'a> {
    /// Unknown fields in a default are an error.
    pub pruned: bool,
    pub evaluator: Option<&'a mut dyn RuleEvaluator>,
}

impl Check<'_> {
    /// Appends the errors of all defaults of a root schema.
    pub fn root(&mut self, schema: &Node, ty: TypeRef, path: &FieldPath, errors: &mut FieldErrors) {
        self.walk(schema, ty, path, Meta::Root, errors);
    }

    fn walk(&mut self, schema: &Node, ty: TypeRef, path: &FieldPath, meta: Meta, errors: &mut FieldErrors) {
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        let meta = if embedded { Meta::Root } else { meta };
        if let Some(default) = present(schema, "default") {
            self.default(default, ty, &path.child("default"), meta, errors);
        }
        if let (Some(items), Some(ty)) = (sub(schema, "items"), ty.items()) {
            self.walk(items, ty, &path.child("items"), meta.inside(""), errors);
        }
        for (name, property) in members(schema, "properties") {
            let Some(ty) = ty.member(name) else { continue };
            self.walk(
                property,
                ty,
                &path.child("properties").key(name),
                meta.inside(name),
                errors,
            );
        }
    }

    fn default(&mut self, default: &Node, ty: TypeRef, path: &FieldPath, meta: Meta, errors: &mut FieldErrors) {
        if let Meta::Inside(field) = meta {
            metadata(default, field, path, errors);
            return;
        }
        if self.pruned && !prune_value(&mut default.clone(), ty).is_empty() {
            errors.push(FieldError::invalid(
                path,
                default.clone(),
                "must not have unknown fields",
            ));
        }
        if let Err(error) = coerce_embedded(&mut default.clone(), ty, path, Unknown::Keep) {
            errors.push(error);
            return;
        }
        let mut found = FieldErrors::new();
        validate_embedded(default, ty, path, &mut found);
        if found.is_empty() {
            found = validate_keywords(default, None, ty, path);
        }
        if found.is_empty()
            && let Some(evaluator) = &mut self.evaluator
        {
            validate_rules(default, Some(default), ty, path, *evaluator, &mut found);
            if found.is_empty() {
                // Rules with an optional old value see a default come from nothing, too.
                validate_rules(default, None, ty, path, *evaluator, &mut found);
            }
        }
        errors.extend(found);
    }
}

/// Whether a schema is inside apiVersion, kind or metadata of an object.
#[derive(Clone, Copy)]
enum Meta<'a> {
    /// The object itself.
    Root,
    /// Somewhere else.
    Outside,
    /// Directly the field of this name, or something in it.
    Inside(&'a str),
}

impl<'a> Meta<'a> {
    fn inside(self, name: &'a str) -> Meta<'a> {
        match self {
            Meta::Root if matches!(name, "metadata" | "apiVersion" | "kind") => Meta::Inside(name),
            Meta::Inside(field) => Meta::Inside(field),
            _ => Meta::Outside,
        }
    }
}

/// A default in metadata must make metadata.
fn metadata(default: &Node, field: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if field != "metadata" || !matches!(default, Node::Map(_)) {
        return;
    }
    let schema = compile(&Node::map()).expect("an empty schema compiles");
    let mut object = Node::map();
    object.set("metadata", default.clone());
    if let Err(error) = decode_custom(&mut object, schema.root(), Unknown::Keep) {
        let detail = format!("must result in valid metadata: {error}");
        errors.push(FieldError::invalid(path, default.clone(), detail));
    }
}

/// Whether some default of a structural schema holds what would be pruned.
pub fn has_unpruned(schema: &Node) -> bool {
    let has_defaults = any(schema, &mut |s| present(s, "default").is_some());
    if !has_defaults
        || structural::unreadable(schema).is_some()
        || !structural::check(schema, &FieldPath::root()).is_empty()
    {
        return false;
    }
    let Ok(compiled) = compile(schema) else { return false };
    unpruned(schema, compiled.root())
}

fn unpruned(schema: &Node, ty: TypeRef) -> bool {
    present(schema, "default").is_some_and(|d| !prune_value(&mut d.clone(), ty).is_empty())
        || sub(schema, "items")
            .zip(ty.items())
            .is_some_and(|(s, t)| unpruned(s, t))
        || members(schema, "properties").any(|(name, s)| ty.member(name).is_some_and(|t| unpruned(s, t)))
}
