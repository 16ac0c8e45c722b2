//! VolumeAttachments.

use crate::cells::Row;
use crate::pod_spec::{default_rbd, default_scale_io, round_quantities};
use crate::value::{keep_metadata, or, with};
use fairlead_api::Node;
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
