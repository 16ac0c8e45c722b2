//! What is said about pods and templates that are accepted all the same.
//!
//! Source of the rules and wording: kubernetes pkg/api/pod/warnings.go.

mod overlaps;
mod ports;

use crate::validation::at::At;
use crate::validation::{claims, common, node_labels};
use fairlead_api::{Map, Node, name};
use std::collections::HashSet;

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
pub const APP_ARMOR_DEPRECATED: &str = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];

const VOLUMES: [(&str, &str); 7] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
];
const LATER_VOLUMES: [&str; 2] = ["cephfs", "rbd"];

/// About a new pod.
pub fn pod(pod: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let complaints = name::is_dns1123_label(pod.name());
    if !complaints.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; \
             a DNS label is recommended: [{}]",
            complaints.join(" ")
        ));
    }
    all(&At::root(pod), false, &mut warnings);
    warnings
}

/// About a pod template.
pub fn template(template: &At) -> Vec<String> {
    let mut warnings = Vec::new();
    if !template.node.is_null() {
        all(template, true, &mut warnings);
    }
    warnings
}

/// About an object whose name starts those of pods.
pub fn owner_name(object: &Node) -> Option<String> {
    let complaints = name::is_dns1123_label(object.name());
    (!complaints.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; \
             a DNS label is recommended: [{}]",
            complaints.join(" ")
        )
    })
}

/// About a pod whose status was written.
pub fn status(pod: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = At::root(pod);
    let status = root.part("status");
    for field in ["podIPs", "hostIPs"] {
        for address in status.each(field) {
            common::warn_ip(&address, "ip", &mut warnings);
        }
    }
    warnings
}

fn all(at: &At, template: bool, warnings: &mut Vec<String>) {
    let spec = at.part("spec");
    let annotations = at.node.annotations();
    labels(&spec, warnings);
    let has = |key: &str| annotations.is_some_and(|annotations| annotations.get(key).is_some());
    let annotation = |key: &str| at.path_of("metadata").child("annotations").key(key);
    for (key, message) in ANNOTATIONS {
        if has(key) {
            warnings.push(format!("{}: {message}", annotation(key)));
        }
    }
    volumes(&spec, warnings);
    overlaps::volumes(spec.list("volumes"), warnings);
    repeated(&spec, "hostAliases", "ip", warnings);
    repeated(&spec, "imagePullSecrets", "name", warnings);
    for secret in spec
        .each("imagePullSecrets")
        .filter(|secret| secret.str("name").is_empty())
    {
        warnings.push(format!("{}: invalid empty name \"\"", secret.path_of("name")));
    }
    for resource in ["memory", "ephemeral-storage"] {
        fractional(&spec, "overhead", resource, warnings);
    }
    let security = spec.part("securityContext");
    if has(SECCOMP_POD) && !security.has("seccompProfile") {
        warnings.push(seccomp(annotation(SECCOMP_POD)));
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"];
    for container in containers.iter().flat_map(|list| spec.each(list)) {
        let security = container.part("securityContext");
        let key = format!("{SECCOMP_CONTAINER}{}", container.str("name"));
        if !security.has("seccompProfile") && has(&key) {
            warnings.push(seccomp(annotation(&key)));
        }
        if template && !security.has("appArmorProfile") {
            warnings.extend(app_armor(&container, &spec, annotations).map(|key| {
                let path = annotation(&key);
                format!("{path}: {APP_ARMOR_DEPRECATED}")
            }));
        }
        let resources = container.part("resources");
        for resource in ["memory", "ephemeral-storage"] {
            fractional(&resources, "limits", resource, warnings);
            fractional(&resources, "requests", resource, warnings);
        }
        environment(&container, warnings);
    }
    ports::all(&spec, &containers, warnings);
    if spec.int("terminationGracePeriodSeconds") < 0 {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            spec.path_of("terminationGracePeriodSeconds")
        ));
    }
    affinity(&spec, warnings);
    let dns = spec.part("dnsConfig");
    for server in dns.each("nameservers") {
        common::warn_ip(&server, "", warnings);
    }
    for alias in spec.each("hostAliases") {
        common::warn_ip(&alias, "ip", warnings);
    }
}

fn seccomp(path: fairlead_api::FieldPath) -> String {
    format!("{path}: non-functional in v1.27+; use the \"seccompProfile\" field instead")
}

/// The annotation of a container that has no field of that name, unless the pod's field says the same.
fn app_armor(container: &At, spec: &At, annotations: Option<&Map>) -> Option<String> {
    let key = format!("{APP_ARMOR}{}", container.str("name"));
    let value = annotations?.get(key.as_str())?.as_str()?;
    let of_pod = spec.node.at(&["securityContext", "appArmorProfile"]);
    let same = of_pod.is_some_and(|profile| {
        let name = profile.get("localhostProfile").and_then(Node::as_str);
        match (profile.str("type"), name) {
            ("Unconfined", None) => value == "unconfined",
            ("RuntimeDefault", None) => value == "runtime/default",
            ("Localhost", Some(name)) => value.strip_prefix("localhost/") == Some(name) && !name.is_empty(),
            _ => false,
        }
    });
    (!same).then_some(key)
}

