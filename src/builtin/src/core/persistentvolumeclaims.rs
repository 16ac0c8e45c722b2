//! PersistentVolumeClaims.

use super::persistentvolumes::{access_modes, phase, storage_class};
use crate::cells::{Row, UNSET};
use crate::pod_spec::{default_claim_spec, round_quantities};
use crate::validation::claims;
use crate::value::{list, or, with};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct PersistentVolumeClaims;

impl Hooks for PersistentVolumeClaims {
    fn default(&self, object: &mut Node) {
        or(object.make_at(&["status"]), "phase", "Pending");
        default_claim_spec(object.make_at(&["spec"]));
        for list in ["capacity", "allocatedResources"] {
            with(object, &["status", list], round_quantities);
        }
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        let mut status = Node::map();
        status.set("phase", "Pending");
        object.set("status", status);
        prepare_sources(object.make_at(&["spec"]), None);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        prepare_sources(object.make_at(&["spec"]), old.get("spec"));
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, context: &HookContext) -> Vec<String> {
        match context.subresource {
            "status" => Vec::new(),
            _ => claims::warnings(object),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        claims::validate_create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        claims::validate_update(object, old, errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        claims::validate_status(object, errors);
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
        let bound = !object.str_at(&["spec", "volumeName"]).is_empty();
        let capacity = match object.str_at(&["status", "capacity", "storage"]) {
            _ if !bound => "",
            "" => "0",
            capacity => capacity,
        };
        let modes = if bound {
            access_modes(list(object, &["status", "accessModes"]))
        } else {
            String::new()
        };
        Row::named(object, now_seconds)
            .cell(phase(object))
            .text(&["spec", "volumeName"])
            .cell(capacity)
            .cell(modes)
            .cell(storage_class(object))
            .text_or(&["spec", "volumeAttributesClassName"], UNSET)
            .age()
            .text_or(&["spec", "volumeMode"], UNSET)
            .done()
    }
}

/// `dataSource` and `dataSourceRef` say the same where the older one can say it (KEP-1495).
fn prepare_sources(spec: &mut Node, old: Option<&Node>) {
    // References across namespaces are off by default (KEP-3294).
    let crosses = |spec: &Node| !spec.str_at(&["dataSourceRef", "namespace"]).is_empty();
    if crosses(spec) && !old.is_some_and(crosses) {
        spec.remove("dataSourceRef");
    }
    let in_use = old.is_some_and(|old| old.get("dataSource").is_some() || old.get("dataSourceRef").is_some());
    if !in_use && spec.get("dataSourceRef").is_none() && !spec.get("dataSource").is_some_and(is_claim_or_snapshot) {
        // COMPAT: anything else was dropped before there was a reference that may name it.
        spec.remove("dataSource");
    }
    let without_namespace = |source: &Node| {
        let mut source = source.clone();
        source.remove("namespace");
        source
    };
    match (spec.get("dataSource"), spec.get("dataSourceRef")) {
        (Some(source), None) => {
            let source = source.clone();
            spec.set("dataSourceRef", source);
        }
        (None, Some(reference)) if reference.str("namespace").is_empty() => {
            let reference = without_namespace(reference);
            spec.set("dataSource", reference);
        }
        _ => {}
    }
}

fn is_claim_or_snapshot(source: &Node) -> bool {
    matches!(
        (source.str("apiGroup"), source.str("kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn sources_are_mirrored() {
        let mut spec = node!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}});
        prepare_sources(&mut spec, None);
        assert_eq!(spec.get("dataSourceRef"), spec.get("dataSource"));
        let mut spec = node!({"dataSource": {"apiGroup": "x.io", "kind": "Thing", "name": "a"}});
        prepare_sources(&mut spec, None);
        assert_eq!(spec, node!({}));
        let mut spec = node!({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "a", "namespace": "other"}});
        prepare_sources(&mut spec, None);
        assert_eq!(spec, node!({}));
    }
}
