//! Structural schemas: what a schema may and must say, at which level (KEP-1979 in spirit).
//!
//! Source of the rules: apiextensions-apiserver pkg/apiserver/schema/{convert,validation,complete}.go.

use super::props::{flag, members, present, set_fields, sub};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, node};
use fairlead_schema::Pattern;
use std::sync::LazyLock;

/// Why a schema cannot be read as a structural one at all, in upstream's words.
pub fn unreadable(schema: &Node) -> Option<String> {
    unsupported(schema)
        .or_else(|| sub(schema, "not").and_then(unreadable))
        .or_else(|| {
            ["allOf", "anyOf", "oneOf"]
                .iter()
                .find_map(|key| schema.list(key).iter().find_map(unreadable))
        })
        .or_else(|| {
            (present(schema, "x-kubernetes-preserve-unknown-fields")?.as_bool() == Some(false))
                .then(|| "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".into())
        })
        .or_else(|| match schema.get("items") {
            Some(Node::List(items)) if !items.is_empty() => {
                Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into())
            }
            _ => sub(schema, "items").and_then(unreadable),
        })
        .or_else(|| members(schema, "properties").find_map(|(_, s)| unreadable(s)))
        .or_else(|| sub(schema, "additionalProperties").and_then(unreadable))
}

fn unsupported(schema: &Node) -> Option<String> {
    let names = [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ];
    let (_, name) = names
        .iter()
        .find(|(key, _)| present(schema, key).is_some_and(|v| *key == "additionalItems" || !v.is_zero()))?;
    Some(format!("OpenAPIV3Schema '{name}' is not supported"))
}

/// Everything that keeps a schema from being structural, sorted as upstream sorts it.
pub fn check(schema: &Node, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    invariants(schema, Level::Root, path, &mut errors);
    complete_value(schema, Some(schema), path, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

fn invariants(schema: &Node, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let ty = schema.str("type");
    if ty == "array" && present(schema, "items").is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = sub(schema, "items") {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in members(schema, "properties") {
        invariants(property, Level::Field, &properties.key(name), errors);
    }
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let additional = present(schema, "additionalProperties");
    if additional.is_some() && level == Level::Root {
        errors.push(FieldError::forbidden(
            &path.child("additionalProperties"),
            "must not be used at the root",
        ));
    }
    if let Some(values) = sub(schema, "additionalProperties") {
        invariants(values, Level::Field, &path.child("additionalProperties"), errors);
    }
    extensions(schema, path, errors);
    let skip_any_of = is_int_or_string(schema);
    let skip_all_of = schema.list("allOf").first().is_some_and(is_int_or_string);
    value_validation(schema, skip_any_of, skip_all_of, level, path, errors);
    type_present(schema, level, path, errors);
    if embedded && additional.is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(FieldError::invalid(
            &path.child("type"),
            ty,
            "must be object at the root",
        ));
    }
    resource_fields(schema, level, path, errors);
    let no_properties = members(schema, "properties").next().is_none();
    if embedded && !flag(schema, "x-kubernetes-preserve-unknown-fields") && no_properties {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&properties, detail));
    }
}

fn extensions(schema: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, key) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(key), true, detail));
        }
    }
}

fn type_present(schema: &Node, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let (ty, at) = (schema.str("type"), path.child("type"));
    if flag(schema, "x-kubernetes-embedded-resource") && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if ty.is_empty() {
            FieldError::required(&at, detail)
        } else {
            FieldError::invalid(&at, ty, detail)
        });
    } else if ty.is_empty()
        && !flag(schema, "x-kubernetes-int-or-string")
        && !flag(schema, "x-kubernetes-preserve-unknown-fields")
    {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, detail));
    }
}

/// `apiVersion`, `kind` and `metadata` of what is a whole object are what they are everywhere.
fn resource_fields(schema: &Node, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let properties = path.child("properties");
    let is_resource = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    if is_resource {
        for name in ["kind", "apiVersion"] {
            if let Some(property) = schema.at(&["properties", name])
                && property.str("type") != "string"
            {
                let at = properties.key(name).child("type");
                errors.push(FieldError::invalid(&at, property.str("type"), "must be string"));
            }
        }
    }
    let Some(metadata) = schema.at(&["properties", "metadata"]) else {
        return;
    };
    let at = properties.key("metadata");
    if is_resource && metadata.str("type") != "object" {
        errors.push(FieldError::invalid(
            &at.child("type"),
            metadata.str("type"),
            "must be object",
        ));
    }
    let only_names = || members(metadata, "properties").all(|(name, _)| matches!(name, "name" | "generateName"));
    let allowed = set_fields(metadata).all(|field| match field {
        "Type" | "Default" => true,
        "Properties" => only_names(),
        _ => false,
    });
    if level == Level::Root && !allowed {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&at, detail));
    }
}

static INT_OR_STRING: LazyLock<Node> = LazyLock::new(|| node!([{"type": "integer"}, {"type": "string"}]));

/// Whether `anyOf` says what `x-kubernetes-int-or-string` says, the one place where nested types are structural.
fn is_int_or_string(schema: &Node) -> bool {
    schema.get("anyOf") == Some(&*INT_OR_STRING)
}

