//! PersistentVolumes.

use crate::cells::{Row, UNSET};
use crate::pod_spec::{default_rbd, default_scale_io, round_quantities};
use crate::validation::common::finalizers;
use crate::validation::persistent_volumes;
use crate::validation::warnings;
use crate::value::{copy, list, or, with};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct PersistentVolumes;

impl Hooks for PersistentVolumes {
    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Node) {
        or(object.make_at(&["status"]), "phase", "Pending");
        let spec = object.make_at(&["spec"]);
        or(spec, "persistentVolumeReclaimPolicy", "Retain");
        or(spec, "volumeMode", "Filesystem");
        with(spec, &["capacity"], round_quantities);
        with(spec, &["hostPath"], |source| or(source, "type", ""));
        with(spec, &["rbd"], default_rbd);
        with(spec, &["iscsi"], |source| or(source, "iscsiInterface", "default"));
        with(spec, &["scaleIO"], default_scale_io);
        with(spec, &["azureDisk"], |source| {
            or(source, "cachingMode", "ReadWrite");
            or(source, "fsType", "ext4");
            or(source, "readOnly", false);
            or(source, "kind", "Shared");
        });
    }

    fn prepare_create(&self, object: &mut Node, context: &HookContext) {
        let mut status = Node::map();
        status.set("phase", "Pending");
        status.set("lastPhaseTransitionTime", context.clock.now().rfc3339());
        object.set("status", status);
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, context: &HookContext) -> Vec<String> {
        match context.subresource {
            "status" => Vec::new(),
            _ => warnings::persistent_volume(object),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        persistent_volumes::validate(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        persistent_volumes::validate(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        finalizers(object, errors);
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, context: &HookContext) {
        const TIME: &[&str] = &["status", "lastPhaseTransitionTime"];
        let same_phase = object.at(&["status", "phase"]) == old.at(&["status", "phase"]);
        if same_phase && object.at(TIME).is_none() {
            copy(object, old, TIME);
        } else if !same_phase && (object.at(TIME).is_none() || object.at(TIME) == old.at(TIME)) {
            object.set_at(TIME, context.clock.now().rfc3339());
        }
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
        let claim = match object.at(&["spec", "claimRef"]) {
            Some(claim) => format!("{}/{}", claim.str("namespace"), claim.str("name")),
            None => String::new(),
        };
        Row::named(object, now_seconds)
            .text_or(&["spec", "capacity", "storage"], "0")
            .cell(access_modes(list(object, &["spec", "accessModes"])))
            .text(&["spec", "persistentVolumeReclaimPolicy"])
            .cell(phase(object))
            .cell(claim)
            .cell(storage_class(object))
            .text_or(&["spec", "volumeAttributesClassName"], UNSET)
            .text(&["status", "reason"])
            .age()
            .text_or(&["spec", "volumeMode"], UNSET)
            .done()
    }
}

/// The short names of access modes, each once, in a fixed order.
pub fn access_modes(modes: &[Node]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found = |name: &str| modes.iter().any(|m| m.as_str() == Some(name));
    crate::cells::join(
        SHORT.iter().filter(|(name, _)| found(name)).map(|(_, short)| *short),
        ",",
    )
}

pub fn phase(object: &Node) -> &str {
    match object.deletion_timestamp() {
        Some(_) => "Terminating",
        None => object.str_at(&["status", "phase"]),
    }
}

/// The storage class: an old annotation counts before the field.
pub fn storage_class(object: &Node) -> &str {
    let annotation = object
        .annotations()
        .and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"));
    annotation
        .and_then(Node::as_str)
        .unwrap_or_else(|| object.str_at(&["spec", "storageClassName"]))
}
