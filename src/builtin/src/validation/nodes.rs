//! Nodes.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.

use super::at::At;
use super::pod::scheduling::taint_effect;
use super::resource_names::resource_quantity;
use super::{common, shown};
use fairlead_api::name::ip::{is_valid_cidr_for_legacy_field, parse_cidr_sloppy};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};
use std::collections::HashSet;

const TAINTS_ANNOTATION: &str = "scheduler.alpha.kubernetes.io/taints";
const RANGES_FIXED: &str = "node updates may not change podCIDR except from \"\" to valid";

pub fn validate_create(node: &Node, errors: &mut FieldErrors) {
    validate(node, errors);
}

pub fn validate_update(node: &Node, old: &Node, errors: &mut FieldErrors) {
    validate(node, errors);
    validate_change(node, old, errors);
}

pub fn validate_status(node: &Node, old: &Node, errors: &mut FieldErrors) {
    validate_change(node, old, errors);
}

fn validate(node: &Node, errors: &mut FieldErrors) {
    common::object_meta(node, false, name::name_is_dns_subdomain, errors);
    annotations(node, errors);
    taints(node, errors);
    resources(node, errors);
    if let Some(capacity) = crate::value::map(node, &["status", "nodeInfo", "swap"]).and_then(|s| s.get("capacity")) {
        let value = capacity.as_i64().unwrap_or_default();
        if value <= 0 {
            // COMPAT: reported as if it were metadata.
            let path = FieldPath::new("metadata.nodeSwapStatus.capacity");
            errors.push(FieldError::invalid(&path, value, common::NOT_POSITIVE));
        }
    }
    declared_features(node, errors);
    pod_ranges(node, errors);
}

fn validate_change(node: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(node, errors);
    annotations(node, errors);
    resources(node, errors);
    declared_features(node, errors);
    let root = At::root(node);
    let (spec, status) = (root.part("spec"), root.part("status"));
    let mut seen = HashSet::new();
    for address in status.each("addresses") {
        if !seen.insert((
            address.node.str("type").to_owned(),
            address.node.str("address").to_owned(),
        )) {
            let text = shown::json("core.NodeAddress", Some(address.node));
            errors.push(FieldError::duplicate(&address.path(), Node::Null).showing(text));
        }
    }
    let (ranges, old_ranges) = (spec.list("podCIDRs"), crate::value::list(old, &["spec", "podCIDRs"]));
    if !old_ranges.is_empty() {
        let changes = match ranges.len() == old_ranges.len() {
            true => ranges.iter().zip(old_ranges).filter(|(new, old)| new != old).count(),
            false => 1,
        };
        (0..changes).for_each(|_| spec.forbidden("podCIDRs", RANGES_FIXED, errors));
    }
    let provider = old.str_at(&["spec", "providerID"]);
    if !provider.is_empty() && provider != spec.str("providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        spec.forbidden("providerID", detail, errors);
    }
    configuration(&spec, &status, errors);
    taints(node, errors);
    if spec.str("externalID") != old.str_at(&["spec", "externalID"]) {
        spec.forbidden("externalID", "may not be updated", errors);
    }
}

fn annotations(node: &Node, errors: &mut FieldErrors) {
    let text = node
        .annotations()
        .and_then(|all| all.get(TAINTS_ANNOTATION))
        .and_then(Node::as_str);
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return;
    };
    let path = FieldPath::new("metadata.annotations");
    match fairlead_api::json::parse(text.as_bytes()) {
        Ok(list @ Node::List(_)) => {
            let mut holder = Node::map();
            holder.set(TAINTS_ANNOTATION, list);
            taint_list(&At::named(&holder, path.as_str()), TAINTS_ANNOTATION, errors);
        }
        Ok(_) => {
            let detail = "json: cannot unmarshal object into Go value of type []core.Taint";
            errors.push(FieldError::invalid(&path, TAINTS_ANNOTATION, detail));
        }
        Err(error) => errors.push(FieldError::invalid(&path, TAINTS_ANNOTATION, error.to_string())),
    }
}

/// COMPAT: taints are reported as if they were metadata.
fn taints(node: &Node, errors: &mut FieldErrors) {
    if let Some(spec) = node.get("spec") {
        taint_list(&At::named(spec, "metadata"), "taints", errors);
    }
}

fn taint_list(at: &At, list: &str, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for taint in at.each(list) {
        let (key, value, effect) = (taint.node.str("key"), taint.str("value"), taint.node.str("effect"));
        common::qualified_name(&taint, "key", errors);
        let complaints = name::is_valid_label_value(value);
        if !complaints.is_empty() {
            taint.invalid("value", value, complaints.join(";"), errors);
        }
        taint_effect(&taint, errors);
        if !seen.insert((key.to_owned(), effect.to_owned())) {
            let mut error = FieldError::duplicate(&taint.path(), Node::Null);
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error.showing(shown::json("core.Taint", Some(taint.node))));
        }
    }
}

