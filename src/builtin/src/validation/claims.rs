//! Persistent volume claims, and the templates of them in pods and stateful sets.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.

use super::at::At;
use super::common::{self, quantity};
use super::pod::warnings::fractional;
use super::resource_names::{basic_quantity, is_native, resource_quantity};
use super::{difference, shown};
use fairlead_api::metadata::{SelectorLeniency, validate_annotations, validate_labels};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const SPEC: &str = "core.PersistentVolumeClaimSpec";

/// What an update may keep although a new claim could not have it.
#[derive(Clone, Copy, Default)]
pub struct Leniency {
    selector_values: bool,
    api_groups: bool,
}

impl Leniency {
    fn of(old: &Node) -> Leniency {
        let spec = At::named(old.get("spec").unwrap_or(&Node::Null), "spec");
        let mut errors = FieldErrors::new();
        common::label_selector(&spec, "selector", &mut errors);
        let group = |field: &str| spec.node.at(&[field, "apiGroup"]).is_some_and(|group| !group.is_null());
        Leniency {
            selector_values: !errors.is_empty(),
            api_groups: group("dataSource") || group("dataSourceRef"),
        }
    }
}

pub fn validate_create(claim: &Node, errors: &mut FieldErrors) {
    validate(claim, &Leniency::default(), errors);
}

fn validate(claim: &Node, leniency: &Leniency, errors: &mut FieldErrors) {
    common::object_meta(claim, true, name::name_is_dns_subdomain, errors);
    spec(&At::root(claim).part("spec"), leniency, errors);
}

/// A claim that is yet to be made: nothing of its metadata but labels and annotations counts.
pub fn template(at: &At, errors: &mut FieldErrors) {
    template_meta(&at.part("metadata"), errors);
    spec(&at.part("spec"), &Leniency::default(), errors);
}

/// Metadata of what is yet to be made: labels and annotations only.
pub fn template_meta(meta: &At, errors: &mut FieldErrors) {
    let annotations = meta.node.get("annotations");
    errors.extend(validate_annotations(annotations, &meta.path_of("annotations")));
    errors.extend(validate_labels(meta.node.get("labels"), &meta.path_of("labels")));
    for field in [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ] {
        if meta.node.get(field).is_some_and(|value| !value.is_zero()) {
            // COMPAT: the uid is reported by its Go name.
            let shown = if field == "uid" { "uID" } else { field };
            meta.forbidden(shown, "cannot be set", errors);
        }
    }
}

pub fn spec(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    if spec.len("accessModes") == 0 {
        spec.required("accessModes", "at least 1 access mode is required", errors);
    }
    let selectors = SelectorLeniency {
        any_values: leniency.selector_values,
        ..SelectorLeniency::default()
    };
    common::label_selector_with(spec, "selector", selectors, errors);
    access_modes(spec, errors);
    storage(spec, errors);
    class_name(spec, "storageClassName", errors);
    spec.one_of_if_set("volumeMode", VOLUME_MODES, errors);
    data_sources(spec, leniency, errors);
    class_name(spec, "volumeAttributesClassName", errors);
}

pub fn access_modes(spec: &At, errors: &mut FieldErrors) {
    let (mut single_pod, mut other) = (false, false);
    for (_, mode) in spec.strings("accessModes") {
        let known = ACCESS_MODES.contains(&mode);
        if !known {
            spec.not_supported("accessModes", mode, ACCESS_MODES, errors);
        }
        single_pod |= mode == "ReadWriteOncePod";
        other |= known && mode != "ReadWriteOncePod";
    }
    if single_pod && other {
        let detail = "may not use ReadWriteOncePod with other access modes";
        spec.forbidden("accessModes", detail, errors);
    }
}

fn class_name(spec: &At, field: &str, errors: &mut FieldErrors) {
    if !spec.str(field).is_empty() {
        common::dns_subdomain(spec, field, errors);
    }
}

