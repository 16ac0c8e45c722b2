//! ResourceSlices and DeviceClasses.

use crate::cells::Row;
use crate::gated::drop_from_devices;
use crate::value::{each, or};
use fairlead_api::{Map, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct ResourceSlices;

impl Hooks for ResourceSlices {
    fn default(&self, object: &mut Node) {
        each(object.make_at(&["spec"]), "devices", |device| {
            let mappings = device
                .get_mut("nodeAllocatableResourceMappings")
                .and_then(Node::as_map_mut);
            for (_, mapping) in mappings.into_iter().flat_map(Map::iter_mut) {
                or(mapping, "allocationMultiplier", "1");
            }
        });
    }

    fn prepare_create(&self, object: &mut Node, context: &HookContext) {
        drop_from_devices(object, None);
        stamp_taints(object, context);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, context: &HookContext) {
        drop_from_devices(object, Some(old));
        stamp_taints(object, context);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .text(&["spec", "nodeName"])
            .text(&["spec", "driver"])
            .text(&["spec", "pool", "name"])
            .age()
            .done()
    }
}

/// A taint says when it was added; here rather than with the defaults, which know no time.
fn stamp_taints(object: &mut Node, context: &HookContext) {
    let now = context.clock.now().rfc3339();
    each(object.make_at(&["spec"]), "devices", |device| {
        each(device, "taints", |taint| or(taint, "timeAdded", now.as_str()))
    });
}

pub struct DeviceClasses;

impl Hooks for DeviceClasses {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).age().done()
    }
}
