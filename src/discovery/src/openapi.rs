//! OpenAPI v2 and v3 of everything served here, printed from resource definitions.
//!
//! - [`operations`]: paths and operations of a resource, the same for both versions. - [`v3`], [`v2`]: the printers; `print`:
//!   what they have in common.
//! - [`merge`]: parts of v2 joined to one document. - [`library`]: what parts share. - [`conflicts`]: names that mean two things.
//! - [`custom`]: component schemas of custom resources. Those of built-in kinds come through [`Components`].

pub mod conflicts;
pub mod custom;
pub mod library;
pub mod merge;
mod operations;
mod parameters;
mod print;
pub mod v2;
pub mod v3;

use fairlead_api::{GroupVersionKind, Node};
use fairlead_resource::ResourceDefinition;
use std::collections::{BTreeMap, BTreeSet};

/// Component schemas of built-in types.
pub trait Components: Send + Sync {
    /// The schema of a type by its OpenAPI name, `io.k8s.api.core.v1.Pod`. References in it are in `version`'s form.
    fn schema(&self, name: &str, version: Version) -> Option<Node>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    V2,
    V3,
}

impl Version {
    /// What stands before a schema's name in a reference.
    pub fn prefix(self) -> &'static str {
        match self {
            Version::V2 => "#/definitions/",
            Version::V3 => "#/components/schemas/",
        }
    }
}

/// The OpenAPI name of a resource's objects.
pub fn schema_name(definition: &ResourceDefinition) -> String {
    if definition.is_custom() {
        return custom::name(&definition.group, &definition.version, &definition.kind);
    }
    definition.schema.root().ty().name.to_string()
}

pub(crate) fn list_schema_name(definition: &ResourceDefinition) -> String {
    if definition.is_custom() {
        return custom::name(&definition.group, &definition.version, &definition.list_kind);
    }
    let name = schema_name(definition);
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    format!("{package}.{}", definition.list_kind)
}

/// The OpenAPI name of a subresource's objects.
fn schema_of(definition: &ResourceDefinition, kind: &GroupVersionKind) -> String {
    if *kind == definition.gvk() {
        return schema_name(definition);
    }
    if let Some(schema) = definition
        .subresources
        .iter()
        .find(|s| s.kind == *kind)
        .and_then(|s| s.schema.as_ref())
    {
        let name = &schema.root().ty().name;
        if !name.is_empty() {
            return name.to_string();
        }
    }
    let group = kind.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
    format!("io.k8s.api.{group}.{}.{}", kind.version, kind.kind)
}

/// All schemas that `roots` lead to, by name.
fn reachable(
    roots: impl IntoIterator<Item = String>,
    version: Version,
    schema: &dyn Fn(&str) -> Option<Node>,
) -> BTreeMap<String, Node> {
    let mut waiting: Vec<String> = roots.into_iter().collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut found = BTreeMap::new();
    while let Some(name) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if let Some(node) = schema(&name) {
            references(&node, version.prefix(), &mut waiting);
            found.insert(name, node);
        }
    }
    found
}

/// Collects the names that `node` refers to.
fn references(node: &Node, prefix: &str, names: &mut Vec<String>) {
    match node {
        Node::Map(map) => {
            for (key, value) in map.iter() {
                match value {
                    Node::String(text) if key == "$ref" => names.extend(text.strip_prefix(prefix).map(str::to_owned)),
                    _ => references(value, prefix, names),
                }
            }
        }
        Node::List(items) => items.iter().for_each(|item| references(item, prefix, names)),
        _ => {}
    }
}

fn reference(name: &str, version: Version) -> Node {
    let mut node = Node::map();
    node.set("$ref", format!("{}{name}", version.prefix()));
    node
}

fn kind_node(kind: &GroupVersionKind) -> Node {
    let mut node = Node::map();
    node.set("group", kind.group.clone());
    node.set("version", kind.version.clone());
    node.set("kind", kind.kind.clone());
    node
}

fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Vec<Node> {
    items.into_iter().map(Node::from).collect()
}
