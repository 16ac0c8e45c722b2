//! Component schemas of custom resources, from their `openAPIV3Schema`.
//!
//! Source of the rules: apiextensions-apiserver pkg/controller/openapi/builder and v2/conversion.go.

use super::operations::META;
use super::{Version, reference};
use fairlead_api::{Node, node};
use fairlead_resource::ResourceDefinition;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `com.example.v1.Widget`: the group's labels reversed, then version and kind.
pub fn name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}

/// The schemas of all custom definitions and of their lists, by name.
pub(super) fn schemas(definitions: &[Arc<ResourceDefinition>], version: Version) -> BTreeMap<String, Node> {
    let mut schemas = BTreeMap::new();
    for definition in definitions.iter().filter(|d| d.is_custom()) {
        let own = name(&definition.group, &definition.version, &definition.kind);
        schemas.insert(own.clone(), object(definition, version));
        let list = name(&definition.group, &definition.version, &definition.list_kind);
        schemas.insert(list, list_schema(definition, &own, version));
    }
    schemas
}

fn object(definition: &ResourceDefinition, version: Version) -> Node {
    let mut schema = match &definition.openapi {
        Some(schema) if version == Version::V2 => for_v2(schema, true),
        Some(schema) => (**schema).clone(),
        None => Node::map(),
    };
    schema.set("type", "object");
    let open = schema.get("properties").is_none() && version == Version::V2;
    // COMPAT: v2 shows an object without declared fields as one that keeps unknown fields.
    let bare = open && definition.openapi.as_ref().is_some_and(|s| s.get("x-kubernetes-preserve-unknown-fields").is_some());
    if !bare {
        for (field, word) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            schema.set_at(&["properties", field], node!({"type": "string", "description": word}));
        }
        let metadata = metadata("ObjectMeta", "metadata of the object", version);
        schema.set_at(&["properties", "metadata"], metadata);
    }
    schema.set("x-kubernetes-group-version-kind", kinds(definition, &definition.kind));
    schema
}

fn list_schema(definition: &ResourceDefinition, item: &str, version: Version) -> Node {
    let mut schema = node!({"type": "object", "required": ["items"]});
    schema.set("description", format!("{} is a list of {}", definition.list_kind, definition.kind));
    for (field, word) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        schema.set_at(&["properties", field], node!({"type": "string", "description": word}));
    }
    schema.set_at(&["properties", "metadata"], metadata("ListMeta", "metadata of the list", version));
    let mut items = node!({"type": "array", "description": format!("the {}", definition.plural)});
    items.set("items", reference(item, version));
    schema.set_at(&["properties", "items"], items);
    schema.set("x-kubernetes-group-version-kind", kinds(definition, &definition.list_kind));
    schema
}

fn metadata(kind: &str, word: &str, version: Version) -> Node {
    let target = reference(&format!("{META}.{kind}"), version);
    let mut node = match version {
        Version::V2 => target,
        Version::V3 => {
            let mut node = Node::map();
            node.set("allOf", vec![target]);
            node
        }
    };
    node.set("description", word);
    node
}

fn kinds(definition: &ResourceDefinition, kind: &str) -> Vec<Node> {
    let mut node = Node::map();
    node.set("group", definition.group.clone());
    node.set("version", definition.version.clone());
    node.set("kind", kind);
    vec![node]
}

/// What v2 can say of a v3 schema: no nullable, no logic, nothing below fields that keep unknown ones.
fn for_v2(schema: &Node, root: bool) -> Node {
    let Node::Map(map) = schema else { return schema.clone() };
    let mut out = Node::map();
    for (key, value) in map.iter() {
        match key.as_str() {
            "nullable" | "anyOf" | "oneOf" | "not" => {}
            "properties" => {
                let properties = value.as_map().into_iter().flat_map(|m| m.iter());
                let converted = properties.map(|(k, v)| (k.clone(), for_v2(v, false))).collect();
                out.set(key, Node::Map(converted));
            }
            "items" | "additionalProperties" => out.set(key, for_v2(value, false)),
            "allOf" => {
                let parts = value.as_list().into_iter().flatten().map(|v| for_v2(v, false)).collect::<Vec<_>>();
                out.set(key, parts);
            }
            _ => out.set(key, value.clone()),
        }
    }
    let flag = |key: &str| schema.get(key).and_then(Node::as_bool) == Some(true);
    if flag("x-kubernetes-int-or-string") || schema.get("nullable").and_then(Node::as_bool) == Some(true) {
        // COMPAT: kubectl would refuse a null or a second type, so the type is not told.
        out.remove("type");
        if flag("nullable") {
            for key in ["properties", "items", "additionalProperties"] {
                out.remove(key);
            }
        }
    }
    if flag("x-kubernetes-preserve-unknown-fields") || flag("x-kubernetes-embedded-resource") {
        for key in ["properties", "items", "required", "additionalProperties"] {
            out.remove(key);
        }
        if !root {
            out.remove("type");
        }
    }
    out
}

const API_VERSION: &str = "version of the API the object is written in, GROUP/VERSION";
const KIND: &str = "kind of the object";
