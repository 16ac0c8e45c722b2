//! Addresses of services and of what stands behind them, and their families.

use super::super::at::At;
use super::super::{common, shown};
use super::is_headless;
use fairlead_api::name::ip::{is_valid_ip_for_legacy_field, parse_sloppy};
use fairlead_api::{FieldError, FieldErrors, Node, name};
use std::collections::HashSet;
use std::net::IpAddr;

const UNCHANGEABLE: &str = "may not change once set";

/// Cluster addresses and their families. Also checked by itself, before addresses are given.
pub fn cluster_ips(spec: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    if spec.str("type") == "ExternalName" {
        return;
    }
    let (single, all) = (spec.str("clusterIP"), spec.list("clusterIPs"));
    let of_all = |detail: &str, errors: &mut FieldErrors| {
        let text = shown::json("[]string", spec.node.get("clusterIPs"));
        spec.invalid_shown("clusterIPs", text, detail, errors);
    };
    match (single, all.first()) {
        ("", Some(_)) => of_all("must be empty when `clusterIP` is not specified", errors),
        ("", None) => {}
        (_, None) => spec.required("clusterIPs", "", errors),
        (single, Some(first)) if first.as_str() != Some(single) => {
            of_all("first value must match `clusterIP`", errors);
        }
        _ => {}
    }
    families(spec, errors);
    let known: HashSet<&str> = old
        .map_or(&[][..], |old| old.list("clusterIPs"))
        .iter()
        .filter_map(Node::as_str)
        .collect();
    let mut broken = false;
    for (i, address) in spec.strings("clusterIPs") {
        if i == 0 && address == "None" {
            if all.len() > 1 {
                broken = true;
                of_all("'None' must be the first and only value", errors);
            }
        } else if !known.contains(address) {
            let complaints = is_valid_ip_for_legacy_field(address);
            broken |= !complaints.is_empty();
            let path = spec.path_of("clusterIPs").index(i);
            fairlead_api::metadata::complain(errors, &path, address, complaints);
        }
    }
    if all.len() > 2 {
        of_all("may only hold up to 2 values", errors);
    }
    if broken {
        return;
    }
    let parsed: Vec<Option<IpAddr>> = spec
        .strings("clusterIPs")
        .map(|(_, address)| parse_sloppy(address))
        .collect();
    let has = |v4: bool| parsed.iter().flatten().any(|address| address.is_ipv4() == v4);
    if all.len() > 1 && !(has(true) && has(false)) {
        of_all("may specify no more than one IP for each IP family", errors);
    }
    if !is_headless(spec.node) {
        for ((i, address), (_, family)) in spec.strings("clusterIPs").zip(spec.strings("ipFamilies")) {
            let v6 = parsed[i].is_some_and(|address| address.is_ipv6());
            if (family == "IPv4" && v6) || (family == "IPv6" && !v6) {
                let path = spec.path_of("clusterIPs").index(i);
                let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.push(FieldError::invalid(&path, address, detail));
            }
        }
    }
}

fn families(spec: &At, errors: &mut FieldErrors) {
    const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    let mut seen = HashSet::new();
    for family in spec.each("ipFamilies") {
        let text = family.node.as_str().unwrap_or_default();
        if !matches!(text, "IPv4" | "IPv6") {
            family.not_supported("", text, &["IPv4", "IPv6"], errors);
        }
        if !seen.insert(text) {
            family.duplicate("", text, errors);
        }
    }
    spec.one_of_if_set("ipFamilyPolicy", POLICIES, errors);
}

// === updates ===

/// A second address may come and go; the first stays, except from and to an external name.
pub fn cluster_ips_update(spec: &At, old: &Node, errors: &mut FieldErrors) {
    if named(spec.node, old) || (is_headless(spec.node) && is_headless(old)) {
        return;
    }
    let (now, before) = (spec.list("clusterIPs"), old.list("clusterIPs"));
    let at = |index: usize, detail: &str, errors: &mut FieldErrors| {
        let text = shown::json("[]string", spec.node.get("clusterIPs"));
        let path = spec.path_of("clusterIPs").index(index);
        errors.push(FieldError::invalid(&path, Node::Null, detail).showing(text));
    };
    if now.len() == before.len() {
        for i in (0..now.len()).filter(|i| now[*i] != before[*i]) {
            at(i, UNCHANGEABLE, errors);
        }
        return;
    }
    if now.is_empty() {
        at(0, "primary clusterIP can not be unset", errors);
    }
    if let (Some(now), Some(before)) = (now.first(), before.first())
        && now != before
    {
        at(0, UNCHANGEABLE, errors);
    }
    if before.len() > now.len() && now.len() == 1 {
        single_stack(spec, "clusterIP", errors);
    }
}

