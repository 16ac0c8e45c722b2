//! From a CRD's `openAPIV3Schema` to a compiled [`Schema`].
//!
//! Source of the mapping: apiextensions-apiserver pkg/apiserver/schema/convert.go.

use crate::object_meta::push_object_meta;
use crate::pattern::Pattern;
use crate::types::{Constraint, Field, Fields, ListSemantics, Schema, Shape, Type, TypeId, Types, Validation};
use compact_str::CompactString;
use fairlead_api::{Map, Node};
use std::sync::Arc;

/// Why a schema is not structural enough to compile. CRD validation says it better and earlier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("OpenAPIV3Schema '{0}' is not supported")]
    Unsupported(&'static str),
    #[error("OpenAPIV3Schema 'items' must be a schema, but is an array")]
    ItemsArray,
    #[error("OpenAPIV3Schema is nested too deeply")]
    TooDeep,
}

const MAX_DEPTH: usize = 200;
const UNSUPPORTED: [(&str, &str); 7] = [
    ("id", "id"),
    ("$schema", "schema"),
    ("$ref", "$ref"),
    ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"),
    ("additionalItems", "additionalItems"),
    ("definitions", "definitions"),
];

/// Compiles the schema of one CRD version. The root gets `apiVersion`, `kind` and `metadata` whether or not the schema
/// names them; metadata is always the Go type, with what the schema says about names on top.
pub fn compile(open_api: &Node) -> Result<Schema, SchemaError> {
    let mut types = Types::default();
    let root = push(&mut types, open_api, Place::Root, 0)?;
    Ok(Schema {
        types: Arc::new(types),
        root,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Inside,
}

fn push(types: &mut Types, node: &Node, place: Place, depth: usize) -> Result<TypeId, SchemaError> {
    if depth > MAX_DEPTH {
        return Err(SchemaError::TooDeep);
    }
    refuse_unsupported(node)?;
    let flag = |name: &str| node.get(name).and_then(Node::as_bool).unwrap_or(false);
    let embedded = flag("x-kubernetes-embedded-resource");
    let is_resource = embedded || place == Place::Root;
    let shape = if flag("x-kubernetes-int-or-string") {
        Shape::IntOrString
    } else {
        match node.str("type") {
            "string" => Shape::String,
            "integer" => Shape::Int { bits: 64 },
            "number" => Shape::Float,
            "boolean" => Shape::Bool,
            "array" => Shape::List(match node.get("items") {
                Some(Node::List(_)) => return Err(SchemaError::ItemsArray),
                Some(items) if !items.is_null() => push(types, items, Place::Inside, depth + 1)?,
                _ => types.push(Type::default()),
            }),
            "object" => object(types, node, is_resource, depth)?,
            _ if is_resource => object(types, node, is_resource, depth)?,
            _ => Shape::Any,
        }
    };
    let list_type = node.str("x-kubernetes-list-type");
    let ty = Type {
        shape,
        nullable: flag("nullable"),
        list: match list_type {
            "set" => ListSemantics::Set,
            "map" => ListSemantics::Map {
                keys: strings(node.list("x-kubernetes-list-map-keys")),
            },
            _ => ListSemantics::Atomic,
        },
        list_declared: !list_type.is_empty(),
        atomic: node.str("x-kubernetes-map-type") == "atomic",
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: embedded,
        default: node.get("default").filter(|d| !d.is_null()).cloned(),
        validation: validation(node)?.map(Box::new),
        ..Type::default()
    };
    Ok(types.push(ty))
}

fn object(types: &mut Types, node: &Node, is_resource: bool, depth: usize) -> Result<Shape, SchemaError> {
    let empty = Map::new();
    let properties = node.get("properties").and_then(Node::as_map).unwrap_or(&empty);
    let required = node.list("required");
    let mut fields = Vec::with_capacity(properties.len());
    for (i, (name, schema)) in properties.iter().enumerate() {
        let ty = match name.as_str() {
            "metadata" if is_resource => metadata(types, schema, depth)?,
            _ => push(types, schema, Place::Inside, depth + 1)?,
        };
        fields.push(Field {
            default: types.get(ty).default.clone(),
            required: required.iter().any(|r| r.as_str() == Some(name)),
            ..field(name, ty, i)
        });
    }
    if is_resource {
        for name in ["apiVersion", "kind", "metadata"] {
            if !properties.contains_key(name) {
                let ty = match name {
                    "metadata" => push_object_meta(types, None, None),
                    _ => types.push(Type {
                        shape: Shape::String,
                        ..Type::default()
                    }),
                };
                fields.push(field(name, ty, fields.len()));
            }
        }
    }
    let additional = match node.get("additionalProperties") {
        None | Some(Node::Null | Node::Bool(false)) => None,
        // What such a value holds is pruned away, unless it is no object at all.
        Some(Node::Bool(_)) => Some(types.push(Type::default())),
        Some(schema) => Some(push(types, schema, Place::Inside, depth + 1)?),
    };
    Ok(match additional {
        Some(values) if fields.is_empty() => Shape::Map(values),
        additional => Shape::Struct(Fields {
            additional,
            ..Fields::new(fields)
        }),
    })
}

/// A field of a custom resource behaves as a Go pointer: absent and zero are two things.
fn field(name: &str, ty: TypeId, order: usize) -> Field {
    let order = u16::try_from(order).unwrap_or(u16::MAX);
    Field {
        name: name.into(),
        ty,
        order,
        pointer: true,
        omit_empty: true,
        ..Field::default()
    }
}

/// A schema may restrict only the names in metadata.
fn metadata(types: &mut Types, schema: &Node, depth: usize) -> Result<TypeId, SchemaError> {
    let mut restricted = |name: &str| match schema.at(&["properties", name]) {
        Some(restriction) => push(types, restriction, Place::Inside, depth + 2).map(Some),
        None => Ok(None),
    };
    let (name, generate_name) = (restricted("name")?, restricted("generateName")?);
    let id = push_object_meta(types, name, generate_name);
    types.types[id.0 as usize].validation = validation(schema)?.map(Box::new);
    Ok(id)
}

fn refuse_unsupported(node: &Node) -> Result<(), SchemaError> {
    for (key, name) in UNSUPPORTED {
        if node.get(key).is_some_and(|v| !v.is_zero()) {
            return Err(SchemaError::Unsupported(name));
        }
    }
    Ok(())
}

/// The value validations of a schema; `None` when it has none.
fn validation(node: &Node) -> Result<Option<Validation>, SchemaError> {
    const KEYS: [&str; 22] = [
        "format",
        "title",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "enum",
        "required",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "x-kubernetes-validations",
        "exclusiveMinimum",
        "exclusiveMaximum",
    ];
    if !KEYS.iter().any(|key| node.get(key).is_some()) {
        return Ok(None);
    }
    let number = |name: &str| node.get(name).and_then(Node::as_f64);
    let integer = |name: &str| node.get(name).and_then(Node::as_i64);
    let flag = |name: &str| node.get(name).and_then(Node::as_bool).unwrap_or(false);
    let constraints = |name: &str| {
        node.list(name)
            .iter()
            .map(|c| constraint(c, 0))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Some(Validation {
        format: node.str("format").into(),
        title: node.str("title").into(),
        minimum: number("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        maximum: number("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_length: integer("minLength"),
        max_length: integer("maxLength"),
        // CRDs with patterns that are none are refused; an old stored one is as good as no pattern.
        pattern: Some(node.str("pattern"))
            .filter(|p| !p.is_empty())
            .and_then(|p| Pattern::new(p).ok()),
        min_items: integer("minItems"),
        max_items: integer("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: integer("minProperties"),
        max_properties: integer("maxProperties"),
        enumeration: node.list("enum").to_vec(),
        required: strings(node.list("required")),
        all_of: constraints("allOf")?,
        any_of: constraints("anyOf")?,
        one_of: constraints("oneOf")?,
        not: node
            .get("not")
            .filter(|n| !n.is_null())
            .map(|n| constraint(n, 0))
            .transpose()?
            .map(Box::new),
        rules: node.list("x-kubernetes-validations").to_vec(),
    }))
}

fn constraint(node: &Node, depth: usize) -> Result<Constraint, SchemaError> {
    if depth > MAX_DEPTH {
        return Err(SchemaError::TooDeep);
    }
    refuse_unsupported(node)?;
    let nested = |n: &Node| constraint(n, depth + 1);
    let mut properties = Vec::new();
    if let Some(map) = node.get("properties").and_then(Node::as_map) {
        for (name, schema) in map.iter() {
            properties.push((name.clone(), nested(schema)?));
        }
    }
    Ok(Constraint {
        type_name: node.str("type").into(),
        nullable: node.get("nullable").and_then(Node::as_bool).unwrap_or(false),
        validation: validation(node)?.unwrap_or_default(),
        properties,
        items: match node.get("items") {
            Some(Node::List(_)) => return Err(SchemaError::ItemsArray),
            Some(items @ Node::Map(_)) => Some(Box::new(nested(items)?)),
            _ => None,
        },
        additional: match node.get("additionalProperties") {
            Some(schema @ Node::Map(_)) => Some(Box::new(nested(schema)?)),
            Some(Node::Bool(true)) => Some(Box::default()),
            _ => None,
        },
    })
}

fn strings(nodes: &[Node]) -> Vec<CompactString> {
    nodes.iter().filter_map(Node::as_str).map(CompactString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Unknown, decode_custom, set_defaults};
    use fairlead_api::node;

    #[test]
    fn a_crd_schema_drives_the_walks() {
        let schema = compile(&node!({
            "type": "object",
            "properties": {
                "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
                "spec": {"type": "object", "properties": {
                    "size": {"type": "integer", "default": 1}, "port": {"x-kubernetes-int-or-string": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "map": {"type": "object", "additionalProperties": {"type": "string"}},
                    "emb": {"type": "object", "x-kubernetes-embedded-resource": true},
                }},
            },
        }))
        .unwrap();
        let mut node = node!({
            "apiVersion": "x/v1", "kind": "X", "metadata": {"name": "abcdef", "labels": {}, "bogus": 1}, "top": 1,
            "spec": {"size": null, "free": {"a": 1}, "map": {"k": "v"}, "zz": 1,
                "emb": {"apiVersion": "v1", "kind": "Y", "metadata": {"name": "n", "foo": 1}, "spec": 1}},
        });
        let unknown = decode_custom(&mut node, schema.root(), Unknown::Collect).unwrap();
        assert_eq!(
            unknown,
            [
                "metadata.bogus",
                "spec.emb.spec",
                "spec.zz",
                "top",
                "spec.emb.metadata.foo"
            ]
        );
        set_defaults(&mut node, schema.root());
        assert_eq!(
            node,
            node!({
                "apiVersion": "x/v1", "kind": "X", "metadata": {"name": "abcdef"},
                "spec": {"size": 1, "free": {"a": 1}, "map": {"k": "v"}, "emb": {"apiVersion": "v1", "kind": "Y", "metadata": {"name": "n"}}},
            })
        );
        let errors = crate::validate(&node, None, schema.root(), &fairlead_api::FieldPath::root(), None);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["metadata.name: Too long: may not be more than 5 bytes"]);
    }

    #[test]
    fn what_is_not_structural_is_refused() {
        assert_eq!(
            compile(&node!({"type": "array", "items": [{}]})).unwrap_err(),
            SchemaError::ItemsArray
        );
        assert_eq!(
            compile(&node!({"$ref": "#/x"})).unwrap_err(),
            SchemaError::Unsupported("$ref")
        );
        let mut deep = node!({"type": "object"});
        for _ in 0..=MAX_DEPTH {
            let mut around = node!({"type": "object"});
            around.set("additionalProperties", deep);
            deep = around;
        }
        assert_eq!(compile(&deep).unwrap_err(), SchemaError::TooDeep);
    }
}
