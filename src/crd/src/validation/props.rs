//! The fields of `JSONSchemaProps` as the internal Go type has them: which are set, how they print, how to visit all.

use fairlead_api::{Node, json};
use std::fmt::Write;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    String,
    Bool,
    /// A pointer to a scalar, or any JSON value.
    Value,
    List,
    Schema,
    Schemas,
    SchemaMap,
    SchemaOrBool,
    SchemaOrList,
    Dependencies,
    Docs,
    Rules,
}

/// Go's name, the JSON key and the kind of every field, in declared order.
const FIELDS: [(&str, &str, Kind); 43] = [
    ("ID", "id", Kind::String),
    ("Schema", "$schema", Kind::String),
    ("Ref", "$ref", Kind::Value),
    ("Description", "description", Kind::String),
    ("Type", "type", Kind::String),
    ("Nullable", "nullable", Kind::Bool),
    ("Format", "format", Kind::String),
    ("Title", "title", Kind::String),
    ("Default", "default", Kind::Value),
    ("Maximum", "maximum", Kind::Value),
    ("ExclusiveMaximum", "exclusiveMaximum", Kind::Bool),
    ("Minimum", "minimum", Kind::Value),
    ("ExclusiveMinimum", "exclusiveMinimum", Kind::Bool),
    ("MaxLength", "maxLength", Kind::Value),
    ("MinLength", "minLength", Kind::Value),
    ("Pattern", "pattern", Kind::String),
    ("MaxItems", "maxItems", Kind::Value),
    ("MinItems", "minItems", Kind::Value),
    ("UniqueItems", "uniqueItems", Kind::Bool),
    ("MultipleOf", "multipleOf", Kind::Value),
    ("Enum", "enum", Kind::List),
    ("MaxProperties", "maxProperties", Kind::Value),
    ("MinProperties", "minProperties", Kind::Value),
    ("Required", "required", Kind::List),
    ("Items", "items", Kind::SchemaOrList),
    ("AllOf", "allOf", Kind::Schemas),
    ("OneOf", "oneOf", Kind::Schemas),
    ("AnyOf", "anyOf", Kind::Schemas),
    ("Not", "not", Kind::Schema),
    ("Properties", "properties", Kind::SchemaMap),
    ("AdditionalProperties", "additionalProperties", Kind::SchemaOrBool),
    ("PatternProperties", "patternProperties", Kind::SchemaMap),
    ("Dependencies", "dependencies", Kind::Dependencies),
    ("AdditionalItems", "additionalItems", Kind::SchemaOrBool),
    ("Definitions", "definitions", Kind::SchemaMap),
    ("ExternalDocs", "externalDocs", Kind::Docs),
    ("Example", "example", Kind::Value),
    (
        "XPreserveUnknownFields",
        "x-kubernetes-preserve-unknown-fields",
        Kind::Value,
    ),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Kind::Bool),
    ("XIntOrString", "x-kubernetes-int-or-string", Kind::Bool),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Kind::List),
    ("XListType", "x-kubernetes-list-type", Kind::Value),
    ("XMapType", "x-kubernetes-map-type", Kind::Value),
];
const RULES: (&str, &str, Kind) = ("XValidations", "x-kubernetes-validations", Kind::Rules);

/// Go's names of the fields of a schema that are not zero, in declared order.
pub fn set_fields(schema: &Node) -> impl Iterator<Item = &'static str> {
    FIELDS
        .iter()
        .chain([&RULES])
        .filter(|(_, key, kind)| is_set(schema, key, *kind))
        .map(|(name, _, _)| *name)
}

fn is_set(schema: &Node, key: &str, kind: Kind) -> bool {
    match schema.get(key) {
        None | Some(Node::Null) => false,
        Some(value) => match kind {
            Kind::String | Kind::Bool => !value.is_zero(),
            _ => true,
        },
    }
}

pub fn flag(schema: &Node, key: &str) -> bool {
    schema.get(key).and_then(Node::as_bool).unwrap_or(false)
}

/// The value of a pointer field.
pub fn present<'a>(schema: &'a Node, key: &str) -> Option<&'a Node> {
    schema.get(key).filter(|v| !v.is_null())
}

/// The single schema under `key` (`items`, `not`, `additionalProperties` …), where there is one.
pub fn sub<'a>(schema: &'a Node, key: &str) -> Option<&'a Node> {
    schema.get(key).filter(|v| matches!(v, Node::Map(_)))
}

/// The schemas under a map of them, by name.
pub fn members<'a>(schema: &'a Node, key: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
    schema
        .get(key)
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|m| m.iter().map(|(k, v)| (k.as_str(), v)))
}

/// Whether some schema, this one or any inside it, is as `test` asks.
pub fn any(schema: &Node, test: &mut dyn FnMut(&Node) -> bool) -> bool {
    if test(schema) {
        return true;
    }
    for key in ["items", "not", "additionalProperties", "additionalItems"] {
        if sub(schema, key).is_some_and(|s| any(s, test)) {
            return true;
        }
    }
    for key in ["items", "allOf", "anyOf", "oneOf"] {
        if schema.list(key).iter().any(|s| any(s, test)) {
            return true;
        }
    }
    for key in ["properties", "patternProperties", "definitions", "dependencies"] {
        for (_, inner) in members(schema, key) {
            if matches!(inner, Node::Map(_)) && any(inner, test) {
                return true;
            }
        }
    }
    false
}

