//! What Ingresses are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/networking/validation/validation.go.
// PERFORMANCE: per-request path

use crate::validation::at::At;
use crate::validation::{common, values};
use fairlead_api::metadata::complain;
use fairlead_api::name::{self, ip};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};

const CLASS: &str = "kubernetes.io/ingress.class";
const NOT_A_NAME: &str = "must be a DNS name, not an IP address";

/// What an update lets pass because the stored object has it already.
#[derive(Clone, Copy, Default)]
struct Leniency {
    any_secret_name: bool,
    any_wildcard_rule: bool,
}

pub fn create(object: &Node, errors: &mut FieldErrors) {
    validate(object, Leniency::default(), errors);
    let annotation = object.annotations().and_then(|a| a.get(CLASS)).and_then(Node::as_str);
    let class = object.at(&["spec", "ingressClassName"]).and_then(Node::as_str);
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        errors.push(FieldError::invalid(
            &FieldPath::new("annotations").child(CLASS),
            annotation,
            "must match `ingressClassName` when both are specified",
        ));
    }
}

pub fn update(object: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(object, errors);
    let old = At::root(old);
    let spec = old.part("spec");
    let leniency = Leniency {
        any_secret_name: spec
            .each("tls")
            .any(|tls| !secret_name(tls.str("secretName")).is_empty()),
        any_wildcard_rule: spec.each("rules").any(|rule| {
            let mut errors = Vec::new();
            http(&rule, &mut errors);
            rule.str("host").contains('*') && !errors.is_empty()
        }),
    };
    validate(object, leniency, errors);
}

pub fn status(object: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(object, errors);
    let at = At::named(object, "");
    let status = at.part("status");
    let balancer = status.part("loadBalancer");
    let known = old.at(&["status", "loadBalancer"]);
    let known: Vec<&str> = known
        .map_or(&[][..], |b| b.list("ingress"))
        .iter()
        .map(|i| i.str("ip"))
        .collect();
    for ingress in balancer.each("ingress") {
        let (ip, host) = (ingress.str("ip"), ingress.str("hostname"));
        if !ip.is_empty() {
            values::legacy_ip(&ingress, "ip", ip, &known, errors);
        }
        if !host.is_empty() {
            common::dns_subdomain(&ingress, "hostname", errors);
            if ip::parse_sloppy(host).is_some() {
                ingress.invalid("hostname", host, NOT_A_NAME, errors);
            }
        }
    }
}

