//! Containers: what all kinds of them share, and what init and ephemeral containers differ in.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::common;
use super::spec::Pod;
use super::{environment, handlers, mounts, resources, security};
use fairlead_api::{FieldErrors, Node, name};
use std::collections::HashSet;

/// In the order messages list them.
pub const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

pub fn validate(spec: &At, pod: &Pod, errors: &mut FieldErrors) {
    if spec.len("containers") == 0 {
        spec.required("containers", "", errors);
        return;
    }
    let mut names = HashSet::new();
    for container in spec.each("containers") {
        shared(&container, pod, errors);
        if !names.insert(container.str("name")) {
            container.duplicate("name", container.str("name"), errors);
        }
        handlers::lifecycle_and_probes(&container, pod, errors);
        restart_policy(&container, errors);
    }
    let mut ports = HashSet::new();
    for container in spec.each("containers") {
        host_ports(&container, &mut ports, errors);
    }
}

pub fn validate_init(spec: &At, pod: &Pod, errors: &mut FieldErrors) {
    let mut names: HashSet<&str> = spec.list("containers").iter().map(|c| c.str("name")).collect();
    for (i, container) in spec.each("initContainers").enumerate() {
        shared(&container, pod, errors);
        init_restart_policy(&container, errors);
        let name = container.str("name");
        if names.contains(name) {
            container.duplicate("name", name, errors);
        } else if !name.is_empty() {
            names.insert(name);
        }
        init_host_ports(spec, i, errors);
        let sidecar = container.str("restartPolicy") == "Always";
        if sidecar {
            handlers::lifecycle_and_probes(&container, pod, errors);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.has(field) {
                    let detail = "may not be set for init containers without restartPolicy=Always";
                    container.forbidden(field, detail, errors);
                }
            }
        }
        if !sidecar && !pod.leniency.restarting_init_containers {
            for policy in container.each("resizePolicy") {
                if policy.str("restartPolicy") == "RestartContainer" {
                    let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    policy.invalid("restartPolicy", "RestartContainer", detail, errors);
                }
            }
        }
    }
}

pub fn validate_ephemeral(spec: &At, pod: &Pod, errors: &mut FieldErrors) {
    const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";
    let others = spec.list("containers").iter().chain(spec.list("initContainers"));
    let others: HashSet<&str> = others.map(|container| container.str("name")).collect();
    let mut names = others.clone();
    for container in spec.each("ephemeralContainers") {
        shared(&container, pod, errors);
        image_without_spaces(&container, errors);
        let name = container.str("name");
        if !names.insert(name) {
            container.duplicate("name", name, errors);
        }
        let target = container.str("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            container.not_found("targetContainerName", target, errors);
        }
        for field in [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            if is_set(container.node.get(field), field) {
                container.forbidden(field, FORBIDDEN, errors);
            }
        }
        for mount in container.each("volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if !mount.str(field).is_empty() {
                    mount.forbidden(field, FORBIDDEN, errors);
                }
            }
        }
    }
}

/// Whether a field is more than Go's zero value of it: an empty object of resources is none.
fn is_set(value: Option<&Node>, field: &str) -> bool {
    match value {
        None | Some(Node::Null) => false,
        Some(Node::Map(members)) if field == "resources" => members.values().any(|member| !member.is_null()),
        Some(_) => true,
    }
}

fn shared(container: &At, pod: &Pod, errors: &mut FieldErrors) {
    if container.require("name", errors) {
        common::dns_label(container, "name", errors);
    }
    container.require("image", errors);
    let policies = ["File", "FallbackToLogsOnError"];
    container.required_one_of("terminationMessagePolicy", &policies, errors);
    ports(container, errors);
    environment::variables(container, errors);
    environment::variables_from(container, errors);
    mounts::mounts(container, pod, errors);
    mounts::devices(container, pod, errors);
    container.required_one_of("imagePullPolicy", PULL_POLICIES, errors);
    resources::of_container(container, pod, errors);
    resize_policy(container, pod, errors);
    security::container_context(container, pod.host_users, errors);
}

/// Templates may have images with spaces around them; pods may not.
pub fn image_without_spaces(container: &At, errors: &mut FieldErrors) {
    let image = container.str("image");
    if image.trim().len() != image.len() {
        let detail = "must not have leading or trailing whitespace";
        container.invalid("image", image, detail, errors);
    }
}

