//! What ResourceSlices are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/resource/validation/validation.go.
// PERFORMANCE: per-request path

use super::capacity;
use crate::resource::rules::{self, EFFECTS, binding_conditions, entries, items, named, pool, qualified_name, set};
use crate::validation::at::At;
use crate::validation::pod::scheduling::node_selector;
use crate::validation::{common, resource_names, shown};
use fairlead_api::metadata::complain;
use fairlead_api::{FieldErrors, FieldPath, Map, Node, name};

const MAX_DEVICES: usize = 128;
/// Of devices with taints, counters or lists as attributes.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const MAX_COUNTERS: usize = 32;
const MAX_CONSUMED_SETS: usize = 2;
const MAX_ATTRIBUTES: usize = 32;
const MAX_ATTRIBUTE_VALUES: usize = 48;
const MAX_TAINTS: usize = 16;
const VALUE_LIMIT: usize = 64;
const LABEL_LIMIT: usize = 63;
/// A domain, a slash and an identifier.
const KEY_LIMIT: usize = 63 + 1 + 32;
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
const TRUE_OR_UNSET: &str = "must be either unset or set to true";

pub fn create(object: &Node, errors: &mut FieldErrors) {
    common::object_meta(object, false, name::name_is_dns_subdomain, errors);
    spec(object, None, errors);
}

pub fn update(object: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(object, errors);
    spec(object, Some(old.get("spec").unwrap_or(&Node::Null)), errors);
}

fn spec(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    rules::driver(&spec.path_of("driver"), spec.str("driver"), errors);
    let pool = spec.part("pool");
    self::pool_of(&pool, errors);
    if let Some(old) = old {
        let old_pool = old.get("pool").unwrap_or(&Node::Null);
        common::immutable(&pool, old_pool, "name", "string", errors);
        common::immutable(&spec, old, "driver", "string", errors);
        common::immutable(&spec, old, "nodeName", "*string", errors);
    }
    nodes(&spec, errors);
    if spec.has("sharedCounters") && spec.has("devices") {
        spec.invalid("", "", "only one of `sharedCounters` or `devices` is allowed", errors);
    }
    let advanced = spec.list("devices").iter().any(is_advanced);
    let most = if advanced { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
    let chosen = spec.flag("perDeviceNodeSelection");
    set(&spec, "devices", most, named, errors, |device, errors| {
        let stored = old.map_or(&[][..], |old| old.list("devices"));
        let before = stored.iter().find(|old| old.str("name") == device.str("name"));
        self::device(device, before, chosen, errors);
    });
    set(
        &spec,
        "sharedCounters",
        MAX_COUNTER_SETS,
        named,
        errors,
        |counters, errors| {
            if counters.require("name", errors) {
                common::dns_label(counters, "name", errors);
            }
            self::counters(counters, errors);
        },
    );
}

fn pool_of(at: &At, errors: &mut FieldErrors) {
    pool(at, "name", errors);
    at.positive("resourceSliceCount", errors);
    let generation = at.int("generation");
    if generation < 0 {
        at.invalid(
            "generation",
            generation,
            "must be greater than or equal to zero",
            errors,
        );
    }
}

fn is_advanced(device: &Node) -> bool {
    let attributes = device
        .get("attributes")
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(Map::values);
    !device.list("taints").is_empty()
        || !device.list("consumesCounters").is_empty()
        || attributes
            .into_iter()
            .any(|attribute| LISTS.iter().any(|list| attribute.get(list).is_some()))
}

// === where devices are ===

fn nodes(spec: &At, errors: &mut FieldErrors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut set = Vec::new();
    match spec.text("nodeName") {
        Some("") => spec.invalid(
            "nodeName",
            "",
            "must be either unset or set to a non-empty string",
            errors,
        ),
        Some(_) => {
            set.push("`nodeName`");
            common::dns_subdomain(spec, "nodeName", errors);
        }
        None => {}
    }
    if let Some(selector) = spec.get("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(&selector, false, errors);
        if selector.len("nodeSelectorTerms") != 1 {
            let terms = shown::json("[]core.NodeSelectorTerm", selector.node.get("nodeSelectorTerms"));
            selector.invalid_shown(
                "nodeSelectorTerms",
                terms,
                "must have exactly one node selector term",
                errors,
            );
        }
    }
    for (field, quoted) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        if spec.flag(field) {
            set.push(quoted);
        } else if spec.has(field) {
            spec.invalid(field, false, TRUE_OR_UNSET, errors);
        }
    }
    match set.len() {
        0 => spec.required("", ONE, errors),
        1 => {}
        _ => {
            let detail = format!("{ONE}, but multiple fields are set");
            spec.invalid("", format!("{{{}}}", set.join(", ")), detail, errors);
        }
    }
}

