//! The unaggregated discovery documents: `APIGroupList`, `APIGroup`, `APIResourceList`, `APIVersions`.

use crate::snapshot::{Group, VersionEntry};
use fairlead_api::{GroupVersion, GroupVersionKind, Node, node};
use fairlead_resource::{ResourceDefinition, Verb};
use std::sync::Arc;

pub(crate) fn group_list(groups: &[Arc<Group>]) -> Node {
    let groups: Vec<Node> = groups.iter().filter(|g| !g.name.is_empty()).map(|g| group(g)).collect();
    let mut list = node!({"kind": "APIGroupList", "apiVersion": "v1"});
    list.set("groups", groups);
    list
}

pub(crate) fn group_with_type(g: &Group) -> Node {
    let mut node = group(g);
    node.set("kind", "APIGroup");
    node.set("apiVersion", "v1");
    node
}

fn group(g: &Group) -> Node {
    let version = |entry: &VersionEntry| {
        let mut node = Node::map();
        node.set("groupVersion", entry.group_version.to_string());
        node.set("version", entry.group_version.version.clone());
        node
    };
    let mut node = Node::map();
    node.set("name", g.name.clone());
    node.set("versions", g.versions.iter().map(|v| version(v)).collect::<Vec<_>>());
    if let Some(preferred) = g.versions.first() {
        node.set("preferredVersion", version(preferred));
    }
    node
}

/// COMPAT: the core group's list has no `apiVersion`, every other has one (kubernetes/apiserver
/// pkg/endpoints/discovery/version.go).
pub(crate) fn resource_list(gv: &GroupVersion, definitions: &[Arc<ResourceDefinition>]) -> Node {
    let mut resources = Vec::new();
    for definition in definitions {
        resources.push(resource(gv, definition));
        for sub in &definition.subresources {
            let mut node = Node::map();
            node.set("name", format!("{}/{}", definition.plural, sub.name));
            node.set("singularName", "");
            node.set("namespaced", definition.namespaced());
            set_kind(&mut node, gv, &sub.kind);
            node.set("verbs", verbs(&sub.verbs));
            resources.push(node);
        }
    }
    let mut list = node!({"kind": "APIResourceList"});
    if !gv.group.is_empty() {
        list.set("apiVersion", "v1");
    }
    list.set("groupVersion", gv.to_string());
    list.set("resources", resources);
    list
}

fn resource(gv: &GroupVersion, definition: &ResourceDefinition) -> Node {
    let mut node = Node::map();
    node.set("name", definition.plural.clone());
    node.set("singularName", definition.singular.clone());
    node.set("namespaced", definition.namespaced());
    set_kind(&mut node, gv, &definition.gvk());
    node.set("verbs", advertised(definition));
    set_names(&mut node, definition);
    if !definition.storage.version_hash.is_empty() {
        node.set("storageVersionHash", definition.storage.version_hash.clone());
    }
    node
}

/// Group and version only where they differ from the list's.
fn set_kind(node: &mut Node, gv: &GroupVersion, kind: &GroupVersionKind) {
    node.set("kind", kind.kind.clone());
    if kind.group != gv.group || kind.version != gv.version {
        if !kind.group.is_empty() {
            node.set("group", kind.group.clone());
        }
        node.set("version", kind.version.clone());
    }
}

/// The other names of a resource, where it has any: the same in all documents.
pub(crate) fn set_names(node: &mut Node, definition: &ResourceDefinition) {
    for (key, names) in [
        ("shortNames", &definition.short_names),
        ("categories", &definition.categories),
    ] {
        if !names.is_empty() {
            node.set(key, names.iter().cloned().map(Node::from).collect::<Vec<_>>());
        }
    }
}

/// The list of a group-version whose backend does not answer, made of what it said before (`APIResourceDiscovery`).
pub(crate) fn remembered_list(gv: &GroupVersion, known: &[Node]) -> Node {
    let mut resources = Vec::new();
    for resource in known {
        let name = resource.str("resource");
        let namespaced = resource.str("scope") == "Namespaced";
        let mut node = remembered(gv, resource, name.to_owned(), namespaced);
        node.set("singularName", resource.str("singularResource"));
        for key in ["shortNames", "categories"] {
            if let Some(names) = resource.get(key) {
                node.set(key, names.clone());
            }
        }
        resources.push(node);
        for sub in resource.list("subresources") {
            let name = format!("{name}/{}", sub.str("subresource"));
            resources.push(remembered(gv, sub, name, namespaced));
        }
    }
    let mut list = node!({"kind": "APIResourceList", "apiVersion": "v1"});
    list.set("groupVersion", gv.to_string());
    list.set("resources", resources);
    list
}

fn remembered(gv: &GroupVersion, known: &Node, name: String, namespaced: bool) -> Node {
    let kind = |key: &str| known.str_at(&["responseKind", key]).to_owned();
    let mut node = node!({"singularName": ""});
    node.set("name", name);
    node.set("namespaced", namespaced);
    // An empty group and version mean those of the list.
    let own = kind("group").is_empty() && kind("version").is_empty();
    let kind = match own {
        true => gv.kind(&kind("kind")),
        false => GroupVersionKind::new(&kind("group"), &kind("version"), &kind("kind")),
    };
    set_kind(&mut node, gv, &kind);
    node.set(
        "verbs",
        known.get("verbs").cloned().unwrap_or_else(|| Node::List(Vec::new())),
    );
    node
}

/// The verbs of a resource itself that clients are told of.
pub(crate) fn advertised(definition: &ResourceDefinition) -> Vec<Node> {
    let told = definition.verbs.iter().filter(|v| definition.hooks.advertised(**v));
    told.map(|v| Node::from(v.as_str())).collect()
}

pub(crate) fn verbs(verbs: &[Verb]) -> Vec<Node> {
    verbs.iter().map(|v| Node::from(v.as_str())).collect()
}

/// `/api`: `APIVersions`, with the address (`host:port`) clients of any network reach this server at.
pub fn api_versions(server_address: &str) -> Node {
    node!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}
