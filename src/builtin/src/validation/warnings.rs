//! What is said about accepted objects: kinds whose warnings are few.
//!
//! Source of the rules and wording: kubernetes pkg/api/*/warnings.go and pkg/registry/*/*/strategy.go.

mod key_pair;

use super::at::At;
use super::pod::warnings as pods;
use super::{claims, common, node_labels};
use fairlead_api::Node;

const CEPHFS: &str = "deprecated in v1.28, non-functional in v1.31+";
const PV_PLUGINS: [(&str, &str); 6] = [
    ("cephfs", CEPHFS),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", CEPHFS),
];
const PV_ANNOTATIONS: [(&str, &str); 2] = [
    (
        "volume.beta.kubernetes.io/storage-class",
        r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
    ),
    (
        "volume.beta.kubernetes.io/mount-options",
        r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
    ),
];

// === workloads ===

/// About an object with a pod template under `spec`; its name is looked at where pods are named after it.
pub fn workload(object: &Node, old: Option<&Node>, named: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() && named {
        warnings.extend(pods::owner_name(object));
    }
    if is_changed(object, old) {
        let root = At::root(object);
        warnings.extend(pods::template(&root.part("spec").part("template")));
    }
    warnings
}

/// About a controller. Upstream looks at the template that was, on updates.
pub fn replication_controller(object: &Node, old: Option<&Node>) -> Vec<String> {
    match old {
        Some(old) if is_changed(object, Some(old)) => workload(old, None, false),
        _ => workload(object, old, true),
    }
}

/// About a pod template that is an object of its own.
pub fn pod_template(object: &Node, old: Option<&Node>) -> Vec<String> {
    match is_changed(object, old) {
        true => pods::template(&At::root(object).part("template")),
        false => Vec::new(),
    }
}

pub fn stateful_set(object: &Node, old: Option<&Node>) -> Vec<String> {
    let mut warnings = workload(object, old, false);
    let root = At::root(object);
    let spec = root.part("spec");
    for (i, claim) in spec.list("volumeClaimTemplates").iter().enumerate() {
        let path = spec.path_of("volumeClaimTemplates").index(i);
        let path = if old.is_some() { path.child("Spec") } else { path };
        let claim_spec = claim.get("spec").unwrap_or(&Node::Null);
        claims::warn_spec(&At::named(claim_spec, &path.to_string()), &mut warnings);
    }
    if spec.int("revisionHistoryLimit") < 0 {
        warnings.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
    warnings
}

pub fn job(object: &Node, old: Option<&Node>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        warnings.extend(pods::owner_name(object));
    }
    if is_changed(object, old) {
        job_spec(&At::root(object).part("spec"), &mut warnings);
    }
    warnings
}

pub fn cron_job(object: &Node, old: Option<&Node>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        warnings.extend(pods::owner_name(object));
    }
    let root = At::root(object);
    let spec = root.part("spec");
    if is_changed(object, old) {
        job_spec(&spec.part("jobTemplate").part("spec"), &mut warnings);
    }
    if old.is_some() && spec.str("schedule").contains("TZ") {
        warnings.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    warnings
}

fn job_spec(spec: &At, warnings: &mut Vec<String>) {
    let indexed = spec.str("completionMode") == "Indexed";
    if indexed && spec.int("completions") > 100_000 && spec.int("parallelism") > 10_000 {
        warnings.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path()
        ));
    }
    warnings.extend(pods::template(&spec.part("template")));
}

fn is_changed(object: &Node, old: Option<&Node>) -> bool {
    old.is_none_or(|old| old.generation() != object.generation())
}

// === services, endpoints ===

