//! Services.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.

mod addresses;

pub use addresses::{cluster_ips, endpoint_ip, load_balancer_status};

use super::at::At;
use super::common::{self, PROTOCOLS};
use fairlead_api::metadata::complain;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};
use std::collections::HashSet;

const LOAD_BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub fn validate_create(service: &Node, errors: &mut FieldErrors) {
    common::object_meta(service, true, name::name_is_dns_label, errors);
    validate(service, None, errors);
}

pub fn validate_update(service: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(service, errors);
    let root = At::root(service);
    let spec = root.part("spec");
    let old_spec = old.get("spec").unwrap_or(&Node::Null);
    addresses::cluster_ips_update(&spec, old_spec, errors);
    addresses::families_update(&spec, old_spec, errors);
    let both_balanced = is_balanced(spec.node) && is_balanced(old_spec);
    if both_balanced && spec.text("loadBalancerClass") != old_spec.get("loadBalancerClass").and_then(Node::as_str) {
        let class = spec.node.get("loadBalancerClass");
        let path = spec.path_of("loadBalancerClass");
        errors.push(common::changed(&path, class, "*string", "may not change once set"));
    }
    load_balancer_class(&spec, errors);
    let port = |spec: &Node| spec.get("healthCheckNodePort").and_then(Node::as_i64).unwrap_or(0);
    if needs_health_check(spec.node) && needs_health_check(old_spec) && port(spec.node) != port(old_spec) {
        spec.forbidden("healthCheckNodePort", common::IMMUTABLE, errors);
    }
    validate(service, Some(old), errors);
}

pub fn validate_status(service: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(service, errors);
    let root = At::root(service);
    let (spec, status) = (root.part("spec"), root.part("status"));
    let balancer = status.part("loadBalancer");
    if !is_balanced(spec.node) && balancer.len("ingress") > 0 {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        balancer.forbidden("ingress", detail, errors);
        return;
    }
    load_balancer_status(&balancer, old.at(&["status", "loadBalancer"]), errors);
}

fn validate(service: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    topology_annotations(service, errors);
    let root = At::root(service);
    let spec = root.part("spec");
    let old_spec = old.and_then(|old| old.get("spec"));
    if spec.len("ports") == 0 && !is_headless(spec.node) && spec.str("type") != "ExternalName" {
        spec.required("ports", "", errors);
    }
    by_type(&spec, errors);
    let mut names = HashSet::new();
    for port in spec.each("ports") {
        service_port(&port, spec.len("ports") > 1, &mut names, errors);
    }
    common::labels(&spec, "selector", errors);
    affinity(&spec, errors);
    cluster_ips(&spec, old_spec, errors);
    addresses::external_ips(&spec, old_spec, errors);
    spec.required_one_of(
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        errors,
    );
    port_numbers(&spec, errors);
    source_ranges(service, &spec, old, errors);
    let allocates = spec.has("allocateLoadBalancerNodePorts");
    if allocates && !is_balanced(spec.node) {
        spec.forbidden("allocateLoadBalancerNodePorts", LOAD_BALANCER_ONLY, errors);
    }
    if !allocates && is_balanced(spec.node) {
        root.required("allocateLoadBalancerNodePorts", "", errors);
    }
    load_balancer_class(&spec, errors);
    traffic(&spec, errors);
}

fn topology_annotations(service: &Node, errors: &mut FieldErrors) {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let text = |key: &str| {
        service
            .annotations()
            .and_then(|all| all.get(key))
            .and_then(Node::as_str)
    };
    if let (Some(mode), Some(hints)) = (text(MODE), text(HINTS))
        && mode != hints
    {
        let path = FieldPath::new("metadata.annotations").key(MODE);
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(FieldError::invalid(&path, mode, detail));
    }
}

fn by_type(spec: &At, errors: &mut FieldErrors) {
    match spec.str("type") {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec.node) => {
            let path = spec.path_of("clusterIPs").index(0);
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&path, "None", detail));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies"] {
                if spec.len(field) > 0 {
                    spec.forbidden(field, "may not be set for ExternalName services", errors);
                }
            }
            if spec.has("ipFamilyPolicy") {
                spec.forbidden("ipFamilyPolicy", "may not be set for ExternalName services", errors);
            }
            let external = spec.str("externalName");
            // A final dot says that the name is whole.
            match external.strip_suffix('.').unwrap_or(external) {
                "" => spec.required("externalName", "", errors),
                name => spec.complain("externalName", name, name::is_dns1123_subdomain(name), errors),
            }
        }
        _ => {}
    }
}

fn service_port(port: &At, needs_name: bool, names: &mut HashSet<String>, errors: &mut FieldErrors) {
    let name = port.str("name");
    if !name.is_empty() {
        common::dns_label(port, "name", errors);
        if !names.insert(name.to_owned()) {
            port.duplicate("name", name.to_owned(), errors);
        }
    } else if needs_name {
        port.required("name", "", errors);
    }
    common::port_number(port, "port", errors);
    port.required_one_of("protocol", PROTOCOLS, errors);
    common::port_number_or_name(port, "targetPort", errors);
    if port.has("appProtocol") {
        common::qualified_name(port, "appProtocol", errors);
    }
}

