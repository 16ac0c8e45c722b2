//! CSINodes.

use crate::cells::Row;
use crate::validation::at::At;
use crate::validation::volume_sources::csi_driver_name;
use crate::validation::{common, shown};
use crate::value::list;
use fairlead_api::name;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};
use std::collections::BTreeSet;

pub struct CSINodes;

impl Hooks for CSINodes {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
        changes(object, old, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).count(&["spec", "drivers"]).age().done()
    }
}

const NODE_ID_LIMIT: usize = 256;
const DRIVER: &str = "storage.CSINodeDriver";

/// Source of the rules, their order and wording: kubernetes pkg/apis/storage/validation/validation.go.
fn validate(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let mut names = BTreeSet::new();
    for driver in at.part("spec").each("drivers") {
        csi_driver_name(&driver, "name", errors);
        let id = driver.str("nodeID");
        driver.require("nodeID", errors);
        if id.len() > NODE_ID_LIMIT {
            driver.invalid(
                "nodeID",
                id,
                format!("must be {NODE_ID_LIMIT} characters or less"),
                errors,
            );
        }
        driver.part("allocatable").non_negative("count", errors);
        let name = driver.str("name");
        if !names.insert(name) {
            driver.duplicate("name", name, errors);
        }
        topology_keys(&driver, errors);
    }
}

fn topology_keys(driver: &At, errors: &mut FieldErrors) {
    let mut keys = BTreeSet::new();
    for (_, key) in driver.strings("topologyKeys") {
        if key.is_empty() {
            driver.required("", "", errors);
        }
        if !keys.insert(key) {
            driver.duplicate("", key, errors);
        }
        driver.complain("", key, name::is_qualified_name(key), errors);
    }
}

/// A driver keeps everything but how many volumes it takes.
fn changes(object: &Node, old: &Node, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    for before in list(old, &["spec", "drivers"]) {
        for driver in spec
            .list("drivers")
            .iter()
            .filter(|driver| driver.str("name") == before.str("name"))
        {
            let (mut now, mut before) = (driver.clone(), before.clone());
            now.remove("allocatable");
            before.remove("allocatable");
            if !shown::equal(DRIVER, Some(&now), Some(&before)) {
                let shown = shown::json(DRIVER, Some(&now));
                spec.invalid_shown("drivers", shown, common::IMMUTABLE, errors);
            }
        }
    }
}