/// COMPAT: requests are reported as if they were resources.
fn storage(spec: &At, errors: &mut FieldErrors) {
    let requests = spec.node.at(&["resources", "requests"]);
    let Some(storage) = requests.and_then(|requests| requests.get("storage")) else {
        let path = spec.path_of("resources").key("storage");
        errors.push(FieldError::required(&path, ""));
        return;
    };
    if quantity(Some(storage)).sign() > 0 {
        return;
    }
    let path = spec.path_of("resources").key("storage");
    let at = At::named(storage, path.as_str());
    common::positive_quantity(&at, "", errors);
}

fn data_sources(spec: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for source in [&source, &reference].into_iter().flatten() {
        data_source(source, leniency, errors);
    }
    if let Some(reference) = &reference
        && !reference.str("namespace").is_empty()
    {
        common::dns_label(reference, "namespace", errors);
    }
    let (Some(source), Some(reference)) = (source, reference) else {
        return;
    };
    let detail = if !reference.str("namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if ["apiGroup", "kind", "name"]
        .iter()
        .any(|f| source.text(f) != reference.text(f))
    {
        "must match dataSourceRef"
    } else {
        return;
    };
    // COMPAT: the value shown is a path, of which nothing can be seen.
    spec.invalid_shown("", "{}".into(), detail, errors);
}

fn data_source(source: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    source.require("name", errors);
    source.require("kind", errors);
    let group = source.str("apiGroup");
    if group.is_empty() && source.str("kind") != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        source.invalid("", source.str("kind"), detail, errors);
    }
    if !group.is_empty() && !leniency.api_groups {
        common::dns_subdomain(source, "apiGroup", errors);
    }
}

// === updates ===

pub fn validate_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    validate(new, &Leniency::of(old), errors);
    let (mut masked, mut before) = (spec_of(new), spec_of(old));
    if before.str("volumeName").is_empty() {
        copy(&mut before, &masked, "volumeName");
    }
    let class = |object: &Node| object.annotations().and_then(|a| a.get(BETA_CLASS)).cloned();
    let (new_class, old_class) = (class(new), class(old));
    let set = masked.get("storageClassName").filter(|name| !name.is_null()).cloned();
    let was_set = before.get("storageClassName").is_some_and(|name| !name.is_null());
    let from_annotation =
        old_class.is_some() && !was_set && set == old_class && (new_class.is_none() || new_class == old_class);
    if from_annotation {
        masked.remove("storageClassName");
    } else {
        beta_class_is_immutable(new_class.as_ref(), old_class.as_ref(), errors);
        if set.is_some() && !was_set && (old_class.is_none() || set == old_class) {
            masked.remove("storageClassName");
        }
    }
    if new.str_at(&["status", "phase"]) == "Bound" {
        if masked.at(&["resources", "requests"]).is_some() {
            let storage = before.at(&["resources", "requests", "storage"]).cloned();
            masked.set_at(
                &["resources", "requests", "storage"],
                storage.unwrap_or_else(|| Node::string("0")),
            );
        }
        copy(&mut masked, &before, "volumeAttributesClassName");
    }
    if !shown::equal(SPEC, Some(&masked), Some(&before)) {
        let difference = difference::unified(&shown::pretty(SPEC, Some(&before)), &shown::pretty(SPEC, Some(&masked)));
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{difference}"
        );
        errors.push(FieldError::forbidden(&FieldPath::new("spec"), detail));
    }
    size_update(new, old, errors);
    let path = FieldPath::root();
    common::immutable(
        &At::named(new.get("spec").unwrap_or(&Node::Null), path.as_str()),
        old.get("spec").unwrap_or(&Node::Null),
        "volumeMode",
        "*string",
        errors,
    );
    attributes_class_update(new, old, errors);
}

fn spec_of(claim: &Node) -> Node {
    claim.get("spec").cloned().unwrap_or_else(Node::map)
}

