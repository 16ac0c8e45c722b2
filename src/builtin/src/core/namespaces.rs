//! Namespaces.

use crate::cells::Row;
use crate::value::{copy, list, or};
use fairlead_api::Node;
use fairlead_resource::{HookContext, Hooks};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub struct Namespaces;

impl Hooks for Namespaces {
    fn default(&self, object: &mut Node) {
        label_with_name(object);
        or(object.make_at(&["status"]), "phase", "Active");
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        let mut status = Node::map();
        status.set("phase", "Active");
        object.set("status", status);
        let mut finalizers = list(object, &["spec", "finalizers"]).to_vec();
        if !finalizers.iter().any(|f| f.as_str() == Some("kubernetes")) {
            finalizers.push(Node::string("kubernetes"));
        }
        object.set_at(&["spec", "finalizers"], finalizers);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, context: &HookContext) {
        match context.subresource {
            "finalize" => copy(object, old, &["status"]),
            _ => copy(object, old, &["spec", "finalizers"]),
        }
    }

    fn canonicalize(&self, object: &mut Node) {
        label_with_name(object);
    }

    fn is_namespace(&self) -> bool {
        true
    }

    fn begin_deletion(&self, object: &mut Node) {
        object.set_at(&["status", "phase"], "Terminating");
    }

    fn keeps_after_delete(&self, object: &Node) -> bool {
        !list(object, &["spec", "finalizers"]).is_empty()
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["spec"]],
            _ => &[&["status"]],
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).text(&["status", "phase"]).age().done()
    }
}

/// A namespace that is still to get its name is labelled when it has one.
fn label_with_name(object: &mut Node) {
    let name = Node::string(object.name());
    if name.as_str() != Some("") {
        object.meta_mut().slot("labels").set(NAME_LABEL, name);
    }
}
