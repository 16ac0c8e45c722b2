//! Persistent volumes, and the volume specs that attachments have inline.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.

use super::at::At;
use super::claims::{VOLUME_MODES, access_modes};
use super::pod::scheduling::{has_bad_node_values, node_selector};
use super::resource_names::basic_quantity;
use super::volume_sources::{self as sources, Source, check_sources};
use super::{common, difference, paths, shown};
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};

const SOURCE: &str = "core.PersistentVolumeSource";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const INLINE: &str = "may not be specified in the context of inline volumes";

/// Where a spec stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Volume,
    /// In a VolumeAttachment.
    Inline,
}

pub fn validate(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    let any_values = old
        .and_then(|old| old.at(&["spec", "nodeAffinity", "required"]))
        .is_some_and(has_bad_node_values);
    whole(new, any_values, errors);
    mount_options(new, errors);
    if let Some(old) = old {
        whole(new, any_values, errors);
        update(new, old, errors);
    }
}

fn whole(volume: &Node, any_values: bool, errors: &mut FieldErrors) {
    common::object_meta(volume, false, name::name_is_dns_subdomain, errors);
    let root = At::root(volume);
    spec(&root.part("spec"), volume.name(), Place::Volume, any_values, errors);
}

/// `volume` is the name of the volume, and empty for inline specs.
pub fn spec(spec: &At, volume: &str, place: Place, any_values: bool, errors: &mut FieldErrors) {
    if place == Place::Inline {
        inline(spec, errors);
    }
    if spec.len("accessModes") == 0 {
        spec.required("accessModes", "", errors);
    }
    access_modes(spec, errors);
    if place == Place::Volume {
        capacity(spec, errors);
    }
    reclaim_policy(spec, place, errors);
    if let Some(affinity) = spec.get("nodeAffinity") {
        match (place, affinity.get("required")) {
            (Place::Inline, _) => spec.forbidden("nodeAffinity", INLINE, errors),
            (Place::Volume, Some(selector)) => node_selector(&selector, any_values, errors),
            (Place::Volume, None) => affinity.required("required", "must specify required node constraints", errors),
        }
    }
    volume_source(spec, volume, place, errors);
    let root = clean_is_root(spec.node.str_at(&["hostPath", "path"]));
    if spec.has("hostPath") && root && spec.str("persistentVolumeReclaimPolicy") == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        spec.forbidden("persistentVolumeReclaimPolicy", detail, errors);
    }
    classes_and_mode(spec, place, errors);
}

fn inline(spec: &At, errors: &mut FieldErrors) {
    if spec.has("claimRef") {
        spec.forbidden("claimRef", INLINE, errors);
    }
    if spec.len("capacity") > 0 {
        spec.forbidden("capacity", INLINE, errors);
    }
    if !spec.has("csi") {
        spec.required("csi", "has to be specified in the context of inline volumes", errors);
    }
}

fn capacity(spec: &At, errors: &mut FieldErrors) {
    let count = spec.len("capacity");
    if count == 0 {
        spec.required("capacity", "", errors);
    }
    if count > 1 || spec.node.at(&["capacity", "storage"]).is_none() {
        let text = shown::json("{}quantity", spec.node.get("capacity"));
        let path = spec.path_of("capacity");
        errors.push(FieldError::not_supported(&path, Node::Null, &["storage"]).showing(text));
    }
    for (_, amount) in spec.entries("capacity") {
        basic_quantity(&amount, errors);
        common::positive_quantity(&amount, "", errors);
    }
}

fn reclaim_policy(spec: &At, place: Place, errors: &mut FieldErrors) {
    const FIELD: &str = "persistentVolumeReclaimPolicy";
    match (place, spec.str(FIELD)) {
        (_, "") | (Place::Inline, "Retain") => {}
        (Place::Inline, _) => {
            spec.forbidden(FIELD, "may only be Retain in the context of inline volumes", errors);
        }
        (Place::Volume, _) => spec.one_of(FIELD, &["Delete", "Recycle", "Retain"], errors),
    }
}

fn volume_source(spec: &At, volume: &str, place: Place, errors: &mut FieldErrors) {
    let needs_affinity = place == Place::Inline || !spec.has("nodeAffinity");
    // COMPAT: a flex volume is checked whatever there is beside it, and counts for those after it.
    let found = check_sources(spec, BEFORE_FLEX, 0, volume, errors, |_, _, _| {});
    let found = match spec.get("flexVolume") {
        Some(flex) => {
            sources::flex_volume(&flex, errors);
            found + 1
        }
        None => found,
    };
    let found = check_sources(spec, AFTER_FLEX, found, volume, errors, |source, first, errors| {
        if first && source.key == "local" && needs_affinity {
            spec.required("nodeAffinity", "Local volume requires node affinity", errors);
        }
    });
    if found == 0 {
        spec.required("", "must specify a volume type", errors);
    }
}

