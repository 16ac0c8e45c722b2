//! CSIStorageCapacities.

use crate::validation::at::At;
use crate::validation::{common, node_labels, values};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::{FieldErrors, FieldPath, Node, name};
use fairlead_resource::{HookContext, Hooks};

pub struct CSIStorageCapacities;

impl Hooks for CSIStorageCapacities {
    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, SelectorLeniency::default(), errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, values::leniency_for(old.get("nodeTopology")), errors);
        values::metadata_update(object, old, errors);
        let at = At::root(object);
        common::immutable(&at, old, "nodeTopology", "*labelSelector", errors);
        common::immutable(&at, old, "storageClassName", "string", errors);
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        let topology = object.get("nodeTopology").unwrap_or(&Node::Null);
        node_labels::selector_warnings(topology, &FieldPath::new("nodeTopology"))
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }
}

/// Source of the rules, their order and wording: kubernetes pkg/apis/storage/validation/validation.go.
fn validate(object: &Node, leniency: SelectorLeniency, errors: &mut FieldErrors) {
    common::object_meta(object, true, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    common::label_selector_with(&at, "nodeTopology", leniency, errors);
    common::dns_subdomain(&at, "storageClassName", errors);
    if at.has("capacity") {
        common::non_negative_quantity(&at, "capacity", errors);
    }
}
