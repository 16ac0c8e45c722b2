//! The metadata of an object, read and written in place on its [`Node`].

use crate::gvk::{GroupVersion, GroupVersionKind};
use crate::node::{Map, Node};

impl Node {
    /// `apiVersion` and `kind`; missing ones are empty. An `apiVersion` of more than two parts has no group.
    pub fn type_meta(&self) -> GroupVersionKind {
        let gv = GroupVersion::parse(self.str("apiVersion")).unwrap_or_default();
        gv.kind(self.str("kind"))
    }

    pub fn meta(&self) -> Option<&Node> {
        self.get("metadata")
    }

    pub fn meta_mut(&mut self) -> &mut Map {
        self.make_at(&["metadata"]).make_map()
    }

    pub fn name(&self) -> &str {
        self.str_at(&["metadata", "name"])
    }

    pub fn namespace(&self) -> &str {
        self.str_at(&["metadata", "namespace"])
    }

    pub fn uid(&self) -> &str {
        self.str_at(&["metadata", "uid"])
    }

    pub fn resource_version(&self) -> &str {
        self.str_at(&["metadata", "resourceVersion"])
    }

    pub fn generation(&self) -> i64 {
        self.at(&["metadata", "generation"]).and_then(Node::as_i64).unwrap_or(0)
    }

    pub fn deletion_timestamp(&self) -> Option<&str> {
        self.at(&["metadata", "deletionTimestamp"]).and_then(Node::as_str)
    }

    pub fn labels(&self) -> Option<&Map> {
        self.at(&["metadata", "labels"]).and_then(Node::as_map)
    }

    pub fn annotations(&self) -> Option<&Map> {
        self.at(&["metadata", "annotations"]).and_then(Node::as_map)
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.meta()
            .into_iter()
            .flat_map(|m| m.list("finalizers"))
            .filter_map(Node::as_str)
    }

    pub fn owner_references(&self) -> &[Node] {
        self.meta().map_or(&[], |m| m.list("ownerReferences"))
    }
}