fn validate(object: &Node, leniency: Leniency, errors: &mut FieldErrors) {
    common::object_meta(object, true, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    if spec.list("rules").is_empty() && !spec.has("defaultBackend") {
        let rules = spec.node.get("rules").cloned().unwrap_or_default();
        spec.invalid(
            "",
            rules,
            "either `defaultBackend` or `rules` must be specified",
            errors,
        );
    }
    if let Some(default) = spec.get("defaultBackend") {
        backend(&default, errors);
    }
    for rule in spec.each("rules") {
        self::rule(&rule, leniency, errors);
    }
    for tls in spec.each("tls") {
        self::tls(&tls, leniency, errors);
    }
    if spec.has("ingressClassName") {
        common::dns_subdomain(&spec, "ingressClassName", errors);
    }
}

// === warnings ===

pub fn class_warning(object: &Node) -> Option<String> {
    object.annotations()?.get(CLASS)?;
    let class = object
        .at(&["spec", "ingressClassName"])
        .filter(|class| !class.is_null());
    class
        .is_none()
        .then(|| format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"))
}

pub fn ip_warnings(object: &Node) -> Vec<String> {
    let balancer = object.at(&["status", "loadBalancer"]);
    let ingresses = balancer
        .map_or(&[][..], |balancer| balancer.list("ingress"))
        .iter()
        .enumerate();
    let told = ingresses.filter_map(|(i, ingress)| {
        let ip = Some(ingress.str("ip")).filter(|ip| !ip.is_empty())?;
        Some(format!("status.loadBalancer.ingress[{i}]: {}", ip::ip_warning(ip)?))
    });
    told.collect()
}

// === rules ===

fn rule(at: &At, leniency: Leniency, errors: &mut FieldErrors) {
    let host = at.str("host");
    let wildcard = host.contains('*');
    if !host.is_empty() {
        if ip::parse_sloppy(host).is_some() {
            at.invalid("host", host, NOT_A_NAME, errors);
        }
        at.complain("host", host, host_name(host), errors);
    }
    if !(wildcard && leniency.any_wildcard_rule) {
        http(at, errors);
    }
}

fn host_name(host: &str) -> Vec<String> {
    match host.contains('*') {
        true => name::is_wildcard_dns1123_subdomain(host),
        false => name::is_dns1123_subdomain(host),
    }
}

fn http(rule: &At, errors: &mut FieldErrors) {
    let Some(http) = rule.get("http") else { return };
    if http.list("paths").is_empty() {
        http.required("paths", "", errors);
    }
    for path in http.each("paths") {
        self::path(&path, errors);
    }
}

fn path(at: &At, errors: &mut FieldErrors) {
    let path = at.str("path");
    let Some(kind) = at.text("pathType") else {
        return at.required("pathType", "pathType must be specified", errors);
    };
    let absolute = path.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            if !absolute {
                at.invalid("path", path, "must be an absolute path", errors);
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"]
                .into_iter()
                .filter(|part| path.contains(part))
            {
                at.invalid("path", path, format!("must not contain '{part}'"), errors);
            }
            for end in ["/..", "/."].into_iter().filter(|end| path.ends_with(end)) {
                at.invalid("path", path, format!("cannot end with '{end}'"), errors);
            }
        }
        "ImplementationSpecific" if !path.is_empty() && !absolute => {
            at.invalid("path", path, "must be an absolute path", errors);
        }
        "ImplementationSpecific" => {}
        _ => at.one_of("pathType", &["Exact", "ImplementationSpecific", "Prefix"], errors),
    }
    backend(&at.part("backend"), errors);
}

// === backends ===

fn backend(at: &At, errors: &mut FieldErrors) {
    match (at.get("resource"), at.get("service")) {
        (Some(_), Some(_)) => at.invalid("", "", "cannot set both resource and service backends", errors),
        (Some(resource), None) => object_reference(&resource, errors),
        (None, Some(service)) => self::service(at, &service, errors),
        (None, None) => at.invalid("", "", "resource or service backend is required", errors),
    }
}

fn service(backend: &At, at: &At, errors: &mut FieldErrors) {
    if at.require("name", errors) {
        common::dns_label(at, "name", errors);
    }
    let port = at.part("port");
    match (port.str("name"), port.int("number")) {
        ("", 0) => backend.required("", "port name or number is required", errors),
        ("", _) => common::port_number(&port, "number", errors),
        (name, 0) => port.complain("name", name, name::is_valid_port_name(name), errors),
        _ => backend.invalid("", "", "cannot set both port name & port number", errors),
    }
}

/// Group, kind and name of an object elsewhere.
pub fn object_reference(at: &At, errors: &mut FieldErrors) {
    if at.has("apiGroup") {
        common::dns_subdomain(at, "apiGroup", errors);
    }
    values::required_path_segment(at, "kind", errors);
    values::required_path_segment(at, "name", errors);
}

// === TLS ===

fn tls(at: &At, leniency: Leniency, errors: &mut FieldErrors) {
    for (i, host) in at.strings("hosts") {
        let complaints = host_name(host);
        if !complaints.is_empty() {
            complain(errors, &at.path_of("hosts").index(i), host, complaints);
        }
    }
    if !leniency.any_secret_name {
        let name = at.str("secretName");
        at.complain("secretName", name, secret_name(name), errors);
    }
}

fn secret_name(name: &str) -> Vec<String> {
    match name {
        "" => Vec::new(),
        _ => name::is_dns1123_subdomain(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn complaints(spec: Node) -> Vec<String> {
        let mut object = node!({"metadata": {"name": "a", "namespace": "b"}});
        object.set("spec", spec);
        let mut errors = Vec::new();
        create(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn something_must_be_served() {
        assert_eq!(
            complaints(node!({})),
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
        );
        assert_eq!(
            complaints(node!({"defaultBackend": {"service": {"name": "s", "port": {}}}})),
            ["spec.defaultBackend: Required value: port name or number is required"]
        );
    }

    #[test]
    fn paths_stay_below_their_prefix() {
        let path =
            node!({"path": "/a/..", "pathType": "Prefix", "backend": {"resource": {"kind": "K", "name": "a/b"}}});
        let rules = node!([{"http": {"paths": []}}]);
        let mut spec = node!({});
        spec.set("rules", rules);
        if let Some(Node::List(rules)) = spec.get_mut("rules") {
            rules[0].set_at(&["http", "paths"], vec![path]);
        }
        assert_eq!(
            complaints(spec),
            [
                r#"spec.rules[0].http.paths[0].path: Invalid value: "/a/..": cannot end with '/..'"#,
                r#"spec.rules[0].http.paths[0].backend.resource.name: Invalid value: "a/b": may not contain '/'"#,
            ]
        );
    }
}