/// Where one device is, when the slice leaves that to devices.
fn own_nodes(at: &At, chosen: bool, errors: &mut FieldErrors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !chosen {
        if ["nodeName", "nodeSelector", "allNodes"]
            .iter()
            .any(|field| at.has(field))
        {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            at.invalid("", Node::Null, detail, errors);
        }
        return;
    }
    let mut set = Vec::new();
    match at.text("nodeName") {
        Some("") => at.invalid("nodeName", "", "must not be empty", errors),
        Some(_) => {
            set.push("`nodeName`");
            common::dns_subdomain(at, "nodeName", errors);
        }
        None => {}
    }
    if let Some(selector) = at.get("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(&selector, false, errors);
    }
    if at.flag("allNodes") {
        set.push("`allNodes`");
    } else if at.has("allNodes") {
        at.invalid("allNodes", false, TRUE_OR_UNSET, errors);
    }
    match set.len() {
        0 => at.required("", ONE, errors),
        1 => {}
        _ => at.invalid("", format!("{{{}}}", set.join(", ")), ONE, errors),
    }
}

// === devices ===

fn device(at: &At, before: Option<&Node>, chosen: bool, errors: &mut FieldErrors) {
    common::dns_label(at, "name", errors);
    let total = at.len("attributes") + at.len("capacity");
    if total > MAX_ATTRIBUTES {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES}");
        at.invalid("", total as i64, detail, errors);
    }
    let values: usize = at
        .entries("attributes")
        .map(|(_, attribute)| values_of(&attribute))
        .sum();
    if values > MAX_ATTRIBUTE_VALUES {
        let detail = format!("the total number of attribute values must not exceed {MAX_ATTRIBUTE_VALUES}");
        at.invalid("", values as i64, detail, errors);
    }
    entries(at, "attributes", KEY_LIMIT, errors, qualified_name, attribute);
    let shared = at.flag("allowMultipleAllocations");
    entries(at, "capacity", KEY_LIMIT, errors, qualified_name, |capacity, errors| {
        capacity::validate(capacity, shared, errors);
    });
    let taints = |device: &Node| device.get("taints").cloned();
    if before
        .is_none_or(|before| !shown::equal("[]resource.DeviceTaint", taints(before).as_ref(), at.node.get("taints")))
    {
        items(at, "taints", MAX_TAINTS, errors, taint);
    }
    let key = |consumed: &Node| consumed.str("counterSet").to_owned();
    set(
        at,
        "consumesCounters",
        MAX_CONSUMED_SETS,
        key,
        errors,
        |consumed, errors| {
            if consumed.require("counterSet", errors) {
                common::dns_label(consumed, "counterSet", errors);
            }
            counters(consumed, errors);
        },
    );
    own_nodes(at, chosen, errors);
    binding_conditions(at, errors);
    node_resources(at, errors);
}

fn values_of(attribute: &At) -> usize {
    let listed: usize = LISTS.iter().map(|list| attribute.len(list)).sum();
    listed.max(1)
}

fn taint(at: &At, errors: &mut FieldErrors) {
    common::qualified_name(at, "key", errors);
    let value = at.str("value");
    if !value.is_empty() {
        at.complain("value", value, name::is_valid_label_value(value), errors);
    }
    at.required_one_of("effect", EFFECTS, errors);
}

fn counters(at: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "counters";
    let label = |path: &FieldPath, name: &str, errors: &mut FieldErrors| {
        complain(errors, path, name, name::is_dns1123_label(name));
    };
    match at.len(FIELD) {
        0 => at.required(FIELD, "", errors),
        count if count > MAX_COUNTERS => at.too_many(FIELD, count, MAX_COUNTERS, errors),
        _ => entries(at, FIELD, LABEL_LIMIT, errors, label, |_, _| {}),
    }
}

