//! Aggregated discovery: `apidiscovery.k8s.io/v2 APIGroupDiscoveryList` (KEP-3352), gathered from per-version parts.

use crate::document::{Document, hash};
use crate::legacy::{advertised, set_names, verbs};
use crate::snapshot::{Group, Serves, VersionEntry};
use fairlead_api::{GroupVersionKind, Node, Timestamp, json};
use fairlead_resource::{ResourceDefinition, Subresource};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Begins the annotation of a group that tells since when a version of it is shown from memory; the version follows.
pub const LAST_KNOWN: &str = "gateway.fairlead.dev/last-known-";

/// The document of `groups`, in their order.
pub(crate) fn list<'a>(groups: impl Iterator<Item = &'a Arc<Group>>) -> Document {
    let mut out =
        br#"{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":["#.to_vec();
    let served = |v: &&Arc<VersionEntry>| !matches!(&v.serves, Serves::Local(definitions) if definitions.is_empty());
    for (i, group) in groups.filter(|g| g.versions.iter().any(|v| served(&v))).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"metadata":{"#);
        if !group.name.is_empty() {
            out.extend_from_slice(br#""name":"#);
            json::write_str(&group.name, &mut out);
        }
        let memories = memories(group);
        if !memories.is_zero() {
            if !group.name.is_empty() {
                out.push(b',');
            }
            out.extend_from_slice(br#""annotations":"#);
            json::write(&memories, &mut out);
        }
        out.extend_from_slice(br#"},"versions":["#);
        for (i, version) in group.versions.iter().filter(served).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(version.aggregated.get_or_init(|| json::to_vec(&part(version)).into()));
        }
        out.extend_from_slice(b"]}");
    }
    out.extend_from_slice(b"]}");
    let etag = Some(format!("\"{}\"", hash(&out)));
    Document::new(out.into(), etag)
}

/// Of versions whose backends do not answer: when each was last known to be as it is shown.
fn memories(group: &Group) -> Node {
    let mut memories = Node::map();
    for version in &group.versions {
        if let Serves::Remote(remote) = &version.serves
            && remote.stale
            && let Some(learnt) = remote.learnt
        {
            let seconds = learnt.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let at = Timestamp::from_unix_seconds(i64::try_from(seconds).unwrap_or(0));
            memories.set(&format!("{LAST_KNOWN}{}", version.group_version.version), at.rfc3339());
        }
    }
    memories
}

/// An `APIVersionDiscovery`.
fn part(entry: &VersionEntry) -> Node {
    let (resources, stale) = match &entry.serves {
        Serves::Local(definitions) => (definitions.iter().map(|d| resource(d)).collect(), false),
        Serves::Remote(remote) => (remote.resources.to_vec(), remote.shown_stale()),
    };
    let mut node = Node::map();
    node.set("version", entry.group_version.version.clone());
    if !resources.is_empty() {
        node.set("resources", resources);
    }
    node.set("freshness", if stale { "Stale" } else { "Current" });
    node
}

fn resource(definition: &ResourceDefinition) -> Node {
    let mut node = Node::map();
    node.set("resource", definition.plural.clone());
    node.set("responseKind", response_kind(definition, &definition.gvk()));
    node.set(
        "scope",
        if definition.namespaced() {
            "Namespaced"
        } else {
            "Cluster"
        },
    );
    node.set("singularResource", definition.singular.clone());
    node.set("verbs", advertised(definition));
    set_names(&mut node, definition);
    if !definition.subresources.is_empty() {
        let subresources = definition
            .subresources
            .iter()
            .map(|s| subresource(definition, s))
            .collect::<Vec<_>>();
        node.set("subresources", subresources);
    }
    node
}

fn subresource(definition: &ResourceDefinition, sub: &Subresource) -> Node {
    let mut node = Node::map();
    node.set("subresource", sub.name.clone());
    node.set("responseKind", response_kind(definition, &sub.kind));
    node.set("verbs", verbs(&sub.verbs));
    node
}

/// COMPAT: built-in kinds leave group and version empty where they are those of the list; custom ones write them.
fn response_kind(definition: &ResourceDefinition, kind: &GroupVersionKind) -> Node {
    let inherited = kind.group == definition.group && kind.version == definition.version && !definition.is_custom();
    let mut node = Node::map();
    node.set("group", if inherited { "".into() } else { kind.group.clone() });
    node.set("version", if inherited { "".into() } else { kind.version.clone() });
    node.set("kind", kind.kind.clone());
    node
}
