//! What the status of ResourceClaims is checked for: what was allocated, to whom, and what drivers say about it.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/resource/validation/validation.go.
// PERFORMANCE: per-request path

use super::validation::RequestNames;
use crate::resource::rules::{
    self, MAX_CONFIGS, binding_conditions, configuration, items, itself, pool, raw_object, set,
};
use crate::validation::at::At;
use crate::validation::pod::scheduling::node_selector;
use crate::validation::{common, shown, values};
use crate::value::list;
use fairlead_api::name::ip;
use fairlead_api::{FieldError, FieldErrors, Node};
use std::collections::BTreeSet;

const MAX_CONSUMERS: usize = 256;
const MAX_RESULTS: usize = 32;
const MAX_CONDITIONS: usize = 8;
const MAX_IPS: usize = 16;
const INTERFACE_LIMIT: usize = 256;
const HARDWARE_LIMIT: usize = 128;

/// Driver, pool, device and share.
type DeviceId = [String; 4];

pub fn validate(object: &Node, old: &Node, errors: &mut FieldErrors) {
    values::metadata_update(object, old, errors);
    let at = At::root(object);
    let status = at.part("status");
    let devices = object.at(&["spec", "devices"]).unwrap_or(&Node::Null);
    let names = RequestNames::of(devices);
    let uid = |consumer: &Node| consumer.str("uid").to_owned();
    set(
        &status,
        "reservedFor",
        MAX_CONSUMERS,
        uid,
        errors,
        |consumer, errors| {
            for field in ["resource", "name", "uid"] {
                consumer.require(field, errors);
            }
        },
    );
    device_statuses(&status, errors);
    let before = old.get("status").unwrap_or(&Node::Null);
    reservations(&status, object, before, errors);
    let Some(allocation) = status.get("allocation") else {
        return;
    };
    match before.get("allocation").is_some_and(|old| !old.is_null()) {
        true => common::immutable(&status, before, "allocation", "*resource.AllocationResult", errors),
        false => self::allocation(&allocation, &names, errors),
    }
}

fn reservations(status: &At, object: &Node, before: &Node, errors: &mut FieldErrors) {
    const FIELD: &str = "reservedFor";
    if status.len(FIELD) == 0 {
        return;
    }
    if !status.has("allocation") {
        let detail = "may not be specified when `allocated` is not set";
        return status.forbidden(FIELD, detail, errors);
    }
    let known = before.list(FIELD);
    if object.deletion_timestamp().is_some() && status.list(FIELD).iter().any(|consumer| !known.contains(consumer)) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        status.forbidden(FIELD, detail, errors);
    }
}

// === devices ===

fn id(device: &Node) -> DeviceId {
    ["driver", "pool", "device", "shareID"].map(|key| device.str(key).to_owned())
}

fn shown_id(id: &DeviceId) -> String {
    let [driver, pool, device, share] = id.each_ref().map(|part| shown::quote(part));
    format!(r#"{{"Driver":{driver},"Pool":{pool},"Device":{device},"ShareID":{share}}}"#)
}

fn device_statuses(status: &At, errors: &mut FieldErrors) {
    let results = list(status.node, &["allocation", "devices", "results"]);
    let allocated: BTreeSet<DeviceId> = results.iter().map(id).collect();
    for device in status.each("devices") {
        device_status(&device, &allocated, errors);
    }
    let mut seen = BTreeSet::new();
    for device in status.each("devices") {
        let id = id(device.node);
        if seen.contains(&id) {
            errors.push(FieldError::duplicate(&device.path(), Node::Null).showing(shown_id(&id)));
        }
        seen.insert(id);
    }
}

fn device_status(at: &At, allocated: &BTreeSet<DeviceId>, errors: &mut FieldErrors) {
    identity(at, errors);
    rules::share_id(at, errors);
    let id = id(at.node);
    if !allocated.contains(&id) {
        let detail = "must be an allocated device in the claim";
        at.invalid_shown("", shown_id(&id), detail, errors);
    }
    if at.len("conditions") > MAX_CONDITIONS {
        at.too_many("conditions", at.len("conditions"), MAX_CONDITIONS, errors);
    }
    values::conditions(at, "conditions", errors);
    if at.node.get("data").is_some() {
        raw_object(at, "data", false, errors);
    }
    let Some(network) = at.get("networkData") else { return };
    for (field, limit) in [("interfaceName", INTERFACE_LIMIT), ("hardwareAddress", HARDWARE_LIMIT)] {
        if network.str(field).len() > limit {
            network.too_long(field, limit as i64, errors);
        }
    }
    set(&network, "ips", MAX_IPS, itself, errors, |address, errors| {
        let text = address.node.as_str().unwrap_or_default();
        address.complain("", text, ip::is_valid_interface_address(text), errors);
    });
}

fn identity(at: &At, errors: &mut FieldErrors) {
    rules::driver(&at.path_of("driver"), at.str("driver"), errors);
    pool(at, "pool", errors);
    common::dns_label(at, "device", errors);
}

// === allocations ===

fn allocation(at: &At, names: &RequestNames, errors: &mut FieldErrors) {
    let devices = at.part("devices");
    items(&devices, "results", MAX_RESULTS, errors, |result, errors| {
        names.check(result, "request", result.str("request"), errors);
        identity(result, errors);
        binding_conditions(result, errors);
        rules::share_id(result, errors);
    });
    // Of the class and of the claim.
    items(&devices, "config", 2 * MAX_CONFIGS, errors, |config, errors| {
        config.required_one_of("source", &["FromClaim", "FromClass"], errors);
        names.check_list(config, errors);
        configuration(config, false, errors);
    });
    if let Some(selector) = at.get("nodeSelector") {
        node_selector(&selector, false, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn only_allocated_devices_have_a_status() {
        let new = node!({"metadata": {"name": "a", "resourceVersion": "1"}, "status": {
            "devices": [{"driver": "d.example.com", "pool": "p", "device": "x"}], "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}});
        let mut errors = Vec::new();
        let old = node!({"metadata": {"name": "a"}});
        validate(&new, &old, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"status.devices[0]: Invalid value: {"Driver":"d.example.com","Pool":"p","Device":"x","ShareID":""}: must be an allocated device in the claim"#,
                "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
            ]
        );
    }
}