/// What of a node's resources a device stands for.
fn node_resources(at: &At, errors: &mut FieldErrors) {
    for (resource, mapping) in at.entries("nodeAllocatableResourceMappings") {
        if !resource_names::is_native(resource) {
            mapping.invalid("", resource, "must be a node allocatable resource name", errors);
        }
        if !mapping.has("allocationMultiplier") && !mapping.has("capacityKey") {
            let detail = "at least one of allocationMultiplier or capacityKey must be set";
            mapping.invalid("", "", detail, errors);
            continue;
        }
        let multiplier = common::quantity(mapping.node.get("allocationMultiplier"));
        if mapping.has("allocationMultiplier") && multiplier.sign() <= 0 {
            mapping.invalid(
                "allocationMultiplier",
                multiplier.canonical(),
                "must be positive",
                errors,
            );
        }
        match mapping.text("capacityKey") {
            Some("") => mapping.invalid("capacityKey", "", "capacityKey must not be an empty string", errors),
            Some(key) if at.node.at(&["capacity", key]).is_none() => mapping.not_found("capacityKey", key, errors),
            _ => {}
        }
    }
}

// === attributes ===

fn attribute(at: &At, errors: &mut FieldErrors) {
    let mut found = ["bool", "int"].iter().filter(|field| at.has(field)).count();
    if let Some(text) = at.text("string") {
        found += 1;
        string(at, "string", text, errors);
    }
    if let Some(text) = at.text("version") {
        found += 1;
        version(at, "version", text, errors);
    }
    for field in LISTS.into_iter().filter(|field| at.has(field)) {
        found += 1;
        if at.len(field) == 0 {
            let value = at.node.get(field).cloned().unwrap_or_default();
            at.invalid(field, value, "must not be empty if specified", errors);
        }
        for item in at.each(field) {
            let text = item.node.as_str().unwrap_or_default();
            match field {
                "strings" => string(&item, "", text, errors),
                "versions" => version(&item, "", text, errors),
                _ => {}
            }
        }
    }
    match found {
        0 => at.invalid("", "", "exactly one value must be specified", errors),
        1 => {}
        _ => {
            let shown = shown::json("resource.DeviceAttribute", Some(at.node));
            at.invalid_shown("", shown, "exactly one value must be specified", errors);
        }
    }
}

fn string(at: &At, field: &str, text: &str, errors: &mut FieldErrors) {
    if text.len() > VALUE_LIMIT {
        at.too_long(field, VALUE_LIMIT as i64, errors);
    }
}

fn version(at: &At, field: &str, text: &str, errors: &mut FieldErrors) {
    if !is_semantic_version(text) {
        let detail = "must be a string compatible with semver.org spec 2.0.0";
        at.invalid(field, text, detail, errors);
    }
    string(at, field, text, errors);
}

fn is_semantic_version(text: &str) -> bool {
    let number = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (rest, build) = match text.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (text, None),
    };
    let (core, release) = match rest.split_once('-') {
        Some((core, release)) => (core, Some(release)),
        None => (rest, None),
    };
    let released = |part: &str| number(part) || (word(part) && !part.bytes().all(|b| b.is_ascii_digit()));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|release| release.split('.').all(released))
        && build.is_none_or(|build| build.split('.').all(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn versions_are_semantic() {
        for good in ["1.2.3", "0.0.0", "1.2.3-alpha.1", "1.2.3-0a+build.01", "1.2.3+x-y"] {
            assert!(is_semantic_version(good), "{good}");
        }
        for bad in [
            "",
            "1.2",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3+",
            "1.2.3-a..b",
            "v1.2.3",
        ] {
            assert!(!is_semantic_version(bad), "{bad}");
        }
    }

    #[test]
    fn a_slice_is_somewhere() {
        let object = node!({"metadata": {"name": "a"}, "spec": {
            "driver": "d.example.com", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n", "allNodes": true}});
        let mut errors = Vec::new();
        create(&object, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"#
            ]
        );
    }
}
