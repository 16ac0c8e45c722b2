//! The walk over a CRD's `openAPIV3Schema` that says what the API does not take, at every place.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go
//! (ValidateCustomResourceDefinitionOpenAPISchema).

use super::field_path::{self, Brackets};
use super::options::Options;
use super::props::{flag, members, present, print_items, sub};
use super::rules::{self, Scope};
use super::structural;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const RULES: &str = "x-kubernetes-validations";

/// What is known about the place of a schema from what is around it.
#[derive(Clone, Default)]
pub struct Around {
    /// Why defaults are not taken here.
    no_defaults: Option<String>,
    /// Inside apiVersion, kind or metadata of a whole object.
    in_meta: bool,
    /// The closest place around that old and new objects cannot be matched below.
    uncorrelated: Option<FieldPath>,
}

/// Errors of schemas and errors of rules; the first silence the second.
#[derive(Default)]
pub struct Found {
    pub schema: FieldErrors,
    pub rules: FieldErrors,
}

/// Checks the schema at `path`. `scope` is `None` where rules are not looked at.
pub fn check(
    schema: &Node,
    path: &FieldPath,
    is_root: bool,
    around: &Around,
    options: &Options,
    scope: Option<&Scope>,
    found: &mut Found,
) {
    let before = found.schema.len();
    own_keywords(schema, path, around, options, &mut found.schema);
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        found
            .schema
            .push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
    children(schema, path, is_root, around, options, scope, found);
    semantics(schema, path, options, &mut found.schema);
    let rules = schema.list(RULES);
    if rules.is_empty() {
        return;
    }
    let at = path.child(RULES);
    for (i, rule) in rules.iter().enumerate() {
        rule_form(schema, rule, &at.index(i), &mut found.schema);
    }
    // Rules are compiled only where the schemas from here on are right: types are made of them.
    if found.schema.len() == before
        && let Some(scope) = scope
    {
        rules::check(
            schema,
            &at,
            scope,
            around.uncorrelated.as_ref(),
            options,
            &mut found.rules,
        );
    }
}

fn own_keywords(schema: &Node, path: &FieldPath, around: &Around, options: &Options, errors: &mut FieldErrors) {
    let ty = schema.str("type");
    if options.valid_types && !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(FieldError::not_supported(&path.child("type"), ty, &TYPES));
    }
    if present(schema, "default").is_some()
        && let Some(why) = &around.no_defaults
    {
        errors.push(FieldError::forbidden(
            &path.child("default"),
            format!("must not be set {why}"),
        ));
    }
    let mut unsupported = |key: &str, given: bool| {
        if given {
            errors.push(FieldError::forbidden(
                &path.child(key),
                format!("{key} is not supported"),
            ));
        }
    };
    unsupported("id", !schema.str("id").is_empty());
    unsupported("additionalItems", present(schema, "additionalItems").is_some());
    for key in ["patternProperties", "definitions"] {
        unsupported(key, members(schema, key).next().is_some());
    }
    unsupported("dependencies", present(schema, "dependencies").is_some());
    unsupported("$ref", present(schema, "$ref").is_some());
    if ty == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
    if !schema.list("items").is_empty() {
        let detail = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&path.child("items"), detail));
    }
    if around.in_meta && flag(schema, "x-kubernetes-embedded-resource") {
        let detail = "must not be used inside of resource meta";
        errors.push(FieldError::forbidden(
            &path.child("x-kubernetes-embedded-resource"),
            detail,
        ));
    }
}