pub fn service(object: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = At::root(object);
    let spec = root.part("spec");
    let hints = "service.kubernetes.io/topology-aware-hints";
    if object.annotations().is_some_and(|all| all.get(hints).is_some()) {
        warnings.push(format!(
            "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if !matches!(spec.str("clusterIP"), "" | "None") {
        for address in spec.each("clusterIPs") {
            common::warn_ip(&address, "", &mut warnings);
        }
    }
    let external = !spec.list("externalIPs").is_empty();
    let by_name = spec.str("type") == "ExternalName";
    let headless = spec.str("type") == "ClusterIP" && spec.str("clusterIP") == "None";
    if headless {
        let ignored = [
            ("loadBalancerIP", !spec.str("loadBalancerIP").is_empty()),
            ("externalIPs", external),
            ("SessionAffinity", spec.str("sessionAffinity") != "None"),
        ];
        let ignored = ignored.iter().filter(|(_, given)| *given);
        warnings.extend(ignored.map(|(field, _)| format!("spec.{field} is ignored for headless services")));
    }
    for address in spec.each("externalIPs") {
        common::warn_ip(&address, "", &mut warnings);
    }
    if external && !headless && !by_name {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    common::warn_ip(&spec, "loadBalancerIP", &mut warnings);
    for range in spec.each("loadBalancerSourceRanges") {
        common::warn_cidr(&range, &mut warnings);
    }
    if by_name && external {
        warnings.push(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#.to_owned());
    }
    if !by_name && !spec.str("externalName").is_empty() {
        warnings.push(r#"spec.externalName is ignored when spec.type is not "ExternalName""#.to_owned());
    }
    if spec.str("trafficDistribution") == "PreferClose" {
        warnings.push(r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#.to_owned());
    }
    warnings
}

pub fn service_status(object: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = At::root(object);
    let status = root.part("status");
    for ingress in status.part("loadBalancer").each("ingress") {
        let found = fairlead_api::name::ip::ip_warning(ingress.str("ip"));
        warnings.extend(found.map(|warning| format!("{}: {warning}", ingress.path())));
    }
    warnings
}

pub fn endpoints(object: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let managed_by = object
        .labels()
        .and_then(|labels| labels.get("endpoints.kubernetes.io/managed-by"));
    if managed_by.and_then(Node::as_str) == Some("endpoint-controller") {
        return warnings;
    }
    let root = At::root(object);
    for subset in root.each("subsets") {
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.each(list) {
                common::warn_ip(&address, "ip", &mut warnings);
            }
        }
    }
    warnings
}

// === cluster ===

pub fn node(object: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = At::root(object);
    let spec = root.part("spec");
    if spec.has("configSource") {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !spec.str("externalID").is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for range in spec.each("podCIDRs") {
        common::warn_cidr(&range, &mut warnings);
    }
    warnings
}

pub fn persistent_volume(object: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = At::root(object);
    let spec = root.part("spec");
    for (key, message) in PV_ANNOTATIONS {
        if object.annotations().is_some_and(|all| all.get(key).is_some()) {
            warnings.push(format!("metadata.annotations[{key}]: {message}"));
        }
    }
    if spec.str("persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let affinity = spec.part("nodeAffinity");
    for term in affinity.part("required").each("nodeSelectorTerms") {
        node_labels::warn_term(&term, false, &mut warnings);
    }
    for (plugin, message) in PV_PLUGINS.iter().filter(|(plugin, _)| spec.has(plugin)) {
        let shown = if *plugin == "storageos" { "storageOS" } else { plugin };
        warnings.push(format!("spec.{shown}: {message}"));
    }
    warnings
}

pub fn service_account(object: &Node, old: Option<&Node>) -> Vec<String> {
    const KEY: &str = "kubernetes.io/enforce-mountable-secrets";
    let has = |object: &Node| object.annotations().is_some_and(|all| all.get(KEY).is_some());
    if !has(object) || old.is_some_and(has) {
        return Vec::new();
    }
    vec![format!(
        "metadata.annotations[{KEY}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    )]
}

/// A new quota that grants more requests than limits.
pub fn quota(object: &Node) -> Vec<String> {
    let hard = object.at(&["spec", "hard"]).unwrap_or(&Node::Null);
    let mut warnings = Vec::new();
    for resource in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (mut requests, limits) = (format!("requests.{resource}"), format!("limits.{resource}"));
        if hard.get(&requests).is_none() && matches!(resource, "cpu" | "memory") {
            requests = resource.to_owned();
        }
        let (Some(request), Some(limit)) = (hard.get(&requests), hard.get(&limits)) else {
            continue;
        };
        let (request, limit) = (common::quantity(Some(request)), common::quantity(Some(limit)));
        if request > limit {
            warnings.push(format!(
                "ResourceQuota {requests} ({}) should be less than {limits} ({})",
                request.canonical(),
                limit.canonical()
            ));
        }
    }
    warnings
}

/// A TLS secret whose parts are no key pair.
pub fn secret(object: &Node) -> Vec<String> {
    if object.str("type") != "kubernetes.io/tls" {
        return Vec::new();
    }
    let data = |key: &str| object.at(&["data", key]).and_then(Node::as_str).unwrap_or_default();
    key_pair::complaint(data("tls.crt"), data("tls.key"))
        .into_iter()
        .collect()
}
