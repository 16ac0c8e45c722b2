//! What EndpointSlices are checked for.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/discovery/validation/validation.go.
// PERFORMANCE: per-request path

use crate::validation::at::At;
use crate::validation::{common, shown};
use fairlead_api::metadata::complain;
use fairlead_api::name::{self, ip};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node};
use std::collections::BTreeSet;
use std::net::IpAddr;

const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const MAX_LABELS: usize = 16;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_ENDPOINTS: usize = 1000;
const MAX_HINTS: usize = 8;

/// `old` is what is stored.
pub fn validate(object: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    common::object_meta(object, true, name::name_is_dns_subdomain, errors);
    let at = At::root(object);
    at.required_one_of("addressType", ADDRESS_TYPES, errors);
    ports(&at, errors);
    let before = errors.len();
    endpoints(&at, errors);
    // What was accepted once stays as long as nobody touches it.
    if errors.len() > before
        && old.is_some_and(|old| shown::equal("[]discovery.Endpoint", old.get("endpoints"), object.get("endpoints")))
    {
        errors.truncate(before);
    }
    if let Some(old) = old {
        common::immutable(&at, old, "addressType", "string", errors);
    }
}

/// What to say about an accepted slice. Upstream's controllers write none of this.
pub fn warnings(object: &Node, new: bool) -> Vec<String> {
    const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
    const CONTROLLERS: [&str; 2] = [
        "endpointslice-controller.k8s.io",
        "endpointslicemirroring-controller.k8s.io",
    ];
    let mut warnings = Vec::new();
    if new && object.str("addressType") == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let manager = object
        .labels()
        .and_then(|labels| labels.get(MANAGED_BY))
        .and_then(Node::as_str);
    if manager.is_some_and(|manager| CONTROLLERS.contains(&manager)) {
        return warnings;
    }
    let at = At::root(object);
    for endpoint in at.each("endpoints") {
        for address in endpoint.each("addresses") {
            let warning = ip::ip_warning(address.node.as_str().unwrap_or_default());
            warnings.extend(warning.map(|warning| format!("{}: {warning}", address.path())));
        }
    }
    warnings
}

// === ports ===

fn ports(at: &At, errors: &mut FieldErrors) {
    if at.len("ports") > MAX_PORTS {
        return at.too_many("ports", at.len("ports"), MAX_PORTS, errors);
    }
    let mut names = BTreeSet::new();
    for port in at.each("ports") {
        let name = port.str("name");
        if !name.is_empty() {
            common::dns_label(&port, "name", errors);
        }
        if !names.insert(name) {
            port.duplicate("name", name, errors);
        }
        match port.has("protocol") {
            true => port.one_of("protocol", common::PROTOCOLS, errors),
            false => port.required("protocol", "", errors),
        }
        if port.has("appProtocol") {
            common::qualified_name(&port, "appProtocol", errors);
        }
    }
}

// === endpoints ===

fn endpoints(at: &At, errors: &mut FieldErrors) {
    if at.len("endpoints") > MAX_ENDPOINTS {
        return at.too_many("endpoints", at.len("endpoints"), MAX_ENDPOINTS, errors);
    }
    for endpoint in at.each("endpoints") {
        self::endpoint(&endpoint, at.str("addressType"), errors);
    }
}

fn endpoint(at: &At, kind: &str, errors: &mut FieldErrors) {
    match at.len("addresses") {
        0 => at.required("addresses", "must contain at least 1 address", errors),
        count if count > MAX_ADDRESSES => at.too_many("addresses", count, MAX_ADDRESSES, errors),
        _ => {}
    }
    for address in at.each("addresses") {
        let text = address.node.as_str().unwrap_or_default();
        match kind {
            "IPv4" => ip(at, &address, text, ip::is_valid_ip_for_legacy_field(text), kind, errors),
            "IPv6" => ip(at, &address, text, ip::is_valid_ip(text), kind, errors),
            "FQDN" => domain(&address, text, errors),
            _ => {}
        }
    }
    if at.has("nodeName") {
        common::dns_subdomain(at, "nodeName", errors);
    }
    topology(at, errors);
    if at.has("hostname") {
        common::dns_label(at, "hostname", errors);
    }
    if let Some(hints) = at.get("hints") {
        self::hints(&hints, errors);
    }
}