fn copy(to: &mut Node, from: &Node, field: &str) {
    match from.get(field) {
        Some(value) => to.set(field, value.clone()),
        None => {
            to.remove(field);
        }
    }
}

fn beta_class_is_immutable(new: Option<&Node>, old: Option<&Node>, errors: &mut FieldErrors) {
    let text = |node: Option<&Node>| node.and_then(Node::as_str).unwrap_or_default().to_owned();
    if text(new) != text(old) {
        let path = FieldPath::new("metadata.annotations").child(BETA_CLASS);
        errors.push(FieldError::invalid(&path, text(new), common::IMMUTABLE));
    }
}

/// Less may be requested only while it is still more than there is.
fn size_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
    const REQUEST: &[&str] = &["spec", "resources", "requests", "storage"];
    let size = quantity(new.at(REQUEST));
    if size < quantity(old.at(REQUEST)) && size <= quantity(old.at(&["status", "capacity", "storage"])) {
        let path = FieldPath::new("spec.resources.requests.storage");
        errors.push(FieldError::forbidden(
            &path,
            "field can not be less than status.capacity",
        ));
    }
}

fn attributes_class_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
    const CLASS: &[&str] = &["spec", "volumeAttributesClassName"];
    let text = |object: &Node| object.at(CLASS).and_then(Node::as_str).map(str::to_owned);
    let applied = old.at(&["status", "currentVolumeAttributesClassName"]);
    if text(new) == text(old) || applied.is_none_or(Node::is_null) {
        return;
    }
    let detail = match text(new).as_deref() {
        None => "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
        Some("") => "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil",
        Some(_) => return,
    };
    errors.push(FieldError::forbidden(
        &FieldPath::new("spec.volumeAttributesClassName"),
        detail,
    ));
}

pub fn validate_status(new: &Node, errors: &mut FieldErrors) {
    const STATUSES: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    common::finalizers(new, errors);
    if new
        .at(&["spec", "accessModes"])
        .and_then(Node::as_list)
        .is_none_or(Vec::is_empty)
    {
        errors.push(FieldError::required(&FieldPath::new("Spec.accessModes"), ""));
    }
    let root = At::root(new);
    let status = root.part("status");
    for (_, amount) in status.entries("capacity") {
        basic_quantity(&amount, errors);
    }
    for (resource, value) in status.entries("allocatedResourceStatuses") {
        resource_key(&status, "allocatedResourceStatuses", resource, errors);
        if !STATUSES.contains(&value.node.as_str().unwrap_or_default()) {
            // COMPAT: it is the resource that is told to be unsupported.
            status.not_supported("allocatedResourceStatuses", resource, STATUSES, errors);
        }
    }
    for (resource, amount) in status.entries("allocatedResources") {
        let before = errors.len();
        resource_key(&status, "allocatedResources", resource, errors);
        if errors.len() > before {
            continue;
        }
        basic_quantity(&amount, errors);
        if errors.len() == before {
            resource_quantity(&amount, "storage", errors);
        }
    }
}

fn resource_key(status: &At, field: &str, resource: &str, errors: &mut FieldErrors) {
    let complaints = name::is_qualified_name(resource);
    if !complaints.is_empty() {
        status.complain(field, resource, complaints, errors);
    } else if is_native(resource) && resource != "storage" {
        status.not_supported(field, resource, &["storage"], errors);
    }
}

// === warnings ===

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// What is said about an accepted claim.
pub fn warnings(claim: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    if claim
        .annotations()
        .is_some_and(|all| all.get(CLASS_ANNOTATION).is_some())
    {
        warnings.push(format!(
            "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    warn_spec(&At::root(claim).part("spec"), &mut warnings);
    warnings
}

/// What is said about the spec of a claim, wherever it stands.
pub fn warn_spec(spec: &At, warnings: &mut Vec<String>) {
    let resources = spec.part("resources");
    for field in ["requests", "limits"] {
        fractional(&resources, field, "storage", warnings);
    }
}