fn classes_and_mode(spec: &At, place: Place, errors: &mut FieldErrors) {
    if !spec.str("storageClassName").is_empty() {
        match place {
            Place::Inline => spec.forbidden("storageClassName", INLINE, errors),
            Place::Volume => common::dns_subdomain(spec, "storageClassName", errors),
        }
    }
    match (place, spec.text("volumeMode")) {
        (_, None) | (Place::Inline, Some("Filesystem")) => {}
        (Place::Inline, Some(_)) => {
            let detail = "may not specify volumeMode other than Filesystem in the context of inline volumes";
            spec.forbidden("volumeMode", detail, errors);
        }
        (Place::Volume, Some(_)) => spec.one_of("volumeMode", VOLUME_MODES, errors),
    }
    if let Some(class) = spec.text("volumeAttributesClassName") {
        match class {
            "" => spec.required("volumeAttributesClassName", "an empty string is disallowed", errors),
            _ => common::dns_subdomain(spec, "volumeAttributesClassName", errors),
        }
        if !spec.has("csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            spec.required("csi", detail, errors);
        }
    }
}

/// Whether a path is `/` however it is written.
fn clean_is_root(path: &str) -> bool {
    let mut depth: usize = 0;
    for item in path.split('/') {
        match item {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

/// An old annotation, which means nothing for volumes that cannot be mounted with options.
fn mount_options(volume: &Node, errors: &mut FieldErrors) {
    const MOUNTED: [&str; 13] = [
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "glusterfs",
        "nfs",
        "rbd",
        "quobyte",
        "iscsi",
        "cinder",
        "cephfs",
        "azureFile",
        "vsphereVolume",
        "azureDisk",
        "photonPersistentDisk",
    ];
    let has = |key: &&str| volume.at(&["spec", key]).is_some_and(|source| !source.is_null());
    let annotated = volume.annotations().is_some_and(|all| all.contains_key(MOUNT_OPTIONS));
    if annotated && !MOUNTED.iter().any(has) {
        let path = FieldPath::new("metadata.annotations").child(MOUNT_OPTIONS);
        let detail = "may not specify mount options for this volume type";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

// === sources ===

const fn source(key: &'static str, check: fn(&At, &str, &mut FieldErrors)) -> Source<str> {
    Source {
        key,
        extra: key,
        shown: key,
        check,
    }
}

static BEFORE_FLEX: &[Source<str>] = &[
    source("hostPath", |at, _, errors| sources::host_path(at, errors)),
    Source {
        shown: "persistentDisk",
        ..source("gcePersistentDisk", |at, _, errors| {
            sources::gce_persistent_disk(at, errors)
        })
    },
    source("awsElasticBlockStore", |at, _, errors| {
        sources::aws_elastic_block_store(at, errors)
    }),
    source("glusterfs", |at, _, errors| glusterfs(at, errors)),
    source("flocker", |at, _, errors| sources::flocker(at, errors)),
    source("nfs", |at, _, errors| sources::nfs(at, errors)),
    source("rbd", |at, _, errors| sources::rbd(at, errors)),
    source("quobyte", |at, _, errors| sources::quobyte(at, errors)),
    Source {
        extra: "cephFS",
        ..source("cephfs", |at, _, errors| sources::ceph_fs(at, errors))
    },
    source("iscsi", iscsi),
    source("cinder", |at, _, errors| cinder(at, errors)),
    source("fc", |at, _, errors| sources::fibre_channel(at, errors)),
];

static AFTER_FLEX: &[Source<str>] = &[
    source("azureFile", |at, _, errors| azure_file(at, errors)),
    source("vsphereVolume", |at, _, errors| sources::vsphere(at, errors)),
    source("photonPersistentDisk", |at, _, errors| sources::photon(at, errors)),
    source("portworxVolume", |at, _, errors| sources::portworx(at, errors)),
    source("azureDisk", |at, _, errors| sources::azure_disk(at, errors)),
    source("scaleIO", |at, _, errors| sources::scale_io(at, errors)),
    source("local", |at, _, errors| local(at, errors)),
    source("storageos", |at, _, errors| storage_os(at, errors)),
    source("csi", |at, _, errors| csi(at, errors)),
];

fn glusterfs(at: &At, errors: &mut FieldErrors) {
    sources::glusterfs(at, errors);
    match at.text("endpointsNamespace") {
        Some("") => {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            at.invalid("endpointsNamespace", "", detail, errors);
        }
        Some(_) => common::dns_label(at, "endpointsNamespace", errors),
        None => {}
    }
}

fn iscsi(at: &At, volume: &str, errors: &mut FieldErrors) {
    const FORMAT: &str = "must be valid format";
    at.require("targetPortal", errors);
    let portal = at.str("targetPortal");
    if at.has("initiatorName") && volume.len() + 1 + portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        at.invalid("targetportal", portal, detail, errors);
    }
    sources::iscsi_target(at, FORMAT, errors);
    sources::secret_name(at, errors);
    sources::iscsi_initiator(at, FORMAT, errors);
}

fn secret_with_namespace(at: &At, errors: &mut FieldErrors) {
    if let Some(secret) = at.get("secretRef") {
        secret.require("name", errors);
        secret.require("namespace", errors);
    }
}

fn cinder(at: &At, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
    secret_with_namespace(at, errors);
}

fn azure_file(at: &At, errors: &mut FieldErrors) {
    sources::azure_file(at, errors);
    if at.text("secretNamespace") == Some("") {
        at.required("secretNamespace", "", errors);
    }
}

fn local(at: &At, errors: &mut FieldErrors) {
    if at.require("path", errors) {
        let path = at.str("path");
        at.complain("path", path, paths::no_backsteps(path), errors);
    }
}

fn storage_os(at: &At, errors: &mut FieldErrors) {
    if at.require("volumeName", errors) {
        common::dns_label(at, "volumeName", errors);
    }
    if !at.str("volumeNamespace").is_empty() {
        common::dns_label(at, "volumeNamespace", errors);
    }
    secret_with_namespace(at, errors);
}

fn csi(at: &At, errors: &mut FieldErrors) {
    sources::csi_driver_name(at, "driver", errors);
    at.require("volumeHandle", errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        sources::secret_reference(at, field, errors);
    }
}

// === updates ===

fn update(new: &Node, old: &Node, errors: &mut FieldErrors) {
    const EXPAND: &[&str] = &["csi", "controllerExpandSecretRef"];
    let (new_spec, old_spec) = (
        new.get("spec").unwrap_or(&Node::Null),
        old.get("spec").unwrap_or(&Node::Null),
    );
    let mut masked = new_spec.clone();
    if old_spec.get("csi").is_some() && old_spec.at(EXPAND).is_none() {
        masked.remove_at(EXPAND);
    }
    if !shown::equal(SOURCE, Some(&masked), Some(old_spec)) {
        let (before, after) = (
            shown::pretty(SOURCE, Some(old_spec)),
            shown::pretty(SOURCE, Some(&masked)),
        );
        let detail = format!(
            "spec.persistentvolumesource is immutable after creation\n{}",
            difference::unified(&before, &after)
        );
        errors.push(FieldError::forbidden(
            &FieldPath::new("spec.persistentvolumesource"),
            detail,
        ));
    }
    // COMPAT: these are reported without the spec.
    common::immutable(&At::root(new_spec), old_spec, "volumeMode", "*string", errors);
    node_affinity_update(new_spec, old_spec, errors);
    let class = |spec: &Node| {
        spec.get("volumeAttributesClassName")
            .is_some_and(|class| !class.is_null())
    };
    if class(old_spec) && !class(new_spec) {
        let path = FieldPath::new("spec.volumeAttributesClassName");
        errors.push(FieldError::forbidden(
            &path,
            "update from non-nil value to nil is forbidden",
        ));
    }
}

/// Once set, only labels that became stable may be renamed.
fn node_affinity_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
    const KIND: &str = "*core.VolumeNodeAffinity";
    let Some(before) = old.get("nodeAffinity").filter(|affinity| !affinity.is_null()) else {
        return;
    };
    let after = new.get("nodeAffinity");
    let mut renamed = before.clone();
    rename_labels(&mut renamed, after);
    if !shown::equal(KIND, after, Some(before)) && !shown::equal(KIND, after, Some(&renamed)) {
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(common::changed(&FieldPath::new("nodeAffinity"), after, KIND, detail));
    }
}

/// Gives old requirements the new name of their label where the new affinity has it at the same place.
fn rename_labels(old: &mut Node, new: Option<&Node>) {
    const STABLE: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        (
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/region",
        ),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    const TERMS: &[&str] = &["required", "nodeSelectorTerms"];
    let new = new.map_or(&[][..], |new| crate::value::list(new, TERMS));
    let Some(Node::List(old)) = old.at_mut(TERMS) else {
        return;
    };
    for (old, new) in old.iter_mut().zip(new) {
        for list in ["matchExpressions", "matchFields"] {
            let Some(Node::List(requirements)) = old.get_mut(list) else {
                continue;
            };
            for (requirement, new) in requirements.iter_mut().zip(new.list(list)) {
                let pair = (requirement.str("key"), new.str("key"));
                if STABLE.contains(&pair) {
                    requirement.set("key", new.str("key"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn the_root_is_written_in_many_ways() {
        assert!(clean_is_root("/") && clean_is_root("//a/..") && clean_is_root("/."));
        assert!(!clean_is_root("/a") && !clean_is_root("") && !clean_is_root("a/.."));
    }

    #[test]
    fn labels_may_become_stable() {
        let affinity = |key: &str| node!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key}]}]}});
        let check = |new: &str, old: &str| {
            let (mut new_spec, mut old_spec) = (Node::map(), Node::map());
            new_spec.set("nodeAffinity", affinity(new));
            old_spec.set("nodeAffinity", affinity(old));
            let mut errors = Vec::new();
            node_affinity_update(&new_spec, &old_spec, &mut errors);
            errors.len()
        };
        assert_eq!(check("kubernetes.io/os", "beta.kubernetes.io/os"), 0);
        assert_eq!(check("beta.kubernetes.io/os", "kubernetes.io/os"), 1);
    }
}
