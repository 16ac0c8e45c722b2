//! Defaults of device requests, shared by claims and claim templates.

use crate::value::{each, int, or, with};
use fairlead_api::Node;

/// Defaults of a ResourceClaimSpec.
pub fn default_claim_spec(spec: &mut Node) {
    let Some(devices) = spec.get_mut("devices") else { return };
    each(devices, "requests", |request| {
        with(request, &["exactly"], default_request);
        each(request, "firstAvailable", default_request);
    });
}

fn default_request(request: &mut Node) {
    or(request, "allocationMode", "ExactCount");
    if request.str("allocationMode") == "ExactCount" && int(request, &["count"]) == 0 {
        request.set("count", 1);
    }
    default_tolerations(request);
}

pub fn default_tolerations(holder: &mut Node) {
    each(holder, "tolerations", |toleration| or(toleration, "operator", "Equal"));
}
