//! Endpoints.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.

use super::at::At;
use super::common::{self, PROTOCOLS};
use super::services::endpoint_ip;
use fairlead_api::name::ip::is_valid_ip_for_legacy_field;
use fairlead_api::{FieldErrors, Node, name};

pub fn validate(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    if old.is_some() {
        common::finalizers(new, errors);
    }
    common::object_meta(new, true, name::name_is_dns_subdomain, errors);
    // What an update leaves alone was valid when it was written.
    if old.is_some_and(|old| old.list("subsets") == new.list("subsets")) {
        return;
    }
    let root = At::root(new);
    for subset in root.each("subsets") {
        if subset.len("addresses") + subset.len("notReadyAddresses") == 0 {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            subset.required("", detail, errors);
        }
        for list in ["addresses", "notReadyAddresses"] {
            subset.each(list).for_each(|address| endpoint_address(&address, errors));
        }
        let needs_name = subset.len("ports") > 1;
        subset
            .each("ports")
            .for_each(|port| endpoint_port(&port, needs_name, errors));
    }
}

fn endpoint_address(at: &At, errors: &mut FieldErrors) {
    let address = at.str("ip");
    at.complain("ip", address, is_valid_ip_for_legacy_field(address), errors);
    if !at.str("hostname").is_empty() {
        common::dns_label(at, "hostname", errors);
    }
    if at.has("nodeName") {
        common::dns_subdomain(at, "nodeName", errors);
    }
    at.complain("ip", address, endpoint_ip(address), errors);
}

fn endpoint_port(port: &At, needs_name: bool, errors: &mut FieldErrors) {
    if !port.str("name").is_empty() {
        common::dns_label(port, "name", errors);
    } else if needs_name {
        port.required("name", "", errors);
    }
    common::port_number(port, "port", errors);
    port.required_one_of("protocol", PROTOCOLS, errors);
    if port.has("appProtocol") {
        common::qualified_name(port, "appProtocol", errors);
    }
}
