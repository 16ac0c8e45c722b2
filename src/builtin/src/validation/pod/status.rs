//! A pod's status, as nodes report it.

use super::super::at::At;
use super::super::resource_names::is_native;
use super::super::{common, shown};
use super::{Leniency, annotations};
use fairlead_api::{FieldErrors, Node, name};
use std::collections::HashSet;

const LISTS: [&str; 3] = [
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];
const NOT_NEGATIVE: &str = "must be a non-negative integer";

pub fn validate_status(new: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    annotations::validate_update(new, old, errors);
    let (root, old_root) = (At::root(new), At::root(old));
    let (spec, old_spec) = (root.part("spec"), old_root.part("spec"));
    annotations::validate(new, &spec, &Leniency::of_pod(old), errors);
    let (status, old_status) = (root.part("status"), old_root.part("status"));
    conditions(&status, errors);
    if spec.str("nodeName") != old_spec.str("nodeName") {
        status.forbidden("nodeName", "may not be changed directly", errors);
    }
    nominated_node(&status, old_status.node, old_spec.str("nodeName"), errors);
    if status.int("observedGeneration") < 0 {
        let generation = status.int("observedGeneration");
        status.invalid("observedGeneration", generation, NOT_NEGATIVE, errors);
    }
    common::immutable(&status, old_status.node, "qosClass", "string", errors);
    transitions(&status, old_status.node, &old_spec, errors);
    claim_statuses(&status, spec.list("resourceClaims"), errors);
    extended_claim(&status, &spec, errors);
    allocatable_claims(&status, &spec, errors);
    addresses(&status, old_status.node, "podIPs", errors);
    host_addresses(&status, old_status.node, errors);
    for list in LISTS {
        users(&status, list, spec.node, errors);
    }
    allocated(&status, "containerStatuses", spec.list("containers"), errors);
    allocated(&status, "initContainerStatuses", spec.list("initContainers"), errors);
    for container in status.each("ephemeralContainerStatuses") {
        if container.len("allocatedResourcesStatus") > 0 {
            let detail = "must not be specified in container status";
            container.forbidden("allocatedResourcesStatus", detail, errors);
        }
    }
}

fn conditions(status: &At, errors: &mut FieldErrors) {
    for condition in status.each("conditions") {
        let generation = condition.int("observedGeneration");
        if generation < 0 {
            condition.invalid("observedGeneration", generation, NOT_NEGATIVE, errors);
        }
        let kind = condition.str("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            condition.complain("Type", kind, name::is_qualified_name(kind), errors);
        }
    }
}

fn nominated_node(status: &At, old: &Node, bound_to: &str, errors: &mut FieldErrors) {
    let node = status.str("nominatedNodeName");
    if node.is_empty() || node == old.str("nominatedNodeName") {
        return;
    }
    common::dns_subdomain(status, "nominatedNodeName", errors);
    if !bound_to.is_empty() {
        let detail = "may not be set on pods that are already bound to a node";
        status.forbidden("nominatedNodeName", detail, errors);
    }
}

// === what is terminated stays so, unless it may restart ===

fn transitions(status: &At, old: &Node, spec: &At, errors: &mut FieldErrors) {
    let terminated = |status: &Node| status.at(&["state", "terminated"]).filter(|t| !t.is_null()).cloned();
    let all_restart = super::each_container(spec).any(|container| {
        let mut rules = container.list("restartPolicyRules").iter();
        rules.any(|rule| rule.str("action") == "RestartAllContainers")
    });
    for (list, containers) in LISTS.into_iter().zip(["containers", "initContainers", ""]) {
        if all_restart && !containers.is_empty() {
            continue;
        }
        let path = status.path_of(list);
        for (i, before) in old.list(list).iter().enumerate() {
            let Some(exit) = terminated(before) else { continue };
            let name = before.str("name");
            let mut now = status.list(list).iter().filter(|now| now.str("name") == name);
            let revived = match containers {
                "" => now.filter(|now| terminated(now).is_none()).count(),
                _ => usize::from(now.any(|now| terminated(now).is_none())),
            };
            let container = spec
                .list(containers)
                .iter()
                .find(|container| container.str("name") == name);
            let code = exit.get("exitCode").and_then(Node::as_i64).unwrap_or_default();
            if container.is_some_and(|container| restarts(container, spec.str("restartPolicy"), code)) {
                continue;
            }
            for _ in 0..revived {
                errors.push(fairlead_api::FieldError::forbidden(
                    &path.index(i).child("state"),
                    "may not be transitioned to non-terminated state",
                ));
            }
        }
    }
}