/// COMPAT: resources are reported as if they were fields.
fn resources(node: &Node, errors: &mut FieldErrors) {
    for list in ["capacity", "allocatable"] {
        let amounts = crate::value::map(node, &["status", list]);
        for (resource, amount) in amounts.into_iter().flat_map(fairlead_api::Map::iter) {
            let path = FieldPath::new("status").child(list).child(resource);
            resource_quantity(&At::named(amount, path.as_str()), resource, errors);
        }
    }
}

fn declared_features(node: &Node, errors: &mut FieldErrors) {
    let root = At::root(node);
    let status = root.part("status");
    let names: Vec<&str> = status.strings("declaredFeatures").map(|(_, name)| name).collect();
    for (i, feature) in names.iter().enumerate() {
        let path = |i: usize| status.path_of("declaredFeatures").index(i);
        if let Some(why) = feature_name(feature) {
            errors.push(FieldError::invalid(&path(i), *feature, why));
        }
        match names.get(i + 1) {
            Some(next) if next == feature => errors.push(FieldError::duplicate(&path(i + 1), *next)),
            Some(next) if next < feature => {
                let detail = "list must be sorted alphabetically";
                errors.push(FieldError::invalid(&path(i + 1), *next, detail));
            }
            _ => {}
        }
    }
}

fn feature_name(text: &str) -> Option<String> {
    let quoted = fairlead_api::field::go_quote(text);
    if text.len() > 253 {
        return Some(format!(
            "invalid feature name {quoted}: must be no more than 253 characters"
        ));
    }
    let segment = |segment: &str| {
        segment.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && segment.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let valid = text.bytes().next().is_some_and(|b| b.is_ascii_uppercase()) && text.split('/').all(segment);
    (!valid).then(|| {
        format!(
            "invalid feature name {quoted}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
        )
    })
}

fn pod_ranges(node: &Node, errors: &mut FieldErrors) {
    let root = At::root(node);
    let spec = root.part("spec");
    for range in spec.each("podCIDRs") {
        let text = range.node.as_str().unwrap_or_default();
        range.complain("", text, is_valid_cidr_for_legacy_field(text), errors);
    }
    let count = spec.len("podCIDRs");
    if count < 2 {
        return;
    }
    let parsed: Vec<_> = spec
        .strings("podCIDRs")
        .map(|(_, text)| (text, parse_cidr_sloppy(text)))
        .collect();
    let broken = parsed.iter().position(|(_, cidr)| cidr.is_none());
    if let Some(i) = broken {
        let why = format!("invalid CIDR[{i}]: <nil> (invalid CIDR address: {})", parsed[i].0);
        let detail = format!("invalid PodCIDRs. failed to check with dual stack with error:{why}");
        errors.push(FieldError::internal(&spec.path_of("podCIDRs"), detail));
    }
    let has = |v4: bool| {
        parsed
            .iter()
            .any(|(_, cidr)| cidr.is_some_and(|cidr| cidr.address.is_ipv4() == v4))
    };
    let dual = broken.is_none() && has(true) && has(false);
    if !dual || count > 2 {
        let detail = "may specify no more than one CIDR for each IP family";
        spec.invalid("podCIDRs", spec.list("podCIDRs").to_vec(), detail, errors);
    }
}

// === where kubelets once took their configuration from ===

fn configuration(spec: &At, status: &At, errors: &mut FieldErrors) {
    if let Some(source) = spec.get("configSource") {
        config_source(&source, Place::Spec, errors);
    }
    if let Some(config) = status.get("config") {
        for field in ["assigned", "active", "lastKnownGood"] {
            if let Some(source) = config.get(field) {
                config_source(&source, Place::Status, errors);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Spec,
    Status,
}

fn config_source(source: &At, place: Place, errors: &mut FieldErrors) {
    let Some(map) = source.get("configMap") else {
        let text = shown::json("core.NodeConfigSource", Some(source.node));
        let detail = "exactly one reference subfield must be non-nil";
        return source.invalid_shown("", text, detail, errors);
    };
    for field in ["uid", "resourceVersion"] {
        match place {
            Place::Spec if !map.str(field).is_empty() => {
                map.forbidden(field, format!("{field} must not be set in spec"), errors);
            }
            Place::Spec => {}
            Place::Status => {
                map.require(field, errors);
            }
        }
    }
    if map.require("namespace", errors) {
        common::dns_label(&map, "namespace", errors);
    }
    if map.require("name", errors) {
        common::dns_subdomain(&map, "name", errors);
    }
    if map.require("kubeletConfigKey", errors) {
        let key = map.str("kubeletConfigKey");
        map.complain("kubeletConfigKey", key, name::is_config_map_key(key), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_named_in_camel_case() {
        for good in ["MyFeature", "MyFeature/sub", "A"] {
            assert_eq!(feature_name(good), None, "{good}");
        }
        for bad in ["", "my", "My-Feature", "My//x", "My/"] {
            assert!(feature_name(bad).is_some(), "{bad}");
        }
    }
}