// === scheduling ===

fn labels(spec: &At, warnings: &mut Vec<String>) {
    for (key, place) in spec.entries("nodeSelector") {
        warnings.extend(node_labels::deprecation(key).map(|message| format!("{}: {message}", place.path())));
    }
    let affinity = spec.part("affinity");
    let affinity = affinity.part("nodeAffinity");
    let required = affinity.part("requiredDuringSchedulingIgnoredDuringExecution");
    for term in required.each("nodeSelectorTerms") {
        node_labels::warn_term(&term, false, warnings);
    }
    for preferred in affinity.each("preferredDuringSchedulingIgnoredDuringExecution") {
        node_labels::warn_term(&preferred.part("preference"), true, warnings);
    }
    for constraint in spec.each("topologySpreadConstraints") {
        let key = constraint.str("topologyKey");
        if let Some(message) = node_labels::deprecation(key) {
            warnings.push(format!("{}: {key} is {message}", constraint.path_of("topologyKey")));
        }
        no_selector(&constraint, warnings);
    }
}

fn affinity(spec: &At, warnings: &mut Vec<String>) {
    let affinity = spec.part("affinity");
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = affinity.part(kind);
        for term in affinity.each("requiredDuringSchedulingIgnoredDuringExecution") {
            no_selector(&term, warnings);
        }
        for weighted in affinity.each("preferredDuringSchedulingIgnoredDuringExecution") {
            no_selector(&weighted.part("podAffinityTerm"), warnings);
        }
    }
}

fn no_selector(at: &At, warnings: &mut Vec<String>) {
    if !at.has("labelSelector") {
        warnings.push(format!(
            "{}: a null labelSelector results in matching no pod",
            at.path_of("labelSelector")
        ));
    }
}

// === parts ===

fn volumes(spec: &At, warnings: &mut Vec<String>) {
    for volume in spec.each("volumes") {
        for (plugin, message) in VOLUMES.iter().filter(|(plugin, _)| volume.has(plugin)) {
            let shown = if *plugin == "storageos" { "storageOS" } else { plugin };
            warnings.push(format!("{}: {message}", volume.path_of(shown)));
        }
        if let Some(ephemeral) = volume.get("ephemeral")
            && let Some(template) = ephemeral.get("volumeClaimTemplate")
        {
            claims::warn_spec(&template.part("spec"), warnings);
        }
        for plugin in LATER_VOLUMES.iter().filter(|plugin| volume.has(plugin)) {
            warnings.push(format!(
                "{}: deprecated in v1.28, non-functional in v1.31+",
                volume.path_of(plugin)
            ));
        }
    }
}

fn repeated(spec: &At, list: &str, field: &str, warnings: &mut Vec<String>) {
    if spec.len(list) < 2 {
        return;
    }
    let mut seen = HashSet::new();
    for (i, item) in spec.list(list).iter().enumerate() {
        let value = item.str(field);
        if !seen.insert(value) {
            let path = spec.path_of(list).index(i).child(field);
            warnings.push(format!("{path}: duplicate {field} {value:?}"));
        }
    }
}

/// Bytes do not come in parts.
pub fn fractional(at: &At, field: &str, resource: &str, warnings: &mut Vec<String>) {
    let Some(node) = at.node.at(&[field, resource]) else {
        return;
    };
    let value = common::quantity(Some(node));
    if value.milli_value() % 1000 != 0 {
        warnings.push(format!(
            "{}: fractional byte value {:?} is invalid, must be an integer",
            at.path_of(field).key(resource),
            value.canonical()
        ));
    }
}

/// A variable given twice, unless the second uses the first.
fn environment(container: &At, warnings: &mut Vec<String>) {
    if container.len("env") < 2 {
        return;
    }
    let mut seen = HashSet::new();
    for variable in container.each("env") {
        let name = variable.str("name");
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let value = variable.str("value");
        if variable.has("valueFrom") || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn new_pods_are_warned_about() {
        let object = node!({"metadata": {"name": "a.b"}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "imagePullSecrets": [{"name": "s"}, {"name": "s"}],
            "containers": [{"name": "c", "env": [
                {"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}]}});
        assert_eq!(
            pod(&object),
            [
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label \
                 is recommended: [must not contain dots]",
                r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
                r#"spec.imagePullSecrets[1].name: duplicate name "s""#,
                r#"spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply"#,
            ]
        );
    }
}