// === ports ===

fn ports(container: &At, errors: &mut FieldErrors) {
    let mut names = HashSet::new();
    for port in container.each("ports") {
        let port_name = port.str("name");
        if !port_name.is_empty() {
            let complaints = name::is_valid_port_name(port_name);
            if !complaints.is_empty() {
                port.complain("name", port_name, complaints, errors);
            } else if !names.insert(port_name) {
                port.duplicate("name", port_name, errors);
            }
        }
        match port.int("containerPort") {
            0 => port.required("containerPort", "", errors),
            _ => common::port_number(&port, "containerPort", errors),
        }
        if port.int("hostPort") != 0 {
            common::port_number(&port, "hostPort", errors);
        }
        port.required_one_of("protocol", common::PROTOCOLS, errors);
    }
}

fn host_ports(container: &At, seen: &mut HashSet<String>, errors: &mut FieldErrors) {
    for port in container.each("ports") {
        let number = port.int("hostPort");
        if number == 0 {
            continue;
        }
        let text = format!("{}/{}/{number}", port.str("protocol"), port.str("hostIP"));
        if seen.contains(&text) {
            port.duplicate("hostPort", text, errors);
        } else {
            seen.insert(text);
        }
    }
}

/// COMPAT: each init container is checked by itself, and reported as if it were the first.
fn init_host_ports(spec: &At, index: usize, errors: &mut FieldErrors) {
    let mut alone = Node::map();
    let container = &spec.list("initContainers")[index];
    if container
        .list("ports")
        .iter()
        .filter(|port| port.get("hostPort").is_some())
        .count()
        < 2
    {
        return;
    }
    alone.set("initContainers", vec![container.clone()]);
    let path = spec.path();
    let alone = At::named(&alone, path.as_str());
    for container in alone.each("initContainers") {
        host_ports(&container, &mut HashSet::new(), errors);
    }
}

// === restarts and resizes ===

fn restart_policy(container: &At, errors: &mut FieldErrors) {
    const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
    let rules = container.len("restartPolicyRules");
    match container.has("restartPolicy") {
        false if rules == 0 => return,
        false => rules_need_policy(container, errors),
        true => container.one_of("restartPolicy", POLICIES, errors),
    }
    if rules > 20 {
        container.too_many("restartPolicyRules", rules, 20, errors);
    }
    for rule in container.each("restartPolicyRules") {
        rule.one_of("action", &["Restart", "RestartAllContainers"], errors);
        match rule.get("exitCodes") {
            None => rule.required("exitCodes", "must be specified", errors),
            Some(codes) => {
                codes.one_of("operator", &["In", "NotIn"], errors);
                let values = codes.len("values");
                if values > 255 {
                    codes.too_many("values", values, 255, errors);
                }
            }
        }
    }
}

fn init_restart_policy(container: &At, errors: &mut FieldErrors) {
    match container.has("restartPolicy") {
        true => restart_policy(container, errors),
        false if container.len("restartPolicyRules") > 0 => rules_need_policy(container, errors),
        false => {}
    }
}

fn rules_need_policy(container: &At, errors: &mut FieldErrors) {
    let detail = "must specify restartPolicy when restart rules are used";
    container.required("restartPolicy", detail, errors);
}

/// COMPAT: all but duplicates are reported at the list.
fn resize_policy(container: &At, pod: &Pod, errors: &mut FieldErrors) {
    const RESOURCES: &[&str] = &["cpu", "memory"];
    const POLICIES: &[&str] = &["NotRequired", "RestartContainer"];
    const LIST: &str = "resizePolicy";
    let mut seen = HashSet::new();
    for policy in container.each(LIST) {
        let (resource, restart) = (policy.str("resourceName"), policy.str("restartPolicy"));
        if !seen.insert(resource) {
            policy.duplicate("", resource, errors);
        }
        for (value, supported) in [(resource, RESOURCES), (restart, POLICIES)] {
            match value {
                "" => container.required(LIST, "", errors),
                _ if supported.contains(&value) => {}
                _ => container.not_supported(LIST, value, supported, errors),
            }
        }
        if pod.restart_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            container.invalid(LIST, restart, detail, errors);
        }
    }
}