pub fn families_update(spec: &At, old: &Node, errors: &mut FieldErrors) {
    if named(spec.node, old) || is_headless(spec.node) || is_headless(old) {
        return;
    }
    let (now, before) = (spec.list("ipFamilies"), old.list("ipFamilies"));
    // COMPAT: some of these show the addresses in place of the families.
    let at = |field: &str, detail: &str, errors: &mut FieldErrors| {
        let text = shown::json("[]string", spec.node.get(field));
        let path = spec.path_of("ipFamilies").index(0);
        errors.push(FieldError::invalid(&path, Node::Null, detail).showing(text));
    };
    if now.len() == before.len() {
        for _ in (0..now.len()).filter(|i| now[*i] != before[*i]) {
            at("ipFamilies", UNCHANGEABLE, errors);
        }
        return;
    }
    if before.len() > now.len() && spec.len("clusterIPs") == 0 {
        at("ipFamilies", "primary ipFamily can not be unset", errors);
    }
    if let (Some(now), Some(before)) = (now.first(), before.first())
        && now != before
    {
        at("clusterIPs", UNCHANGEABLE, errors);
    }
    if before.len() > now.len() && now.len() == 1 {
        single_stack(spec, "ipFamily", errors);
    }
}

fn named(spec: &Node, old: &Node) -> bool {
    spec.str("type") == "ExternalName" || old.str("type") == "ExternalName"
}

fn single_stack(spec: &At, what: &str, errors: &mut FieldErrors) {
    if spec.str("ipFamilyPolicy") != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        let path = spec.path_of("ipFamilyPolicy");
        errors.push(common::changed(
            &path,
            spec.node.get("ipFamilyPolicy"),
            "*string",
            &detail,
        ));
    }
}

// === other addresses ===

pub fn external_ips(spec: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    let known: HashSet<&str> = old
        .map_or(&[][..], |old| old.list("externalIPs"))
        .iter()
        .filter_map(Node::as_str)
        .collect();
    for external in spec.each("externalIPs") {
        let address = external.node.as_str().unwrap_or_default();
        let complaints = match known.contains(address) {
            true => Vec::new(),
            false => is_valid_ip_for_legacy_field(address),
        };
        match complaints.is_empty() {
            true => external.complain("", address, endpoint_ip(address), errors),
            false => external.complain("", address, complaints, errors),
        }
    }
}

/// An address that traffic can be sent to.
pub fn endpoint_ip(text: &str) -> Vec<String> {
    let Some(address) = parse_sloppy(text) else {
        return vec!["must be a valid IP address".into()];
    };
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    let rules = [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".into(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into(),
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into(),
        ),
    ];
    rules
        .into_iter()
        .filter(|(broken, _)| *broken)
        .map(|(_, complaint)| complaint)
        .collect()
}

/// Where a load balancer takes traffic in, `at` being `status.loadBalancer`.
pub fn load_balancer_status(at: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    let known: HashSet<&str> = old
        .map_or(&[][..], |old| old.list("ingress"))
        .iter()
        .map(|i| i.str("ip"))
        .collect();
    for ingress in at.each("ingress") {
        let (address, hostname) = (ingress.str("ip"), ingress.str("hostname"));
        if !address.is_empty() && !known.contains(address) {
            ingress.complain("ip", address, is_valid_ip_for_legacy_field(address), errors);
        }
        match (ingress.has("ipMode"), address.is_empty()) {
            (false, false) => ingress.required("ipMode", "must be specified when `ip` is set", errors),
            (true, true) => ingress.forbidden("ipMode", "may not be specified when `ip` is not set", errors),
            (true, false) => ingress.one_of("ipMode", &["Proxy", "VIP"], errors),
            (false, true) => {}
        }
        if !hostname.is_empty() {
            ingress.complain("hostname", hostname, name::is_dns1123_subdomain(hostname), errors);
            if parse_sloppy(hostname).is_some() {
                let detail = "must be a DNS name, not an IP address";
                ingress.invalid("hostname", hostname, detail, errors);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn traffic_goes_to_real_addresses() {
        assert!(endpoint_ip("10.1.2.3").is_empty());
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.5",
            "x",
        ] {
            assert_eq!(endpoint_ip(bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn the_first_address_stays() {
        let old = node!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"]});
        let new = node!({"type": "ClusterIP", "clusterIPs": ["10.0.0.2"]});
        let mut errors = Vec::new();
        cluster_ips_update(&At::named(&new, "spec"), &old, &mut errors);
        assert_eq!(
            errors[0].to_string(),
            r#"spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set"#
        );
    }
}
