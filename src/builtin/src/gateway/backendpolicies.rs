//! BackendPolicies. What they bring about is the gateway's to say.

use crate::cells::Row;
use crate::validation::at::At;
use crate::validation::{common, values};
use crate::value::list;
use fairlead_api::name;
use fairlead_api::time::GoDuration;
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};
use std::collections::BTreeSet;

pub struct BackendPolicies;

impl Hooks for BackendPolicies {
    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::object_meta(object, false, name::name_is_dns_subdomain, errors);
        validate(object, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validate(object, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let targets: Vec<&str> = list(object, &["spec", "targetRefs"])
            .iter()
            .map(|t| t.str("name"))
            .collect();
        let accepted = list(object, &["status", "conditions"])
            .iter()
            .find(|c| c.str("type") == "Accepted");
        let accepted = match accepted {
            Some(condition) if condition.str("status") == "True" => "True".to_owned(),
            Some(condition) => format!("{} ({})", condition.str("status"), condition.str("reason")),
            None => "Unknown".to_owned(),
        };
        let endpoints = list(object, &["status", "endpoints"]);
        let healthy = endpoints.iter().filter(|e| e.str("state") == "Healthy").count();
        Row::named(object, now_seconds)
            .cell(crate::cells::three(targets, crate::cells::NONE))
            .cell(accepted)
            .cell(format!("{healthy}/{}", endpoints.len()))
            .age()
            .done()
    }
}

const MAX_TARGETS: usize = 64;
const MAX_ADDRESSES: usize = 256;
const MAX_ROUTES: usize = 16;
const MAX_HEADERS: usize = 16;
const DAY_SECONDS: i64 = 24 * 60 * 60;

fn validate(object: &Node, errors: &mut FieldErrors) {
    let root = At::root(object);
    let spec = root.part("spec");
    targets(&spec, errors);
    addresses(&spec, errors);
    if let Some(at) = spec.get("connections") {
        between(&at, "maxHTTP2", 1, 1_000, errors);
        between(&at, "maxIdleHTTP1", 0, 10_000, errors);
        durations(&at, &["idleTimeout", "pingInterval", "pingTimeout"], errors);
    }
    if let Some(at) = spec.get("timeouts") {
        durations(&at, &["connect", "tlsHandshake", "firstByte", "request"], errors);
    }
    if let Some(at) = spec.get("health") {
        health(&at, errors);
    }
    if let Some(at) = spec.get("circuitBreaker") {
        between(&at, "failurePercent", 1, 100, errors);
        between(&at, "minimumRequests", 1, 1_000_000, errors);
        between(&at, "trials", 1, 1_000, errors);
        durations(&at, &["window", "openTime"], errors);
    }
    between(&spec, "maxInFlight", 1, 1_000_000, errors);
    if let Some(at) = spec.get("queue") {
        between(&at, "length", 0, 1_000_000, errors);
        durations(&at, &["timeout"], errors);
    }
    if let Some(at) = spec.get("retries") {
        between(&at, "attempts", 1, 10, errors);
        between(&at, "budgetPercent", 0, 100, errors);
        durations(&at, &["perTryTimeout"], errors);
    }
    if let Some(at) = spec.get("hedging") {
        between(&at, "percentile", 50, 99, errors);
        between(&at, "budgetPercent", 1, 100, errors);
        durations(&at, &["delay"], errors);
    }
    traffic(&spec, errors);
    if let Some(at) = spec.get("cache") {
        for field in ["maxSize", "maxObjectSize"] {
            if at.has(field) {
                common::positive_quantity(&at, field, errors);
            }
        }
    }
    if !spec.str("discovery").is_empty() {
        spec.one_of("discovery", &["LastKnown", "Upstream"], errors);
    }
}

fn targets(spec: &At, errors: &mut FieldErrors) {
    let count = spec.len("targetRefs");
    if count == 0 {
        spec.required("targetRefs", "a policy must be attached to an APIService", errors);
    }
    if count > MAX_TARGETS {
        spec.too_many("targetRefs", count, MAX_TARGETS, errors);
    }
    let mut seen = BTreeSet::new();
    for target in spec.each("targetRefs") {
        let name = target.str("name");
        values::required_path_segment(&target, "name", errors);
        if !name.is_empty() && !name.contains('.') {
            target.invalid("name", name, "must be the name of an APIService: version.group", errors);
        }
        if !seen.insert(name) {
            target.duplicate("name", name, errors);
        }
    }
}

fn addresses(spec: &At, errors: &mut FieldErrors) {
    let count = spec.len("addresses");
    if count > MAX_ADDRESSES {
        spec.too_many("addresses", count, MAX_ADDRESSES, errors);
    }
    if count > 0 && spec.len("traffic") > 0 {
        spec.forbidden("addresses", "may not be set together with `traffic`", errors);
    }
    let mut seen = BTreeSet::new();
    for address in spec.each("addresses") {
        let host = address.str("host");
        if address.require("host", errors) && host.parse::<std::net::IpAddr>().is_err() {
            common::dns_subdomain(&address, "host", errors);
        }
        common::port_number(&address, "port", errors);
        if !seen.insert((host, address.int("port"))) {
            address.duplicate("", format!("{host}:{}", address.int("port")), errors);
        }
    }
}

fn health(health: &At, errors: &mut FieldErrors) {
    if let Some(at) = health.get("active") {
        let path = at.str("path");
        if at.require("path", errors) && !is_path(path) {
            at.invalid("path", path, "must be an absolute path, without a fragment", errors);
        }
        between(&at, "unhealthyThreshold", 1, 100, errors);
        between(&at, "healthyThreshold", 1, 100, errors);
        durations(&at, &["interval", "timeout"], errors);
    }
    if let Some(at) = health.get("passive") {
        between(&at, "consecutiveFailures", 1, 1_000, errors);
        between(&at, "consecutiveErrors", 1, 1_000, errors);
        between(&at, "maxEjectedPercent", 0, 100, errors);
        durations(&at, &["maxLatency", "ejectionTime", "maxEjectionTime"], errors);
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

fn traffic(spec: &At, errors: &mut FieldErrors) {
    let count = spec.len("traffic");
    if count > MAX_ROUTES {
        spec.too_many("traffic", count, MAX_ROUTES, errors);
    }
    let mut total = 0;
    for route in spec.each("traffic") {
        let service = route.part("service");
        for field in ["namespace", "name"] {
            values::required_path_segment(&service, field, errors);
        }
        if service.has("port") {
            common::port_number(&service, "port", errors);
        }
        between(&route, "weight", 0, 1_000_000, errors);
        let headers = route.len("headers");
        if headers > MAX_HEADERS {
            route.too_many("headers", headers, MAX_HEADERS, errors);
        }
        total += route.number("weight").unwrap_or(i64::from(headers == 0)).max(0);
        for header in route.each("headers") {
            let name = header.str("name");
            if header.require("name", errors) && !is_token(name) {
                header.invalid("name", name, "must be the name of an HTTP header", errors);
            }
            if is_identity(name) {
                let detail = "may not be a header that tells who the client is";
                header.invalid("name", name, detail, errors);
            }
        }
    }
    if count > 0 && total == 0 {
        spec.invalid("traffic", Node::Null, "at least one route must have a weight", errors);
    }
}

fn is_token(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Such headers are taken away before a route is chosen: a match on them would never be one.
fn is_identity(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "authorization" || name.starts_with("x-remote-") || name.starts_with("impersonate-")
}

fn between(at: &At, field: &str, least: i64, most: i64, errors: &mut FieldErrors) {
    if let Some(value) = at.number(field)
        && !(least..=most).contains(&value)
    {
        let detail = format!("must be between {least} and {most}, inclusive");
        at.invalid(field, value, detail, errors);
    }
}

/// Each must be a positive Go duration of at most a day.
fn durations(at: &At, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        let Some(text) = at.text(field) else { continue };
        let detail = match GoDuration::parse(text) {
            Err(_) => "must be a duration, such as 250ms or 1m30s",
            Ok(GoDuration(nanoseconds)) if nanoseconds <= 0 => common::NOT_POSITIVE,
            Ok(GoDuration(nanoseconds)) if nanoseconds / 1_000_000_000 > DAY_SECONDS => "must not be longer than 24h",
            Ok(_) => continue,
        };
        at.invalid(field, text, detail, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn complaints(spec: Node) -> Vec<String> {
        let mut object = node!({"metadata": {"name": "p"}, "spec": {"targetRefs": [{"name": "v1.g.example.com"}]}});
        for (key, value) in spec.as_map().expect("a map").iter() {
            object.set_at(&["spec", key], value.clone());
        }
        let mut errors = Vec::new();
        validate(&object, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_full_policy_is_valid() {
        let spec = node!({
            "addresses": [{"host": "10.0.0.1", "port": 6443}, {"host": "api.example.com", "port": 443}],
            "connections": {"pingInterval": "1s"}, "timeouts": {"request": "30s"},
            "health": {"active": {"path": "/healthz?verbose", "interval": "1s"}, "passive": {"maxEjectedPercent": 0}},
            "circuitBreaker": {"failurePercent": 100}, "maxInFlight": 1, "queue": {"length": 0},
            "retries": {"attempts": 1}, "hedging": {"percentile": 95}, "cache": {"maxSize": "1Mi"}, "discovery": "LastKnown",
        });
        assert!(complaints(spec).is_empty());
        let spec = node!({"traffic": [
            {"service": {"namespace": "n", "name": "a"}},
            {"service": {"namespace": "n", "name": "b", "port": 8443}, "headers": [{"name": "X-Canary", "value": "1"}]},
        ]});
        assert!(complaints(spec).is_empty());
    }

    #[test]
    fn mistakes_are_told() {
        let spec = node!({
            "targetRefs": [{"name": "apps"}, {"name": "apps"}],
            "addresses": [{"host": "a_b", "port": 0}],
            "connections": {"maxHTTP2": 0}, "timeouts": {"connect": "soon", "request": "0s", "firstByte": "25h"},
            "health": {"active": {"path": "healthz"}}, "maxInFlight": 0, "cache": {"maxSize": "0"}, "discovery": "Never",
            "traffic": [{"service": {"namespace": "n"}, "headers": [{"name": "X-Remote-User", "value": "a"}]}],
        });
        let told = complaints(spec);
        let expected = [
            "spec.targetRefs[0].name: Invalid value: \"apps\": must be the name of an APIService: version.group",
            "spec.targetRefs[1].name: Invalid value: \"apps\": must be the name of an APIService: version.group",
            "spec.targetRefs[1].name: Duplicate value: \"apps\"",
            "spec.addresses: Forbidden: may not be set together with `traffic`",
            "spec.addresses[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.connections.maxHTTP2: Invalid value: 0: must be between 1 and 1000, inclusive",
            "spec.timeouts.connect: Invalid value: \"soon\": must be a duration, such as 250ms or 1m30s",
            "spec.timeouts.firstByte: Invalid value: \"25h\": must not be longer than 24h",
            "spec.timeouts.request: Invalid value: \"0s\": must be greater than zero",
            "spec.health.active.path: Invalid value: \"healthz\": must be an absolute path, without a fragment",
            "spec.maxInFlight: Invalid value: 0: must be between 1 and 1000000, inclusive",
            "spec.traffic[0].service.name: Required value",
            "spec.traffic[0].headers[0].name: Invalid value: \"X-Remote-User\": may not be a header that tells who the client is",
            "spec.traffic: Invalid value: null: at least one route must have a weight",
            "spec.cache.maxSize: Invalid value: \"0\": must be greater than zero",
            "spec.discovery: Unsupported value: \"Never\": supported values: \"LastKnown\", \"Upstream\"",
        ];
        for line in expected {
            assert!(told.iter().any(|t| t == line), "{line} is not among {told:#?}");
        }
        assert_eq!(told.len(), expected.len() + 1, "{told:#?}"); // The host has a wordy complaint.
    }

    #[test]
    fn a_policy_needs_a_target() {
        let told = complaints(node!({"targetRefs": []}));
        assert_eq!(
            told,
            ["spec.targetRefs: Required value: a policy must be attached to an APIService"]
        );
    }
}
