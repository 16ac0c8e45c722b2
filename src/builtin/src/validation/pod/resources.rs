//! Resources of containers and pods: limits, requests, claims.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::common::{self, quantity};
use super::super::resource_names::{
    allows_overcommit, container_resource_name, is_huge_pages, is_whole_pages, pod_resource_name, resource_quantity,
};
use super::super::shown;
use super::Leniency;
use super::spec::Pod;
use crate::resources::aggregate;
use fairlead_api::quantity::Quantity;
use fairlead_api::{FieldErrors, Node};
use std::collections::{BTreeSet, HashSet};

type NameRule = fn(&At, &str, &mut FieldErrors);

pub fn of_container(container: &At, pod: &Pod, errors: &mut FieldErrors) {
    if let Some(resources) = container.get("resources") {
        requirements(&resources, container_resource_name, pod.leniency, errors);
        claim_names(&resources, &pod.claims, errors);
    }
}

/// Resources of the pod as a whole.
pub fn pod_level(spec: &At, pod: &Pod, errors: &mut FieldErrors) {
    let Some(resources) = spec.get("resources") else { return };
    if pod.os == Some("windows") {
        resources.forbidden("", "may not be set for a windows pod", errors);
        return;
    }
    if resources.has("claims") {
        let detail = "claims may not be set for Resources at pod-level";
        resources.forbidden("claims", detail, errors);
    }
    requirements(&resources, pod_resource_name, pod.leniency, errors);
    claim_names(&resources, &pod.claims, errors);
    enough_for_containers(spec, &resources, errors);
}

/// What a runtime adds to a pod: a list of limits.
pub fn overhead(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let Some(overhead) = spec.node.get("overhead").filter(|node| !node.is_null()) else {
        return;
    };
    let limits = fairlead_api::node::Map::from_entries(vec![("limits".into(), overhead.clone())]);
    // COMPAT: overhead is reported as limits.
    let path = spec.path_of("overhead");
    requirements(
        &At::named(&Node::Map(limits), path.as_str()),
        container_resource_name,
        leniency,
        errors,
    );
}

fn requirements(at: &At, name_rule: NameRule, leniency: &Leniency, errors: &mut FieldErrors) {
    let (mut compute, mut pages) = (false, false);
    for list in ["limits", "requests"] {
        for (resource, amount) in at.entries(list) {
            name_rule(&amount, resource, errors);
            resource_quantity(&amount, resource, errors);
            if list == "requests" {
                within_limit(at, resource, &amount, errors);
            }
            if is_huge_pages(resource) {
                pages = true;
                let value = quantity(Some(amount.node));
                if !leniency.huge_pages && !is_whole_pages(resource, &value) {
                    let text = value.canonical();
                    let detail = format!("{text} is not positive integer multiple of {resource}");
                    amount.invalid("", text, detail, errors);
                }
            }
            compute |= matches!(resource, "cpu" | "memory");
        }
    }
    if pages && !compute {
        at.forbidden("", "HugePages require cpu or memory", errors);
    }
}

fn within_limit(at: &At, resource: &str, request: &At, errors: &mut FieldErrors) {
    let overcommit = allows_overcommit(resource);
    let Some(limit) = at.node.get("limits").and_then(|limits| limits.get(resource)) else {
        if !overcommit {
            at.required("limits", "Limit must be set for non overcommitable resources", errors);
        }
        return;
    };
    let (request, limit) = (quantity(Some(request.node)), quantity(Some(limit)));
    let text = limit.canonical();
    if request != limit && !overcommit {
        let detail = format!("must be equal to {resource} limit of {text}");
        at.invalid("requests", request.canonical(), detail, errors);
    } else if request > limit {
        let detail = format!("must be less than or equal to {resource} limit of {text}");
        at.invalid("requests", request.canonical(), detail, errors);
    }
}

pub fn has_broken_huge_pages(spec: &At) -> bool {
    super::each_container(spec).any(|container| {
        ["limits", "requests"].iter().any(|list| {
            let amounts = container.node.at(&["resources", list]).and_then(Node::as_map);
            let mut amounts = amounts.into_iter().flat_map(fairlead_api::Map::iter);
            amounts.any(|(name, amount)| is_huge_pages(name) && !is_whole_pages(name, &quantity(Some(amount))))
        })
    })
}

