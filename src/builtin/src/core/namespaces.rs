//! Namespaces.

use crate::cells::Row;
use crate::validation::common::{finalizer_name, finalizers, object_meta};
use crate::value::{copy, list, or};
use fairlead_api::metadata::complain;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};
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

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        object_meta(object, false, name::name_is_dns_label, errors);
        spec_finalizers(object, &FieldPath::new("spec.finalizers"), errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, context: &HookContext, errors: &mut FieldErrors) {
        if context.subresource == "finalize" {
            finalizers(object, errors);
            for (i, finalizer) in list(object, &["spec", "finalizers"]).iter().enumerate() {
                let path = FieldPath::new("spec.finalizers").index(i);
                spec_finalizer(finalizer, &path, errors);
            }
            return;
        }
        object_meta(object, false, name::name_is_dns_label, errors);
        spec_finalizers(object, &FieldPath::new("spec.finalizers"), errors);
        finalizers(object, errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        finalizers(object, errors);
        let phase = object.str_at(&["status", "phase"]);
        let detail = match (object.deletion_timestamp(), phase) {
            (None, "Active") | (Some(_), "Terminating") => return,
            (None, _) => "may only be 'Active' if `deletionTimestamp` is empty",
            (Some(_), _) => "may only be 'Terminating' if `deletionTimestamp` is not empty",
        };
        errors.push(FieldError::invalid(&FieldPath::new("status.Phase"), phase, detail));
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

/// COMPAT: on writes of the namespace itself, all are reported at the list.
fn spec_finalizers(object: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    for finalizer in list(object, &["spec", "finalizers"]) {
        spec_finalizer(finalizer, path, errors);
    }
}

fn spec_finalizer(finalizer: &Node, path: &FieldPath, errors: &mut FieldErrors) {
    let finalizer = finalizer.as_str().unwrap_or_default();
    complain(errors, path, finalizer, name::is_qualified_name(finalizer));
    finalizer_name(finalizer, path, errors);
}

/// A namespace that is still to get its name is labelled when it has one.
fn label_with_name(object: &mut Node) {
    let name = Node::string(object.name());
    if name.as_str() != Some("") {
        object.meta_mut().slot("labels").set(NAME_LABEL, name);
    }
}
