//! Pods, and the pod specs that other kinds have templates of.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.
// PERFORMANCE: per-request path

pub mod annotations;
mod containers;
mod environment;
mod handlers;
mod leniency;
mod mounts;
mod network;
mod operating_system;
mod projections;
mod resize;
mod resources;
pub mod scheduling;
mod security;
mod spec;
mod spread;
mod status;
mod update;
mod volumes;
pub mod warnings;
mod windows;

pub use leniency::Leniency;
pub use resize::validate_resize;
pub use resources::overhead;
pub use spec::{template, template_metadata};
pub use status::validate_status;
pub use update::{validate_ephemeral_containers, validate_update};

use super::at::At;
use super::common;
use fairlead_api::{FieldErrors, Node, name};

/// A new pod.
pub fn validate_create(pod: &Node, errors: &mut FieldErrors) {
    let leniency = Leniency::of_new_pod();
    validate_whole(pod, &leniency, errors);
    let root = At::root(pod);
    let spec = root.part("spec");
    if spec.len("ephemeralContainers") > 0 {
        spec.forbidden("ephemeralContainers", "cannot be set on create", errors);
    }
    if !spec.str("nodeName").is_empty() && spec.len("schedulingGates") > 0 {
        let detail = "cannot be set until all schedulingGates have been cleared";
        spec.forbidden("nodeName", detail, errors);
    }
    annotations::seccomp_agrees(pod, &spec, errors);
    annotations::apparmor_agrees(pod, &spec, errors);
}

/// Metadata and spec: what creates and updates have in common.
fn validate_whole(pod: &Node, leniency: &Leniency, errors: &mut FieldErrors) {
    common::object_meta(pod, true, name::name_is_dns_subdomain, errors);
    let root = At::root(pod);
    let spec = root.part("spec");
    annotations::validate(pod, &spec, leniency, errors);
    spec::validate_spec(&spec, pod.meta(), leniency, errors);
    if spec.str("serviceAccountName").is_empty() {
        token_needs_account(&spec, errors);
    }
    for list in ["containers", "initContainers"] {
        for container in spec.each(list) {
            containers::image_without_spaces(&container, errors);
        }
    }
}

fn token_needs_account(spec: &At, errors: &mut FieldErrors) {
    for volume in spec.each("volumes") {
        let Some(projected) = volume.get("projected") else {
            continue;
        };
        for source in projected.each("sources") {
            if source.has("serviceAccountToken") {
                let detail = "must not be specified when serviceAccountName is not set";
                source.forbidden("serviceAccountToken", detail, errors);
            }
        }
    }
}

/// A PodTemplate object.
pub fn pod_template(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    match old {
        None => common::object_meta(new, true, name::name_is_dns_subdomain, errors),
        Some(_) => common::finalizers(new, errors),
    }
    let leniency = Leniency::of_template(old.and_then(|old| old.get("template")));
    template(&At::root(new), "template", &leniency, errors);
}

/// Runs on every container: init containers, containers, ephemeral containers.
fn each_container<'a>(spec: &'a At<'a>) -> impl Iterator<Item = At<'a>> + use<'a> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| spec.each(list))
}
