//! Component schemas of custom resources, from their `openAPIV3Schema`.
//!
//! Source of the rules: apiextensions-apiserver pkg/controller/openapi/builder and v2/conversion.go.

use super::operations::META;
use super::{Components, Version, reference};
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
pub(super) fn schemas(
    definitions: &[Arc<ResourceDefinition>],
    version: Version,
    words: &Words,
) -> BTreeMap<String, Node> {
    let mut schemas = BTreeMap::new();
    for definition in definitions.iter().filter(|d| d.is_custom()) {
        let own = name(&definition.group, &definition.version, &definition.kind);
        schemas.insert(own.clone(), object(definition, version, words));
        let list = name(&definition.group, &definition.version, &definition.list_kind);
        schemas.insert(list, list_schema(definition, &own, version, words));
    }
    schemas
}

/// What is said of the fields that every object and every list has: what is said of those of built-in kinds.
pub(super) struct Words {
    api_version: String,
    kind: String,
    metadata: String,
    list_metadata: String,
    /// Of the conventions of the API.
    link: String,
}

impl Words {
    pub(super) fn of(components: &dyn Components) -> Words {
        let schema = |name: &str| components.schema(name, Version::V3).unwrap_or_default();
        let (object, status) = (
            schema("io.k8s.api.core.v1.ConfigMap"),
            schema(&format!("{META}.Status")),
        );
        let word = |schema: &Node, field| schema.str_at(&["properties", field, "description"]).to_owned();
        let list_metadata = word(&status, "metadata");
        let link = list_metadata
            .rsplit(' ')
            .next()
            .and_then(|link| link.split('#').next())
            .unwrap_or_default()
            .to_owned();
        Words {
            api_version: word(&object, "apiVersion"),
            kind: word(&object, "kind"),
            metadata: word(&object, "metadata"),
            list_metadata,
            link,
        }
    }

    fn set_type(&self, schema: &mut Node) {
        for (field, word) in [("apiVersion", &self.api_version), ("kind", &self.kind)] {
            schema.set_at(
                &["properties", field],
                node!({"type": "string", "description": (word.as_str())}),
            );
        }
    }
}

fn object(definition: &ResourceDefinition, version: Version, words: &Words) -> Node {
    // COMPAT: v2 says nothing of an object that keeps unknown fields.
    let bare = version == Version::V2 && keeps_unknown(definition.openapi.as_deref().unwrap_or(&Node::Null));
    let declared = definition.openapi.as_ref().filter(|_| !bare);
    let mut schema = declared.map_or_else(Node::map, |schema| published(schema, version, words));
    schema.set("type", "object");
    if !bare {
        words.set_type(&mut schema);
        schema.set_at(
            &["properties", "metadata"],
            metadata("ObjectMeta", &words.metadata, version),
        );
    }
    schema.set("x-kubernetes-group-version-kind", kinds(definition, &definition.kind));
    set_selectable(&mut schema, definition);
    schema
}

fn list_schema(definition: &ResourceDefinition, item: &str, version: Version, words: &Words) -> Node {
    let mut schema = node!({"type": "object", "required": ["items"]});
    schema.set(
        "description",
        format!("{} is a list of {}", definition.list_kind, definition.kind),
    );
    words.set_type(&mut schema);
    schema.set_at(
        &["properties", "metadata"],
        metadata("ListMeta", &words.list_metadata, version),
    );
    let mut items = node!({"type": "array"});
    items.set(
        "description",
        format!("List of {}. More info: {}", definition.plural, words.link),
    );
    items.set("items", reference(item, version));
    schema.set_at(&["properties", "items"], items);
    schema.set(
        "x-kubernetes-group-version-kind",
        kinds(definition, &definition.list_kind),
    );
    set_selectable(&mut schema, definition);
    schema
}

/// The fields that field selectors may name.
fn set_selectable(schema: &mut Node, definition: &ResourceDefinition) {
    let fields = definition
        .selectable_fields
        .iter()
        .map(|field| node!({"fieldPath": (field.name.as_str())}));
    let fields: Vec<Node> = fields.collect();
    if !fields.is_empty() {
        schema.set("x-kubernetes-selectable-fields", fields);
    }
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

/// A schema as its author wrote it, with what its extensions imply; for v2 without what v2 cannot say.
fn published(schema: &Node, version: Version, words: &Words) -> Node {
    let Node::Map(map) = schema else { return schema.clone() };
    let mut out = Node::map();
    for (key, value) in map.iter() {
        match key.as_str() {
            "nullable" | "allOf" | "anyOf" | "oneOf" | "not" if version == Version::V2 => {}
            "properties" => {
                let properties = value.as_map().into_iter().flat_map(|m| m.iter());
                let converted = properties
                    .map(|(k, v)| (k.clone(), published(v, version, words)))
                    .collect();
                out.set(key, Node::Map(converted));
            }
            "items" | "additionalProperties" => out.set(key, published(value, version, words)),
            _ => out.set(key, value.clone()),
        }
    }
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    if version == Version::V3 {
        if int_or_string && ["anyOf", "allOf"].iter().all(|key| schema.get(key).is_none()) {
            out.set("anyOf", node!([{"type": "integer"}, {"type": "string"}]));
        }
    } else {
        for_kubectl(schema, &mut out);
    }
    // An open one is closed for kubectl by the fields it is told of.
    if flag(schema, "x-kubernetes-embedded-resource") && (version == Version::V3 || !keeps_unknown(schema)) {
        embed(&mut out, version, words);
    }
    out
}

/// COMPAT: kubectl reads v2, and would refuse a null, a second type or an unknown field: it is told less.
fn for_kubectl(schema: &Node, out: &mut Node) {
    let (nullable, open) = (flag(schema, "nullable"), keeps_unknown(schema));
    if nullable || flag(schema, "x-kubernetes-int-or-string") {
        out.remove("type");
    }
    if nullable || open {
        out.remove("items");
        out.remove("properties");
    }
    let kind = out.str("type");
    if (kind == "array" && out.get("items").is_none()) || (kind == "object" && open) {
        out.remove("type");
    }
    // What may be null may be left out as well.
    let properties = schema
        .get("properties")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|m| m.iter());
    let optional: Vec<&str> = properties
        .filter(|(_, p)| flag(p, "nullable"))
        .map(|(name, _)| name.as_str())
        .collect();
    if let Some(required) = out.get_mut("required").and_then(Node::as_list_mut) {
        required.retain(|name| !name.as_str().is_some_and(|name| optional.contains(&name)));
    }
    let emptied = out
        .get("required")
        .and_then(Node::as_list)
        .is_some_and(|names| names.is_empty());
    if emptied
        || schema
            .get("additionalProperties")
            .is_some_and(|values| flag(values, "nullable"))
    {
        out.remove("required");
    }
}

/// An embedded object has a type and metadata of its own.
fn embed(schema: &mut Node, version: Version, words: &Words) {
    words.set_type(schema);
    schema.set_at(
        &["properties", "metadata"],
        metadata("ObjectMeta", &words.metadata, version),
    );
    let mut required = schema
        .get("required")
        .and_then(Node::as_list)
        .cloned()
        .unwrap_or_default();
    for field in ["kind", "apiVersion"].map(Node::from) {
        if !required.contains(&field) {
            required.push(field);
        }
    }
    schema.set("required", required);
}

fn keeps_unknown(schema: &Node) -> bool {
    flag(schema, "x-kubernetes-preserve-unknown-fields")
}

fn flag(schema: &Node, key: &str) -> bool {
    schema.get(key).and_then(Node::as_bool) == Some(true)
}