// === claims ===

/// Names that containers use must be names of the pod's claims.
fn claim_names(resources: &At, known: &BTreeSet<&str>, errors: &mut FieldErrors) {
    let mut seen: HashSet<String> = HashSet::new();
    for claim in resources.each("claims") {
        let (name, request) = (claim.str("name"), claim.str("request"));
        if name.is_empty() {
            claim.required("", "", errors);
            continue;
        }
        if seen.contains(name) {
            claim.duplicate("", name, errors);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                common::dns_label(&claim, "request", errors);
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                claim.duplicate("", key.as_str(), errors);
            } else if request.is_empty() {
                let part = |seen: &&String| seen.split_once('/').is_some_and(|(before, _)| before == name);
                for _ in seen.iter().filter(part) {
                    claim.duplicate("", name, errors);
                }
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let mut detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if known.is_empty() {
                detail.push_str(" which is empty");
            } else {
                let names: Vec<&str> = known.iter().copied().collect();
                detail = format!("{detail}: {}", names.join(", "));
            }
            claim.not_found("", name, errors);
            if let Some(error) = errors.last_mut() {
                error.detail = detail;
            }
        }
    }
}

/// `spec.resourceClaims`.
pub fn pod_claims(spec: &At, meta: Option<&Node>, errors: &mut FieldErrors) {
    let mirror = meta.is_some_and(|meta| meta.at(&["annotations", "kubernetes.io/config.mirror"]).is_some());
    let mut seen = HashSet::new();
    for claim in spec.each("resourceClaims") {
        if mirror {
            errors.push(fairlead_api::FieldError::forbidden(
                &fairlead_api::FieldPath::root(),
                "static pods do not support resource claims",
            ));
            continue;
        }
        let name = claim.str("name");
        if name.is_empty() {
            claim.required("name", "", errors);
        } else if seen.contains(name) {
            claim.duplicate("name", name, errors);
        } else {
            common::dns_label(&claim, "name", errors);
            seen.insert(name);
        }
        let (direct, template) = (claim.has("resourceClaimName"), claim.has("resourceClaimTemplateName"));
        let detail = match (direct, template) {
            (true, true) => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            (false, false) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !detail.is_empty() {
            let text = shown::json("core.PodResourceClaim", Some(claim.node));
            claim.invalid_shown("", text, detail, errors);
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            if claim.has(field) {
                common::dns_subdomain(&claim, field, errors);
            }
        }
    }
}

// === pods and their containers ===

/// A pod has at least what its containers have together, and no container more than its pod.
fn enough_for_containers(spec: &At, resources: &At, errors: &mut FieldErrors) {
    for (name, needed) in aggregate(spec.node, "requests") {
        too_little(resources, "requests", &name, &needed, errors);
    }
    for (name, needed) in aggregate(spec.node, "limits") {
        if is_huge_pages(&name) {
            too_little(resources, "limits", &name, &needed, errors);
        }
    }
    for (i, container) in spec.list("containers").iter().enumerate() {
        let limits = container.at(&["resources", "limits"]).and_then(Node::as_map);
        for (name, limit) in limits.into_iter().flat_map(fairlead_api::Map::iter) {
            let Some(whole) = resources.node.at(&["limits", name]) else {
                continue;
            };
            let (limit, whole) = (quantity(Some(limit)), quantity(Some(whole)));
            if limit > whole {
                // COMPAT: the path is of no field.
                let path = resources.path_of("containers").index(i).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {}", whole.canonical());
                errors.push(fairlead_api::FieldError::invalid(&path, limit.canonical(), detail));
            }
        }
    }
}

fn too_little(resources: &At, list: &'static str, name: &str, needed: &Quantity, errors: &mut FieldErrors) {
    let found = resources.entries(list).find(|(key, _)| *key == name);
    let Some((_, whole)) = found else { return };
    let given = quantity(Some(whole.node));
    if *needed > given {
        let detail = format!(
            "must be greater than or equal to aggregate container {list} of {}",
            needed.canonical()
        );
        whole.invalid("", given.canonical(), detail, errors);
    }
}
