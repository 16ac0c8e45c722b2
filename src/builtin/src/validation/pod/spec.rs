//! A pod's spec, in the order its parts are checked.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::common;
use super::{Leniency, annotations, containers, environment, network, operating_system, resources, scheduling};
use super::{security, spread, volumes, windows};
use fairlead_api::metadata::{validate_annotations, validate_labels};
use fairlead_api::{FieldErrors, Node, name};
use std::collections::{BTreeSet, HashMap};

/// What the checks of containers look up in their pod.
pub struct Pod<'a> {
    /// Valid volumes by name.
    pub volumes: HashMap<&'a str, &'a Node>,
    pub claims: BTreeSet<&'a str>,
    pub grace_period: Option<i64>,
    pub restart_policy: &'a str,
    pub os: Option<&'a str>,
    /// Whether users in the pod are users of the host.
    pub host_users: bool,
    pub leniency: &'a Leniency,
}

/// `meta` is the pod's metadata, where the spec is a pod's.
pub fn validate_spec(spec: &At, meta: Option<&Node>, leniency: &Leniency, errors: &mut FieldErrors) {
    let grace_period = spec.number("terminationGracePeriodSeconds");
    if grace_period.is_none() {
        spec.required("terminationGracePeriodSeconds", "", errors);
    }
    let claims: BTreeSet<&str> = spec
        .list("resourceClaims")
        .iter()
        .map(|claim| claim.str("name"))
        .collect();
    let pod = Pod {
        volumes: volumes::validate(spec, meta, leniency, errors),
        claims: claims.into_iter().filter(|name| !name.is_empty()).collect(),
        grace_period,
        restart_policy: spec.str("restartPolicy"),
        os: spec.node.get("os").map(|os| os.str("name")),
        host_users: spec.node.get("hostUsers").and_then(Node::as_bool).unwrap_or(true),
        leniency,
    };
    resources::pod_claims(spec, meta, errors);
    containers::validate(spec, &pod, errors);
    containers::validate_init(spec, &pod, errors);
    containers::validate_ephemeral(spec, &pod, errors);
    resources::pod_level(spec, &pod, errors);
    network::host_ports(spec, leniency, errors);
    spec.required_one_of("restartPolicy", &["Always", "OnFailure", "Never"], errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    spec.required_one_of("dnsPolicy", &policies, errors);
    common::labels(spec, "nodeSelector", errors);
    security::pod_context(spec, leniency, errors);
    scheduling::affinity(spec, leniency, errors);
    network::dns(spec, errors);
    for gate in spec.each("readinessGates") {
        common::qualified_name(&gate, "conditionType", errors);
    }
    scheduling::gates(spec, errors);
    spread::validate(spec, leniency, errors);
    windows::host_process(spec, errors);
    security::user_namespace(spec, leniency, errors);
    network::hostname_override(spec, errors);
    validate_names(spec, leniency, errors);
    validate_rest(spec, &pod, errors);
}

fn validate_names(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    for field in ["serviceAccountName", "nodeName"] {
        if !spec.str(field).is_empty() {
            common::dns_subdomain(spec, field, errors);
        }
    }
    if let Some(deadline) = spec.number("activeDeadlineSeconds") {
        for complaint in name::is_in_range(deadline, 1, i32::MAX.into()) {
            spec.invalid("activeDeadlineSeconds", deadline, complaint, errors);
        }
    }
    for field in ["hostname", "subdomain"] {
        if !spec.str(field).is_empty() {
            common::dns_label(spec, field, errors);
        }
    }
    scheduling::tolerations(spec, "tolerations", leniency.comparison_tolerations, errors);
    network::host_aliases(spec, errors);
    if !spec.str("priorityClassName").is_empty() {
        common::dns_subdomain(spec, "priorityClassName", errors);
    }
    if spec.has("runtimeClassName") {
        common::dns_subdomain(spec, "runtimeClassName", errors);
    }
}

fn validate_rest(spec: &At, pod: &Pod, errors: &mut FieldErrors) {
    if spec.has("preemptionPolicy") {
        spec.required_one_of("preemptionPolicy", &["PreemptLowerPriority", "Never"], errors);
    }
    resources::overhead(spec, pod.leniency, errors);
    operating_system::validate(spec, errors);
    if let Some(group) = spec.get("schedulingGroup") {
        match group.has("podGroupName") {
            true => common::dns_subdomain(&group, "podGroupName", errors),
            false => group.invalid(
                "podGroupName",
                Node::Null,
                "must specify one of: `podGroupName`",
                errors,
            ),
        }
    }
    environment::file_volumes(spec, errors);
}

/// A template of pods, the member `key` of a spec.
pub fn template(at: &At, key: &str, leniency: &Leniency, errors: &mut FieldErrors) {
    template_metadata(at, key, leniency, errors);
    let template = at.part(key);
    let spec = template.part("spec");
    validate_spec(&spec, None, leniency, errors);
    annotations::seccomp_agrees(template.node, &spec, errors);
    annotations::apparmor_agrees(template.node, &spec, errors);
    if spec.len("ephemeralContainers") > 0 {
        let detail = "ephemeral containers not allowed in pod template";
        spec.forbidden("ephemeralContainers", detail, errors);
    }
}

/// Labels and annotations of a template.
pub fn template_metadata(at: &At, key: &str, leniency: &Leniency, errors: &mut FieldErrors) {
    let template = at.part(key);
    // COMPAT: metadata of templates is reported without its own step.
    let labels = template.node.at(&["metadata", "labels"]);
    if labels.is_some() {
        errors.extend(validate_labels(labels, &template.path_of("labels")));
    }
    let found = template.node.at(&["metadata", "annotations"]);
    if found.is_some() {
        errors.extend(validate_annotations(found, &template.path_of("annotations")));
        annotations::validate(template.node, &template.part("spec"), leniency, errors);
    }
}