fn affinity(spec: &At, errors: &mut FieldErrors) {
    const CONFIG: &str = "sessionAffinityConfig";
    const WHEN: &str = "when session affinity type is ClientIP";
    const MOST: i64 = 86400;
    spec.required_one_of("sessionAffinity", &["ClientIP", "None"], errors);
    match spec.str("sessionAffinity") {
        "ClientIP" => {
            let Some(config) = spec.get(CONFIG) else {
                return spec.required(CONFIG, WHEN, errors);
            };
            let Some(client) = config.get("clientIP") else {
                return config.required("clientIP", WHEN, errors);
            };
            match client.number("timeoutSeconds") {
                None => client.required("timeoutSeconds", WHEN, errors),
                Some(seconds) if !(1..=MOST).contains(&seconds) => {
                    let detail = format!("must be greater than 0 and less than {MOST}");
                    client.invalid("timeoutSeconds", seconds, detail, errors);
                }
                Some(_) => {}
            }
        }
        "None" if spec.has(CONFIG) => {
            spec.forbidden(CONFIG, "must not be set when session affinity is None", errors);
        }
        _ => {}
    }
}

fn port_numbers(spec: &At, errors: &mut FieldErrors) {
    let (mut node_ports, mut ports) = (HashSet::new(), HashSet::new());
    if spec.str("type") == "ClusterIP" {
        for port in spec.each("ports") {
            if port.int("nodePort") != 0 {
                port.forbidden("nodePort", "may not be used when `type` is 'ClusterIP'", errors);
            }
        }
    }
    for port in spec.each("ports") {
        let number = port.int("nodePort");
        if number != 0 && !node_ports.insert((port.node.str("protocol").to_owned(), number)) {
            port.duplicate("nodePort", number, errors);
        }
    }
    for port in spec.each("ports") {
        let (protocol, number) = (port.node.str("protocol").to_owned(), port.int("port"));
        if !ports.insert((protocol.clone(), number)) {
            let mut shown = Node::map();
            shown.set("protocol", protocol);
            shown.set("port", number);
            // Nothing else of the port is shown, and its target as if it were 0.
            shown.set("targetPort", 0);
            let text = super::shown::json("core.ServicePort", Some(&shown));
            errors.push(FieldError::duplicate(&port.path(), Node::Null).showing(text));
        }
    }
}

fn source_ranges(service: &Node, spec: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    // COMPAT: the field is reported with a large first letter.
    const SHOWN: &str = "LoadBalancerSourceRanges";
    if spec.len("loadBalancerSourceRanges") > 0 {
        if !is_balanced(spec.node) {
            spec.forbidden(SHOWN, LOAD_BALANCER_ONLY, errors);
        }
        let known = old.map_or(&[][..], |old| {
            crate::value::list(old, &["spec", "loadBalancerSourceRanges"])
        });
        let known: HashSet<&str> = known.iter().filter_map(Node::as_str).map(str::trim).collect();
        for (i, range) in spec.strings("loadBalancerSourceRanges") {
            let range = range.trim();
            if !known.contains(range) {
                let complaints = name::ip::is_valid_cidr_for_legacy_field(range);
                complain(errors, &spec.path_of(SHOWN).index(i), range, complaints);
            }
        }
        return;
    }
    let annotation = |service: &Node| {
        let all = service.annotations();
        all.and_then(|all| all.get(SOURCE_RANGES))
            .and_then(Node::as_str)
            .map(str::to_owned)
    };
    let Some(ranges) = annotation(service) else { return };
    let path = FieldPath::new("metadata.annotations").key(SOURCE_RANGES);
    if !is_balanced(spec.node) {
        errors.push(FieldError::forbidden(&path, LOAD_BALANCER_ONLY));
    }
    if old.and_then(annotation).as_ref() == Some(&ranges) || ranges.trim().is_empty() {
        return;
    }
    for range in ranges.trim().split(',').map(str::trim) {
        complain(errors, &path, range, name::ip::is_valid_cidr_for_legacy_field(range));
    }
}

fn load_balancer_class(spec: &At, errors: &mut FieldErrors) {
    if !spec.has("loadBalancerClass") {
        return;
    }
    match is_balanced(spec.node) {
        true => common::qualified_name(spec, "loadBalancerClass", errors),
        false => spec.forbidden("loadBalancerClass", LOAD_BALANCER_ONLY, errors),
    }
}

fn traffic(spec: &At, errors: &mut FieldErrors) {
    let external = match spec.str("type") {
        "LoadBalancer" | "NodePort" => true,
        kind => kind == "ClusterIP" && spec.len("externalIPs") > 0,
    };
    let policy = spec.str("externalTrafficPolicy");
    if external {
        spec.required_one_of("externalTrafficPolicy", &["Cluster", "Local"], errors);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        spec.invalid("externalTrafficPolicy", policy, detail, errors);
    }
    let port = spec.int("healthCheckNodePort");
    match (needs_health_check(spec.node), port) {
        (false, 0) => {}
        (false, _) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            spec.invalid("healthCheckNodePort", port, detail, errors);
        }
        (true, 0) => spec.required("healthCheckNodePort", "", errors),
        (true, _) => common::port_number(spec, "healthCheckNodePort", errors),
    }
    match spec.has("internalTrafficPolicy") {
        true => spec.one_of("internalTrafficPolicy", &["Cluster", "Local"], errors),
        false if matches!(spec.str("type"), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            spec.required("internalTrafficPolicy", "", errors);
        }
        false => {}
    }
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    spec.one_of_if_set("trafficDistribution", &distributions, errors);
}

fn is_balanced(spec: &Node) -> bool {
    spec.str("type") == "LoadBalancer"
}

fn needs_health_check(spec: &Node) -> bool {
    is_balanced(spec) && spec.str("externalTrafficPolicy") == "Local"
}

fn is_headless(spec: &Node) -> bool {
    matches!(spec.list("clusterIPs"), [only] if only.as_str() == Some("None"))
}
