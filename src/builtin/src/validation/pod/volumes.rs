//! A pod's volumes.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::volume_sources::{self as sources, Source, check_sources};
use super::super::{claims, common, paths};
use super::{Leniency, projections};
use fairlead_api::{FieldErrors, Node, name};
use std::collections::{HashMap, HashSet};

/// Answers the valid volumes by name.
pub fn validate<'a>(
    spec: &At<'a>,
    meta: Option<&Node>,
    leniency: &Leniency,
    errors: &mut FieldErrors,
) -> HashMap<&'a str, &'a Node> {
    let pod_name = meta.map_or("", |meta| meta.str("name"));
    let created = created_claims(spec, pod_name);
    let mut volumes = HashMap::new();
    for (volume, node) in spec.each("volumes").zip(spec.list("volumes")) {
        let volume_name = node.str("name");
        let before = errors.len();
        validate_source(&volume, pod_name, leniency, errors);
        if volume.require("name", errors) {
            common::dns_label(&volume, "name", errors);
        }
        if volumes.contains_key(volume_name) {
            volume.duplicate("name", volume_name, errors);
        }
        if errors.len() == before {
            volumes.insert(volume_name, node);
        }
        if let Some(claim) = volume.get("persistentVolumeClaim") {
            let claim_name = claim.str("claimName");
            if created.contains(claim_name) {
                let detail = "must not reference a PVC that gets created for an ephemeral volume";
                claim.invalid("claimName", claim_name, detail, errors);
            }
        }
    }
    volumes
}

/// Names of the claims that the pod's ephemeral volumes will make, where the pod's own name is known.
fn created_claims(spec: &At, pod_name: &str) -> HashSet<String> {
    if pod_name.is_empty() {
        return HashSet::new();
    }
    let volumes = spec.list("volumes").iter();
    let ephemeral = volumes.filter(|volume| volume.get("ephemeral").is_some_and(|e| !e.is_null()));
    ephemeral
        .map(|volume| format!("{pod_name}-{}", volume.str("name")))
        .collect()
}

fn validate_source(volume: &At, pod_name: &str, leniency: &Leniency, errors: &mut FieldErrors) {
    let mut found = 0;
    if let Some(empty) = volume.get("emptyDir") {
        found = 1;
        if common::quantity(empty.node.get("sizeLimit")).sign() < 0 {
            let detail = "SizeLimit field must be a valid resource quantity";
            empty.forbidden("sizeLimit", detail, errors);
        }
    }
    let accepted = check_sources(
        volume,
        SOURCES,
        found,
        leniency,
        errors,
        |source, first, errors| match source.key {
            "iscsi" => iscsi_name_length(volume, errors),
            "ephemeral" if first => claim_name(volume, pod_name, errors),
            _ => {}
        },
    );
    if accepted == 0 {
        volume.required("", "must specify a volume type", errors);
    }
}

fn iscsi_name_length(volume: &At, errors: &mut FieldErrors) {
    let Some(iscsi) = volume.get("iscsi") else { return };
    let name = volume.str("name");
    if iscsi.has("initiatorName") && name.len() + 1 + iscsi.str("targetPortal").len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        volume.invalid("name", name, detail, errors);
    }
}

/// The claim an ephemeral volume makes is named after pod and volume.
fn claim_name(volume: &At, pod_name: &str, errors: &mut FieldErrors) {
    let volume_name = volume.str("name");
    if pod_name.is_empty() || volume_name.is_empty() {
        return;
    }
    let claim = format!("{pod_name}-{volume_name}");
    for complaint in name::name_is_dns_subdomain(&claim, false) {
        volume.invalid("name", volume_name, format!("PVC name {claim:?}: {complaint}"), errors);
    }
}

const fn source(key: &'static str, check: fn(&At, &Leniency, &mut FieldErrors)) -> Source<Leniency> {
    Source {
        key,
        extra: key,
        shown: key,
        check,
    }
}

