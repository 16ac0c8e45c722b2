//! ResourceSlices and DeviceClasses.

mod capacity;
mod validation;

use super::rules;
use crate::cells::Row;
use crate::gated::drop_from_devices;
use crate::validation::at::At;
use crate::validation::{common, resource_names, shown, values};
use crate::value::{each, or};
use fairlead_api::{FieldErrors, Map, Node, name};
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

    fn unsupported_field(&self, field: &str) -> Option<String> {
        Some(format!(
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {field}"
        ))
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, errors);
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        let driver = object.str_at(&["spec", "driver"]);
        match driver == driver.to_lowercase() {
            true => Vec::new(),
            false => vec![format!(
                "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
            )],
        }
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

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        class(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        class(object, Some(old), errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).age().done()
    }
}

/// Source of the rules, their order and wording: kubernetes pkg/apis/resource/validation/validation.go.
fn class(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    // Names that will be generated are not looked at before.
    let name = |name: &str, prefix: bool| {
        if prefix {
            Vec::new()
        } else {
            name::is_dns1123_subdomain(name)
        }
    };
    common::object_meta(object, false, name, errors);
    if let Some(old) = old {
        values::metadata_update(object, old, errors);
    }
    let at = At::root(object);
    let spec = at.part("spec");
    let same = |field: &str, kind: &str| {
        old.is_some_and(|old| shown::equal(kind, old.at(&["spec", field]), spec.node.get(field)))
    };
    rules::selectors(&spec, same("selectors", "[]resource.DeviceSelector"), errors);
    let stored = same("config", "[]resource.DeviceClassConfiguration");
    rules::items(&spec, "config", rules::MAX_CONFIGS, errors, |config, errors| {
        rules::configuration(config, stored, errors);
    });
    if let Some(resource) = spec
        .text("extendedResourceName")
        .filter(|name| !resource_names::is_extended(name))
    {
        let detail = "must be a valid extended resource name";
        spec.invalid("extendedResourceName", resource, detail, errors);
    }
}