/// A schema as Go prints the internal type.
pub fn print(schema: &Node) -> String {
    let mut out = String::new();
    write_schema(schema, &mut out);
    out
}

fn write_schema(schema: &Node, out: &mut String) {
    for (i, (name, key, kind)) in FIELDS.iter().chain([&RULES]).enumerate() {
        out.push(if i == 0 { '{' } else { ',' });
        write!(out, "\"{name}\":").expect("writing to a String cannot fail");
        write_field(schema.get(key).unwrap_or(&Node::Null), *kind, out);
    }
    out.push('}');
}

fn write_field(value: &Node, kind: Kind, out: &mut String) {
    match (kind, value) {
        (Kind::String, Node::Null) => out.push_str("\"\""),
        (Kind::Bool, Node::Null) => out.push_str("false"),
        (_, Node::Null) => out.push_str("null"),
        (Kind::Schema, schema) => write_schema(schema, out),
        (Kind::Schemas, Node::List(schemas)) => write_list(schemas, out),
        (Kind::SchemaMap, Node::Map(map)) => {
            write_map(map.iter().map(|(k, v)| (k.as_str(), v)), out, &mut |v, out| {
                write_schema(v, out)
            });
        }
        (Kind::SchemaOrBool, Node::Bool(allows)) => {
            write!(out, "{{\"Allows\":{allows},\"Schema\":null}}").expect("writing to a String cannot fail");
        }
        (Kind::SchemaOrBool, schema) => {
            out.push_str("{\"Allows\":true,\"Schema\":");
            write_schema(schema, out);
            out.push('}');
        }
        (Kind::SchemaOrList, value) => write_items(value, out),
        (Kind::Dependencies, Node::Map(map)) => {
            write_map(map.iter().map(|(k, v)| (k.as_str(), v)), out, &mut |v, out| match v {
                Node::List(_) => {
                    write!(out, "{{\"Schema\":null,\"Property\":{}}}", json::to_string(v))
                        .expect("writing to a String cannot fail");
                }
                schema => {
                    out.push_str("{\"Schema\":");
                    write_schema(schema, out);
                    out.push_str(",\"Property\":null}");
                }
            });
        }
        (Kind::Docs, docs) => write!(
            out,
            "{{\"Description\":{},\"URL\":{}}}",
            json::to_string(&docs.str("description").into()),
            json::to_string(&docs.str("url").into())
        )
        .expect("writing to a String cannot fail"),
        (Kind::Rules, Node::List(rules)) => {
            out.push('[');
            for (i, rule) in rules.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&print_rule(rule));
            }
            out.push(']');
        }
        (_, value) => out.push_str(&json::to_string(value)),
    }
}

/// `items` as Go prints it: one schema, or several.
pub fn print_items(items: &Node) -> String {
    let mut out = String::new();
    write_items(items, &mut out);
    out
}

fn write_items(items: &Node, out: &mut String) {
    match items {
        Node::List(schemas) => {
            out.push_str("{\"Schema\":null,\"JSONSchemas\":");
            write_list(schemas, out);
        }
        schema => {
            out.push_str("{\"Schema\":");
            write_schema(schema, out);
            out.push_str(",\"JSONSchemas\":null");
        }
    }
    out.push('}');
}

fn write_list(schemas: &[Node], out: &mut String) {
    out.push('[');
    for (i, schema) in schemas.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_schema(schema, out);
    }
    out.push(']');
}

fn write_map<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Node)>,
    out: &mut String,
    each: &mut dyn FnMut(&Node, &mut String),
) {
    out.push('{');
    for (i, (key, value)) in entries.enumerate() {
        if i > 0 {
            out.push(',');
        }
        write!(out, "{}:", json::to_string(&key.into())).expect("writing to a String cannot fail");
        each(value, out);
    }
    out.push('}');
}

/// A rule of `x-kubernetes-validations` as Go prints the internal type.
pub fn print_rule(rule: &Node) -> String {
    let text = |key: &str| json::to_string(&rule.str(key).into());
    let value = |key: &str| json::to_string(rule.get(key).unwrap_or(&Node::Null));
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        value("reason"),
        text("fieldPath"),
        value("optionalOldSelf")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn schemas_print_as_the_internal_type() {
        let text = print(
            &node!({"type": "object", "minimum": 1, "properties": {"a": {"type": "string"}}, "additionalProperties": true}),
        );
        assert!(
            text.starts_with(r#"{"ID":"","Schema":"","Ref":null,"Description":"","Type":"object","Nullable":false,"#),
            "{text}"
        );
        assert!(
            text.contains(r#""Minimum":1,"#) && text.contains(r#""Properties":{"a":{"ID":"""#),
            "{text}"
        );
        assert!(
            text.contains(r#""AdditionalProperties":{"Allows":true,"Schema":null}"#),
            "{text}"
        );
        assert!(text.ends_with(r#""XMapType":null,"XValidations":null}"#), "{text}");
    }
}
