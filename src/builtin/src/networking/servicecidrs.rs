//! ServiceCIDRs.

use crate::cells::{Row, join};
use crate::validation::at::At;
use crate::validation::common::{self, IMMUTABLE};
use crate::validation::shown;
use crate::value::{keep_metadata, list};
use fairlead_api::name::{self, ip};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct ServiceCIDRs;

impl Hooks for ServiceCIDRs {
    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        keep_metadata(object, old);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            _ => &[&["status"]],
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::object_meta(object, false, name::name_is_dns_subdomain, errors);
        ranges(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::finalizers(object, errors);
        changes(object, old, errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        common::finalizers(object, errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let ranges = join(list(object, &["spec", "cidrs"]).iter().filter_map(Node::as_str), ",");
        Row::named(object, now_seconds).cell(ranges).age().done()
    }
}

/// Source of the rules, their order and wording: kubernetes pkg/apis/networking/validation/validation.go.
fn ranges(object: &Node, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    let ranges = spec.list("cidrs");
    if ranges.is_empty() {
        return spec.required("cidrs", "at least one CIDR required", errors);
    }
    if ranges.len() > 2 {
        let shown = shown::json("networking.ServiceCIDRSpec", Some(spec.node));
        return spec.invalid_shown("cidrs", shown, "may only hold up to 2 values", errors);
    }
    for range in spec.each("cidrs") {
        let text = range.node.as_str().unwrap_or_default();
        range.complain("", text, ip::is_valid_cidr(text), errors);
    }
    let family = |node: &Node| ip::parse_cidr_sloppy(node.as_str()?).map(|range| range.network().address.is_ipv4());
    if let [first, second] = ranges
        && family(first).is_some()
        && family(first) == family(second)
    {
        spec.invalid(
            "cidrs",
            ranges.to_vec(),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            errors,
        );
    }
}

/// A second range may be added; nothing else changes.
fn changes(object: &Node, old: &Node, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.part("spec");
    let (new, old) = (spec.list("cidrs"), list(old, &["spec", "cidrs"]));
    let added = (old.len(), new.len()) == (1, 2);
    if !added && old.len() != new.len() {
        let shown = shown::json("[]string", spec.node.get("cidrs"));
        return spec.invalid_shown("cidrs", shown, IMMUTABLE, errors);
    }
    for (range, old) in spec.each("cidrs").zip(old) {
        if range.node != old {
            range.invalid("", range.node.clone(), IMMUTABLE, errors);
        }
    }
    if added {
        ranges(object, errors);
    }
}