/// By its own rules first, then its own policy, then the pod's.
fn restarts(container: &Node, pod_policy: &str, code: i64) -> bool {
    for rule in container.list("restartPolicyRules") {
        let Some(codes) = rule.get("exitCodes") else { continue };
        let listed = codes.list("values").iter().any(|value| value.as_i64() == Some(code));
        let matches = if codes.str("operator") == "NotIn" {
            !listed
        } else {
            listed
        };
        if matches && rule.str("action") == "Restart" {
            return true;
        }
    }
    let policy = match container.str("restartPolicy") {
        "" => pod_policy,
        own => own,
    };
    match policy {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

// === claims ===

fn claim_statuses(status: &At, claims: &[Node], errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for entry in status.each("resourceClaimStatuses") {
        let name = entry.str("name");
        if !claims.iter().any(|claim| claim.str("name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            entry.invalid("name", name, detail, errors);
        }
        if !seen.insert(name) {
            entry.duplicate("name", name, errors);
        }
        if entry.has("resourceClaimName") {
            common::dns_subdomain(&entry, "resourceClaimName", errors);
        }
    }
}

fn extended_claim(status: &At, spec: &At, errors: &mut FieldErrors) {
    let Some(claim) = status.get("extendedResourceClaimStatus") else {
        return;
    };
    if claim.len("requestMappings") == 0 {
        claim.required("requestMappings", "at least one request mapping is required", errors);
    }
    let mut seen = HashSet::new();
    for mapping in claim.each("requestMappings") {
        let (container, resource) = (mapping.str("containerName"), mapping.str("resourceName"));
        let request = mapping.str("requestName");
        let lists = spec.list("containers").iter().chain(spec.list("initContainers"));
        match lists.into_iter().find(|candidate| candidate.str("name") == container) {
            None => {
                let detail = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                mapping.invalid("containerName", container, detail, errors);
            }
            Some(found) if found.at(&["resources", "requests", resource]).is_none() => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                mapping.invalid("resourceName", resource, detail, errors);
            }
            Some(_) => {}
        }
        // COMPAT: reported at the claim, without the mapping.
        claim.complain("requestName", request, name::is_dns1123_label(request), errors);
        if !seen.insert((container, resource, request)) {
            for (field, value) in [
                ("containerName", container),
                ("resourceName", resource),
                ("requestName", request),
            ] {
                mapping.duplicate(field, value, errors);
            }
        }
    }
    if claim.require("resourceClaimName", errors) {
        common::dns_subdomain(&claim, "resourceClaimName", errors);
    }
}

fn allocatable_claims(status: &At, spec: &At, errors: &mut FieldErrors) {
    for entry in status.each("nodeAllocatableResourceClaimStatuses") {
        let name = entry.str("resourceClaimName");
        if name.is_empty() {
            entry.required("resourceClaimName", "must not be empty", errors);
        }
        let mut references = spec
            .list("resourceClaims")
            .iter()
            .chain(status.list("resourceClaimStatuses"));
        if !references.any(|claim| claim.get("resourceClaimName").and_then(Node::as_str) == Some(name)) {
            entry.invalid("resourceClaimName", name, "no mapping found in pod reference", errors);
        }
        for list in ["containers", "resources"] {
            if entry.len(list) == 0 {
                entry.required(list, "must not be empty", errors);
            }
        }
        for (resource, amount) in entry.entries("resources") {
            if !is_native(resource) {
                amount.invalid("", resource, "must be a node allocatable resource name", errors);
            }
            let value = common::quantity(Some(amount.node));
            if value.sign() < 0 {
                amount.invalid("", value.canonical(), "must be non-negative", errors);
            }
        }
    }
}

// === addresses, users, devices ===

fn addresses(status: &At, old: &Node, list: &str, errors: &mut FieldErrors) {
    let known: HashSet<&str> = old.list(list).iter().map(|entry| entry.str("ip")).collect();
    let mut families = Vec::new();
    let path = status.path_of(list);
    for (i, entry) in status.list(list).iter().enumerate() {
        let address = entry.str("ip");
        if !known.contains(address) {
            let complaints = name::ip::is_valid_ip_for_legacy_field(address);
            fairlead_api::metadata::complain(errors, &path.index(i), address, complaints);
        }
        families.push(name::ip::parse_sloppy(address).map(|ip| ip.is_ipv4()));
    }
    if families.len() < 2 {
        return;
    }
    let dual = families.contains(&Some(true)) && families.contains(&Some(false));
    if let Some(i) = families.iter().position(Option::is_none) {
        let address = status.list(list)[i].str("ip");
        let detail = format!("failed to check for dual stack with error:invalid ip address: {address}");
        errors.push(fairlead_api::FieldError::internal(&path, detail));
    }
    if !dual || families.len() > 2 || families.contains(&None) {
        let kind = if list == "podIPs" {
            "[]core.PodIP"
        } else {
            "[]core.HostIP"
        };
        let text = shown::json(kind, status.node.get(list));
        let detail = "may specify no more than one IP for each IP family";
        status.invalid_shown(list, text, detail, errors);
    }
}

fn host_addresses(status: &At, old: &Node, errors: &mut FieldErrors) {
    let Some(first) = status.each("hostIPs").next() else {
        return;
    };
    if status.str("hostIP") != first.str("ip") {
        first.invalid("ip", first.str("ip"), "must be equal to `hostIP`", errors);
    }
    addresses(status, old, "hostIPs", errors);
}

fn users(status: &At, list: &str, spec: &Node, errors: &mut FieldErrors) {
    let windows = spec.str_at(&["os", "name"]) == "windows";
    for container in status.each(list) {
        let Some(user) = container.get("user") else { continue };
        let Some(linux) = user.get("linux") else { continue };
        if windows {
            linux.forbidden("", "cannot be set for a windows pod", errors);
            continue;
        }
        for field in ["uid", "gid"] {
            let id = linux.int(field);
            for complaint in name::is_valid_user_id(id) {
                linux.invalid(field, id, complaint, errors);
            }
        }
        for group in linux.each("supplementalGroups") {
            let id = group.node.as_i64().unwrap_or_default();
            for complaint in name::is_valid_group_id(id) {
                group.invalid("", id, complaint, errors);
            }
        }
    }
}

fn allocated(status: &At, list: &str, containers: &[Node], errors: &mut FieldErrors) {
    for container in status.each(list) {
        let spec = containers.iter().find(|spec| spec.str("name") == container.str("name"));
        for resource in container.each("allocatedResourcesStatus") {
            if let Some(spec) = spec {
                known_resource(&resource, spec, errors);
            }
            devices(&resource, errors);
        }
    }
}

fn known_resource(resource: &At, spec: &Node, errors: &mut FieldErrors) {
    let name = resource.str("name");
    let (found, detail) = match name.strip_prefix("claim:") {
        Some(claim) => {
            let mut claims = crate::value::list(spec, &["resources", "claims"]).iter();
            let found = claims.any(|known| match known.str("request") {
                "" => known.str("name") == claim,
                request => claim.split_once('/') == Some((known.str("name"), request)),
            });
            let detail = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
            (found, detail)
        }
        None => {
            let found = spec.at(&["resources", "requests", name]).is_some();
            (found, "must match one of the container's resource requests")
        }
    };
    if !found {
        resource.invalid("name", name, detail, errors);
    }
}

fn devices(resource: &At, errors: &mut FieldErrors) {
    const MESSAGE_LIMIT: usize = 1024;
    let mut seen = HashSet::new();
    for device in resource.each("resources") {
        device.one_of("health", &["Healthy", "Unhealthy", "Unknown"], errors);
        match device.text("message") {
            Some("") => device.required("message", "must be non-empty if specified", errors),
            Some(message) if message.len() > MESSAGE_LIMIT => {
                device.too_long("message", MESSAGE_LIMIT as i64, errors);
            }
            _ => {}
        }
        let id = device.str("resourceID");
        if !seen.insert(id) {
            device.duplicate("resourceID", id, errors);
        }
    }
}