fn children(
    schema: &Node,
    path: &FieldPath,
    is_root: bool,
    around: &Around,
    options: &Options,
    scope: Option<&Scope>,
    found: &mut Found,
) {
    let has_properties = members(schema, "properties").next().is_some();
    if let Some(additional) = present(schema, "additionalProperties") {
        let at = path.child("additionalProperties");
        if has_properties && additional.as_bool() != Some(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            found.schema.push(FieldError::forbidden(&at, detail));
        }
        if let Some(values) = sub(schema, "additionalProperties") {
            let mut around = around.clone();
            if around.in_meta {
                around.no_defaults = Some("inside additionalProperties applying to object metadata".into());
            }
            let scope = scope.map(|s| s.values(values));
            check(values, &at, false, &around, options, scope.as_ref(), found);
        }
    }
    let is_resource = is_root || flag(schema, "x-kubernetes-embedded-resource");
    let correlates = matches!(
        schema.get("x-kubernetes-map-type").and_then(Node::as_str),
        None | Some("granular" | "atomic")
    );
    for (name, property) in members(schema, "properties") {
        let mut around = around.clone();
        if !correlates {
            around.uncorrelated.get_or_insert_with(|| path.clone());
        }
        if is_resource && matches!(name, "metadata" | "kind" | "apiVersion") {
            around.in_meta = true;
            if is_root {
                around.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        let scope = scope.map(|s| s.property(property, name));
        check(
            property,
            &path.child("properties").key(name),
            false,
            &around,
            options,
            scope.as_ref(),
            found,
        );
    }
    if let Some(not) = sub(schema, "not") {
        check(not, &path.child("not"), false, around, options, None, found);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (i, part) in schema.list(key).iter().enumerate() {
            check(part, &path.child(key).index(i), false, around, options, None, found);
        }
    }
    for (name, definition) in members(schema, "definitions") {
        check(
            definition,
            &path.child("definitions").key(name),
            false,
            around,
            options,
            None,
            found,
        );
    }
    if let Some(items) = present(schema, "items") {
        let mut around = around.clone();
        if schema.get("x-kubernetes-list-type").and_then(Node::as_str) != Some("map") {
            around.uncorrelated.get_or_insert_with(|| path.clone());
        }
        let at = path.child("items");
        match items {
            Node::List(several) => {
                for (i, item) in several.iter().enumerate() {
                    let scope = scope.map(|s| s.items(item));
                    check(item, &at.index(i), false, &around, options, scope.as_ref(), found);
                }
            }
            item => {
                let scope = scope.map(|s| s.items(item));
                check(item, &at, false, &around, options, scope.as_ref(), found);
            }
        }
    }
    for (name, dependency) in members(schema, "dependencies") {
        if matches!(dependency, Node::Map(_)) {
            check(
                dependency,
                &path.child("dependencies").key(name),
                false,
                around,
                options,
                None,
                found,
            );
        }
    }
}

/// `x-kubernetes-preserve-unknown-fields`, map and list types.
fn semantics(schema: &Node, path: &FieldPath, options: &Options, errors: &mut FieldErrors) {
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if present(schema, preserve).and_then(Node::as_bool) == Some(false) {
        errors.push(FieldError::invalid(
            &path.child(preserve),
            false,
            "must be true or undefined",
        ));
    }
    let text = |key: &str| present(schema, key).and_then(Node::as_str);
    let (map_type, list_type) = (text("x-kubernetes-map-type"), text("x-kubernetes-list-type"));
    if let Some(map_type) = map_type {
        wrong_type(schema, "object", "x-kubernetes-map-type", path, errors);
        if !matches!(map_type, "atomic" | "granular") {
            let at = path.child("x-kubernetes-map-type");
            errors.push(FieldError::not_supported(&at, map_type, &["atomic", "granular"]));
        }
    }
    let at = path.child("x-kubernetes-list-type");
    if let Some(list_type) = list_type {
        let wrong = wrong_type(schema, "array", "x-kubernetes-list-type", path, errors);
        if !wrong && options.atomic_sets && list_type == "set" {
            set_items(schema, path, errors);
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            errors.push(FieldError::not_supported(&at, list_type, &["atomic", "set", "map"]));
        }
    }
    if !schema.list("x-kubernetes-list-map-keys").is_empty() && list_type != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => FieldError::required(&at, detail),
            Some(other) => FieldError::invalid(&at, other, detail),
        });
    }
    if list_type == Some("map") {
        list_map(schema, path, errors);
    }
    if options.map_keys {
        errors.extend(loose_map_keys(schema, path));
    }
}

/// Whether the type is not `wanted`, which is then said.
fn wrong_type(schema: &Node, wanted: &str, keyword: &str, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let ty = schema.str("type");
    if ty == wanted {
        return false;
    }
    let detail = format!("must be {wanted} if {keyword} is specified");
    let at = path.child("type");
    errors.push(if ty.is_empty() {
        FieldError::required(&at, detail)
    } else {
        FieldError::invalid(&at, ty, detail)
    });
    true
}

/// Items of a set are compared as a whole, so they must be written as a whole.
fn set_items(schema: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(items) = sub(schema, "items") else { return };
    let Some(keyword) = non_atomic(items) else { return };
    // COMPAT: the list type is shown even where the map type is meant.
    let shown = present(items, "x-kubernetes-list-type").cloned().unwrap_or_default();
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    errors.push(FieldError::invalid(&path.child("items").child(keyword), shown, detail));
}