fn ip(endpoint: &At, at: &At, text: &str, complaints: Vec<String>, kind: &str, errors: &mut FieldErrors) {
    let Some(address) = ip::parse_sloppy(text).filter(|_| complaints.is_empty()) else {
        return at.complain("", text, complaints, errors);
    };
    if address.is_ipv4() != (kind == "IPv4") {
        // COMPAT: this one is told of the list.
        endpoint.invalid("addresses", text, format!("must be an {kind} address"), errors);
    }
    for complaint in unreachable(address, text) {
        at.invalid("", text, complaint, errors);
    }
}

/// What is against an address that others shall reach.
pub fn unreachable(address: IpAddr, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if address.is_unspecified() {
        complaints.push(format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        complaints.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    let (link_local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        complaints.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if multicast {
        complaints.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    complaints
}

fn domain(at: &At, text: &str, errors: &mut FieldErrors) {
    if text.is_empty() {
        return at.required("", "", errors);
    }
    let domain = text.strip_suffix('.').unwrap_or(text);
    let complaints = name::is_dns1123_subdomain(domain);
    if !complaints.is_empty() {
        at.invalid("", domain, complaints.join(","), errors);
    } else if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        at.invalid("", domain, detail, errors);
    } else if let Some(label) = domain
        .split('.')
        .find(|label| !name::is_dns1123_label(label).is_empty())
    {
        at.invalid("", label, name::is_dns1123_label(label).join(","), errors);
    }
}

fn topology(at: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "deprecatedTopology";
    const ZONE: &str = "topology.kubernetes.io/zone";
    if at.len(FIELD) > MAX_LABELS {
        at.too_many(FIELD, at.len(FIELD), MAX_LABELS, errors);
    }
    common::labels(at, FIELD, errors);
    if at.node.at(&[FIELD, ZONE]).is_some() {
        let path: FieldPath = at.path_of(FIELD).key(ZONE);
        errors.push(FieldError::internal(
            &path,
            "reserved key was not removed in conversion",
        ));
    }
}

fn hints(at: &At, errors: &mut FieldErrors) {
    let rules: [(&str, fn(&str) -> Vec<String>); 2] = [
        ("forZones", name::is_valid_label_value),
        ("forNodes", name::is_dns1123_subdomain),
    ];
    for (field, rule) in rules {
        if at.len(field) > MAX_HINTS {
            return at.too_many(field, at.len(field), MAX_HINTS, errors);
        }
        let mut names = BTreeSet::new();
        for hint in at.each(field) {
            let name = hint.str("name");
            if !names.insert(name) {
                hint.duplicate("name", name, errors);
            }
            complain(errors, &hint.path_of("name"), name, rule(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn complaints(kind: &str, address: &str) -> Vec<String> {
        let mut object = node!({"metadata": {"name": "a", "namespace": "b"}, "addressType": kind});
        let mut endpoint = node!({});
        endpoint.set("addresses", vec![Node::string(address)]);
        object.set("endpoints", vec![endpoint]);
        let mut errors = Vec::new();
        validate(&object, None, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_are_of_their_type() {
        assert!(complaints("IPv4", "10.1.2.3").is_empty());
        assert!(complaints("FQDN", "a.example.com.").is_empty());
        assert_eq!(
            complaints("IPv4", "::1"),
            [
                r#"endpoints[0].addresses: Invalid value: "::1": must be an IPv4 address"#,
                r#"endpoints[0].addresses[0]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            ]
        );
        assert_eq!(complaints("IPv6", "FD00::1").len(), 1);
        assert_eq!(complaints("FQDN", "host").len(), 1);
    }
}
