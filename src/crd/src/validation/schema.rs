//! The schema of a version, as a whole.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go
//! (validateCustomResourceDefinitionValidation).

use super::defaults;
use super::openapi::{self, Around, Found};
use super::options::Options;
use super::props::{flag, print, set_fields};
use super::rules::Scope;
use super::structural;
use crate::rules::RuleTable;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use fairlead_schema::{RuleEvaluator, compile};

/// What may stand at the root so that the schema of `status` says all there is about a status.
const ROOT_FIELDS: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

/// Checks the schema; `path` is where `openAPIV3Schema` stands.
pub fn check(schema: &Node, has_status: bool, options: &Options, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if has_status {
        root_fields(schema, path, &mut errors);
    }
    if flag(schema, "nullable") {
        errors.push(FieldError::forbidden(
            &path.child("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let mut unreadable = None;
    let mut compiled = None;
    if options.structural {
        unreadable = structural::unreadable(schema);
        if unreadable.is_none() {
            let mut found = structural::check(schema, path);
            if found.is_empty() {
                match compile(schema) {
                    Ok(schema) => compiled = Some(schema),
                    Err(error) => found.push(FieldError::invalid(path, "", error.to_string())),
                }
            }
            if let Some(compiled) = &compiled {
                let table = RuleTable::new(compiled);
                let mut evaluator = table.as_ref().map(RuleTable::evaluator);
                let evaluator = evaluator.as_mut().map(|e| e as &mut dyn RuleEvaluator);
                let mut check = defaults::Check {
                    pruned: options.pruned_defaults,
                    evaluator,
                };
                check.root(schema, compiled.root(), path, &mut found);
            }
            if !found.is_empty() {
                // Rules are compiled only against schemas that are right.
                compiled = None;
            }
            errors.extend(found);
        }
    }
    let scope = compiled.as_ref().map(|compiled| Scope::root(schema, compiled.root()));
    let mut found = Found::default();
    openapi::check(
        schema,
        path,
        true,
        &Around::default(),
        options,
        scope.as_ref(),
        &mut found,
    );
    errors.extend(found.schema);
    errors.extend(found.rules);
    if errors.is_empty()
        && let Some(why) = unreadable
    {
        errors.push(FieldError::invalid(path, "", why));
    }
    if let Some(scope) = &scope {
        scope.check_total(path, &mut errors);
    }
    errors
}

fn root_fields(schema: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    for field in set_fields(schema) {
        if field == "Type" {
            let ty = schema.str("type");
            if ty != "object" {
                let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
                errors.push(FieldError::invalid(&path.child("type"), ty, detail));
                return;
            }
        } else if !ROOT_FIELDS.contains(&field) {
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                ROOT_FIELDS.join(" ")
            );
            errors.push(FieldError::invalid(path, Node::Null, detail).showing(print(schema)));
            return;
        }
    }
}
