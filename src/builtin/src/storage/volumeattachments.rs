//! VolumeAttachments.

use crate::cells::Row;
use crate::pod_spec::{default_rbd, default_scale_io, round_quantities};
use crate::validation::at::At;
use crate::validation::common;
use crate::validation::persistent_volumes::{self, Place};
use crate::validation::volume_sources::csi_driver_name;
use crate::value::{keep_metadata, or, with};
use fairlead_api::name;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct VolumeAttachments;

impl Hooks for VolumeAttachments {
    fn default(&self, object: &mut Node) {
        with(object, &["spec", "source", "inlineVolumeSpec"], |spec| {
            with(spec, &["capacity"], round_quantities);
            with(spec, &["hostPath"], |source| or(source, "type", ""));
            with(spec, &["rbd"], default_rbd);
            with(spec, &["scaleIO"], default_scale_io);
            with(spec, &["iscsi"], |source| or(source, "iscsiInterface", "default"));
        });
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        keep_metadata(object, old);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            _ => &[&["status"]],
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        change(object, old, errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        change(object, old, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .text(&["spec", "attacher"])
            .text(&["spec", "source", "persistentVolumeName"])
            .text(&["spec", "nodeName"])
            .flag(&["status", "attached"])
            .age()
            .done()
    }
}

const METADATA_LIMIT: usize = 256 * 1024;
const MESSAGE_LIMIT: usize = 1024;

/// Source of the rules, their order and wording: kubernetes pkg/apis/storage/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    csi_driver_name(&spec, "attacher", errors);
    let source = spec.part("source");
    self::source(&source, errors);
    common::dns_subdomain(&spec, "nodeName", errors);
    let status = at.part("status");
    let size: usize = status
        .entries("attachmentMetadata")
        .map(|(key, value)| key.len() + value.node.as_str().unwrap_or_default().len())
        .sum();
    if size > METADATA_LIMIT {
        status.too_long("attachmentMetadata", METADATA_LIMIT as i64, errors);
    }
    for field in ["attachError", "detachError"] {
        if let Some(error) = status.get(field) {
            self::volume_error(&error, errors);
        }
    }
    if source.has("persistentVolumeName") {
        common::dns_subdomain(&source, "persistentVolumeName", errors);
    }
}

fn source(at: &At, errors: &mut FieldErrors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (at.get("inlineVolumeSpec"), at.text("persistentVolumeName")) {
        (None, None) => at.required("", ONE, errors),
        (Some(_), Some(_)) => at.forbidden("", ONE, errors),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            at.required("persistentVolumeName", detail, errors);
        }
        (None, Some(_)) => {}
        (Some(volume), None) => persistent_volumes::spec(&volume, "", Place::Inline, false, errors),
    }
}

fn volume_error(at: &At, errors: &mut FieldErrors) {
    if at.str("message").len() > MESSAGE_LIMIT {
        // COMPAT: the limit that is told is not the one that is checked.
        at.too_long("message", METADATA_LIMIT as i64, errors);
    }
    let code = at.int("errorCode");
    if code < 0 {
        let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
        at.invalid("errorCode", code, detail, errors);
    }
}

fn change(object: &Node, old: &Node, errors: &mut FieldErrors) {
    validate(object, errors);
    common::immutable(&At::root(object), old, "spec", "storage.VolumeAttachmentSpec", errors);
}