fn value_validation(
    schema: &Node,
    skip_any_of: bool,
    skip_first_all_of: bool,
    level: Level,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    if !skip_any_of {
        for (i, part) in schema.list("anyOf").iter().enumerate() {
            nested(part, false, level, &path.child("anyOf").index(i), errors);
        }
    }
    for (i, part) in schema.list("allOf").iter().enumerate() {
        nested(
            part,
            skip_first_all_of && i == 0,
            level,
            &path.child("allOf").index(i),
            errors,
        );
    }
    for (i, part) in schema.list("oneOf").iter().enumerate() {
        nested(part, false, level, &path.child("oneOf").index(i), errors);
    }
    if let Some(not) = sub(schema, "not") {
        nested(not, false, level, &path.child("not"), errors);
    }
    let pattern = schema.str("pattern");
    if !pattern.is_empty()
        && let Err(error) = Pattern::new(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

/// A schema inside `allOf`, `anyOf`, `oneOf` or `not` constrains values; it declares nothing.
fn nested(schema: &Node, skip_any_of: bool, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    value_validation(schema, skip_any_of, false, level, path, errors);
    if let Some(items) = sub(schema, "items") {
        nested(items, false, level, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in members(schema, "properties") {
        nested(property, false, Level::Field, &properties.key(name), errors);
    }
    let mut forbid = |key: &str, given: bool, detail: &str| {
        if given {
            errors.push(FieldError::forbidden(&path.child(key), detail));
        }
    };
    let additional = present(schema, "additionalProperties").is_some_and(|a| a.as_bool() != Some(false));
    forbid("type", !schema.str("type").is_empty(), "must be empty to be structural");
    forbid("additionalProperties", additional, "must be undefined to be structural");
    forbid(
        "default",
        present(schema, "default").is_some(),
        "must be undefined to be structural",
    );
    forbid(
        "title",
        !schema.str("title").is_empty(),
        "must be empty to be structural",
    );
    forbid(
        "description",
        !schema.str("description").is_empty(),
        "must be empty to be structural",
    );
    for key in [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        forbid(key, flag(schema, key), "must be false to be structural");
    }
    let empty = "must be empty to be structural";
    forbid(
        "x-kubernetes-list-map-keys",
        !schema.list("x-kubernetes-list-map-keys").is_empty(),
        empty,
    );
    for key in ["x-kubernetes-list-type", "x-kubernetes-map-type"] {
        forbid(
            key,
            present(schema, key).is_some(),
            "must be undefined to be structural",
        );
    }
    forbid(
        "x-kubernetes-validations",
        !schema.list("x-kubernetes-validations").is_empty(),
        empty,
    );
    if schema.at(&["properties", "metadata"]).is_some() {
        let detail = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(&properties.key("metadata"), detail));
    }
}

// === completeness: what a nested schema constrains must be declared ===

fn complete_value(part: &Node, declared: Option<&Node>, at: &FieldPath, said: &FieldPath, errors: &mut FieldErrors) {
    if let Some(not) = sub(part, "not") {
        complete_nested(not, declared, at, &said.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, inner) in part.list(key).iter().enumerate() {
            complete_nested(inner, declared, at, &said.child(key).index(i), errors);
        }
    }
}

fn complete_nested(part: &Node, declared: Option<&Node>, at: &FieldPath, said: &FieldPath, errors: &mut FieldErrors) {
    let because =
        |path: &FieldPath, said: &FieldPath| FieldError::required(path, format!("because it is defined in {said}"));
    let Some(declared) = declared else {
        errors.push(because(at, said));
        return;
    };
    complete_value(part, Some(declared), at, said, errors);
    if let Some(items) = sub(part, "items") {
        complete_nested(
            items,
            sub(declared, "items"),
            &at.child("items"),
            &said.child("items"),
            errors,
        );
    }
    for (name, property) in members(part, "properties") {
        let (at, said) = (at.child("properties").key(name), said.child("properties").key(name));
        match declared.at(&["properties", name]) {
            None => errors.push(because(&at, &said)),
            found => complete_nested(property, found, &at, &said, errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(schema: &Node) -> Vec<String> {
        check(schema, &FieldPath::new("s"))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_is_not_structural_is_told() {
        let schema = node!({"type": "object", "additionalProperties": true, "properties": {
            "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
            "kind": {"type": "integer"},
            "l": {"type": "array"},
            "n": {},
            "p": {"type": "string", "pattern": "(a"},
            "i": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "j": {"type": "object", "anyOf": [{"properties": {"x": {"type": "string"}}}]},
        }});
        assert_eq!(
            texts(&schema),
            [
                "s.additionalProperties: Forbidden: must not be used at the root",
                "s.properties[j].anyOf[0].properties[x].type: Forbidden: must be empty to be structural",
                "s.properties[kind].type: Invalid value: \"integer\": must be string",
                "s.properties[l].items: Required value: must be specified",
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
                "s.properties[n].type: Required value: must not be empty for specified object fields",
                "s.properties[p].pattern: Invalid value: \"(a\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(a`",
            ]
        );
    }
}
