//! How a pod is on the network: host ports, names, name servers.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::common;
use super::Leniency;
use fairlead_api::{FieldErrors, name};

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// On the host's network, ports of the host are the containers' own. Templates may leave them out.
pub fn host_ports(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for container in spec.each("containers") {
        for port in container.each("ports") {
            let host = port.int("hostPort");
            if (leniency.is_pod || host != 0) && host != port.int("containerPort") {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                port.invalid("hostPort", host, detail, errors);
            }
        }
    }
}

pub fn dns(spec: &At, errors: &mut FieldErrors) {
    let none = spec.str("dnsPolicy") == "None";
    let Some(config) = spec.get("dnsConfig") else {
        if none {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            spec.required("dnsConfig", detail, errors);
        }
        return;
    };
    let servers = config.len("nameservers");
    if none && servers == 0 {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        config.required("nameservers", detail, errors);
        return;
    }
    if servers > MAX_SERVERS {
        let detail = format!("must not have more than {MAX_SERVERS} nameservers");
        config.invalid("nameservers", config.list("nameservers").to_vec(), detail, errors);
    }
    for server in config.each("nameservers") {
        let address = server.node.as_str().unwrap_or_default();
        server.complain("", address, name::ip::is_valid_ip_for_legacy_field(address), errors);
    }
    searches(&config, errors);
    for option in config.each("options") {
        if option.str("name").is_empty() {
            option.required("", "must not be empty", errors);
        }
    }
}

fn searches(config: &At, errors: &mut FieldErrors) {
    let count = config.len("searches");
    let all = || config.list("searches").to_vec();
    if count > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        config.invalid("searches", all(), detail, errors);
    }
    let length: usize = config.strings("searches").map(|(_, search)| search.len() + 1).sum();
    if length > MAX_SEARCH_CHARACTERS + 1 {
        let detail =
            format!("must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list");
        config.invalid("searches", all(), detail, errors);
    }
    for search in config.each("searches") {
        let text = search.node.as_str().unwrap_or_default();
        if text != "." {
            let text = text.strip_suffix('.').unwrap_or(text);
            search.complain("", text, name::is_dns1123_subdomain_with_underscore(text), errors);
        }
    }
}

pub fn host_aliases(spec: &At, errors: &mut FieldErrors) {
    for alias in spec.each("hostAliases") {
        let address = alias.str("ip");
        alias.complain("ip", address, name::ip::is_valid_ip_for_legacy_field(address), errors);
        for hostname in alias.each("hostnames") {
            let text = hostname.node.as_str().unwrap_or_default();
            hostname.complain("", text, name::is_dns1123_subdomain(text), errors);
        }
    }
}

pub fn hostname_override(spec: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "hostnameOverride";
    let Some(hostname) = spec.text(FIELD) else { return };
    if spec.flag("setHostnameAsFQDN") {
        let detail = "may not be specified when setHostnameAsFQDN is true";
        spec.forbidden(FIELD, detail, errors);
    }
    if spec.flag("hostNetwork") {
        spec.forbidden(FIELD, "may not be specified when hostNetwork is true", errors);
    }
    if hostname.len() > 64 {
        spec.too_long(FIELD, 64, errors);
    }
    common::dns_subdomain(spec, FIELD, errors);
}