/// In the order in which upstream looks for them, with its odd names.
static SOURCES: &[Source<Leniency>] = &[
    source("hostPath", |at, _, errors| sources::host_path(at, errors)),
    source("gitRepo", |at, _, errors| git_repo(at, errors)),
    Source {
        shown: "persistentDisk",
        ..source("gcePersistentDisk", |at, _, errors| {
            sources::gce_persistent_disk(at, errors)
        })
    },
    source("awsElasticBlockStore", |at, _, errors| {
        sources::aws_elastic_block_store(at, errors)
    }),
    source("secret", |at, _, errors| keys_of(at, "secretName", errors)),
    source("nfs", |at, _, errors| sources::nfs(at, errors)),
    source("iscsi", |at, _, errors| iscsi(at, errors)),
    source("glusterfs", |at, _, errors| sources::glusterfs(at, errors)),
    source("flocker", |at, _, errors| sources::flocker(at, errors)),
    source("persistentVolumeClaim", |at, _, errors| {
        at.require("claimName", errors);
    }),
    source("rbd", |at, _, errors| sources::rbd(at, errors)),
    source("cinder", |at, _, errors| sources::cinder(at, errors)),
    Source {
        extra: "cephFS",
        ..source("cephfs", |at, _, errors| sources::ceph_fs(at, errors))
    },
    source("quobyte", |at, _, errors| sources::quobyte(at, errors)),
    Source {
        extra: "downwarAPI",
        ..source("downwardAPI", |at, _, errors| projections::downward_api(at, errors))
    },
    source("fc", |at, _, errors| sources::fibre_channel(at, errors)),
    source("flexVolume", |at, _, errors| sources::flex_volume(at, errors)),
    source("configMap", |at, _, errors| keys_of(at, "name", errors)),
    source("azureFile", |at, _, errors| sources::azure_file(at, errors)),
    source("vsphereVolume", |at, _, errors| sources::vsphere(at, errors)),
    source("photonPersistentDisk", |at, _, errors| sources::photon(at, errors)),
    source("portworxVolume", |at, _, errors| sources::portworx(at, errors)),
    source("azureDisk", |at, _, errors| sources::azure_disk(at, errors)),
    source("storageos", |at, _, errors| sources::storage_os(at, errors)),
    source("projected", projections::projected),
    source("scaleIO", |at, _, errors| sources::scale_io(at, errors)),
    source("csi", |at, _, errors| csi(at, errors)),
    source("ephemeral", |at, _, errors| ephemeral(at, errors)),
    source("image", image),
];

fn git_repo(at: &At, errors: &mut FieldErrors) {
    at.require("repository", errors);
    let directory = at.str("directory");
    at.complain("directory", directory, paths::descending(directory), errors);
}

fn iscsi(at: &At, errors: &mut FieldErrors) {
    const PREFIX: &str = "must be valid format starting with iqn, eui, or naa";
    at.require("targetPortal", errors);
    sources::iscsi_target(at, PREFIX, errors);
    sources::iscsi_initiator(at, PREFIX, errors);
}

/// A Secret or ConfigMap of which some keys become files.
fn keys_of(at: &At, name: &str, errors: &mut FieldErrors) {
    at.require(name, errors);
    file_mode(at, "defaultMode", errors);
    for item in at.each("items") {
        key_to_path(&item, errors);
    }
}

pub fn key_to_path(at: &At, errors: &mut FieldErrors) {
    at.require("key", errors);
    at.require("path", errors);
    let path = at.str("path");
    at.complain("path", path, paths::not_reserved(path), errors);
    file_mode(at, "mode", errors);
}

pub fn file_mode(at: &At, field: &str, errors: &mut FieldErrors) {
    if let Some(mode) = at.number(field).filter(|mode| !(0..=0o777).contains(mode)) {
        at.invalid(field, mode, paths::FILE_MODE, errors);
    }
}

fn csi(at: &At, errors: &mut FieldErrors) {
    sources::csi_driver_name(at, "driver", errors);
    if let Some(secret) = at.get("nodePublishSecretRef")
        && secret.require("name", errors)
    {
        let name = secret.str("name");
        // COMPAT: the name is reported one level up.
        at.complain("name", name, name::is_dns1123_subdomain(name), errors);
    }
}

fn ephemeral(at: &At, errors: &mut FieldErrors) {
    match at.get("volumeClaimTemplate") {
        None => at.required("volumeClaimTemplate", "", errors),
        Some(template) => claims::template(&template, errors),
    }
}

fn image(at: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    if leniency.is_pod {
        at.require("reference", errors);
    }
    at.required_one_of("pullPolicy", super::containers::PULL_POLICIES, errors);
}

/// Whether a service account token is projected outside its volume.
pub fn has_token_path_outside(spec: &At) -> bool {
    let volumes = spec.list("volumes").iter().filter_map(|volume| volume.get("projected"));
    let mut sources = volumes.flat_map(|projected| projected.list("sources"));
    sources.any(|source| {
        let token = source.get("serviceAccountToken");
        token.is_some_and(|token| !paths::not_reserved(token.str("path")).is_empty())
    })
}