/// The keyword that should make items of a set atomic and does not.
fn non_atomic(items: &Node) -> Option<&'static str> {
    let text = |key: &str| present(items, key).and_then(Node::as_str);
    match items.str("type") {
        "array" if !matches!(text("x-kubernetes-list-type"), None | Some("atomic")) => Some("x-kubernetes-list-type"),
        "object" if text("x-kubernetes-map-type") != Some("atomic") => Some("x-kubernetes-map-type"),
        _ => None,
    }
}

/// Whether some set of this schema or inside it has items that are no unit.
pub fn has_non_atomic_set(schema: &Node) -> bool {
    schema.str("x-kubernetes-list-type") == "set" && sub(schema, "items").is_some_and(|i| non_atomic(i).is_some())
}

fn list_map(schema: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    let keys = schema.list("x-kubernetes-list-map-keys");
    let keys_at = path.child("x-kubernetes-list-map-keys");
    let items_at = path.child("items");
    if keys.is_empty() {
        errors.push(FieldError::required(
            &keys_at,
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let items = match present(schema, "items") {
        None => {
            errors.push(FieldError::required(
                &items_at,
                "must have a schema if x-kubernetes-list-type is map",
            ));
            return;
        }
        Some(several @ Node::List(_)) => {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&items_at, Node::Null, detail).showing(print_items(several)));
            return;
        }
        Some(items) => items,
    };
    let ty = items.str("type");
    if ty != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&items_at.child("type"), ty, detail));
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match items.at(&["properties", name]) {
            Some(property) if matches!(property.str("type"), "array" | "object") => {
                let at = items_at.child("properties").key(name).child("type");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                // COMPAT: the type shown is the item's.
                errors.push(FieldError::invalid(&at, ty, detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_at, keys.to_vec(), detail));
            }
        }
        if keys[..i].contains(key) {
            errors.push(FieldError::invalid(
                &keys_at,
                keys.to_vec(),
                "must not contain duplicate entries",
            ));
        }
    }
}

/// Keys of list maps must always be there, and items of sets and list maps must be something.
pub fn loose_map_keys(schema: &Node, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let list_type = schema.str("x-kubernetes-list-type");
    let Some(items) = sub(schema, "items").filter(|_| matches!(list_type, "set" | "map")) else {
        return errors;
    };
    let at = path.child("items");
    if flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&at.child("nullable"), detail));
    }
    if list_type != "map" {
        return errors;
    }
    for key in schema.list("x-kubernetes-list-map-keys") {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = items.at(&["properties", name]) else {
            continue;
        };
        let at = at.child("properties").key(name);
        if !items.list("required").contains(key) && present(property, "default").is_none() {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&at.child("default"), detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), detail));
        }
    }
    errors
}

/// What a rule must look like before it is compiled.
fn rule_form(schema: &Node, rule: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    let has_newline = |text: &str| text.contains(['\n', '\r']);
    let (text, message) = (rule.str("rule").trim(), rule.str("message"));
    let trimmed = message.trim();
    let at = path.child("message");
    if text.is_empty() {
        errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && trimmed.is_empty() {
        errors.push(FieldError::invalid(&at, message, "must be non-empty if specified"));
    } else if has_newline(trimmed) {
        errors.push(FieldError::invalid(&at, message, "must not contain line breaks"));
    } else if has_newline(text) && trimmed.is_empty() {
        errors.push(FieldError::required(
            &at,
            "message must be specified if rule contains line breaks",
        ));
    }
    let expression = rule.str("messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&path.child("messageExpression"), detail));
    }
    if let Some(reason) = present(rule, "reason").and_then(Node::as_str)
        && !REASONS.contains(&reason)
    {
        errors.push(FieldError::not_supported(&path.child("reason"), reason, &REASONS));
    }
    let field = rule.str("fieldPath");
    let at = path.child("fieldPath");
    if field.is_empty() {
        return;
    }
    if field.trim().is_empty() {
        errors.push(FieldError::invalid(&at, field, "must be non-empty if specified"));
    }
    if has_newline(field) {
        errors.push(FieldError::invalid(&at, field, "must not contain line breaks"));
    }
    let readable = structural::unreadable(schema).is_none();
    if readable && field_path::find(field, schema, Brackets::Allowed).is_err() {
        errors.push(FieldError::invalid(&at, field, "must be a valid path"));
    }
}
