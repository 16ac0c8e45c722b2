//! Sources of volumes that pods and persistent volumes have in common.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/validation.go.
// PERFORMANCE: per-request path

use super::at::At;
use super::common::{dns_label, dns_subdomain};
use super::paths::no_backsteps;
use fairlead_api::{FieldErrors, name};

pub const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";
const LUNS: &str = "must be between 0 and 255, inclusive";
/// The range told is not the one checked: 0 stands for the whole disk.
const PARTITIONS: &str = "must be between 1 and 255, inclusive";

/// One kind of source: its member, what errors call it when it is one too many and otherwise, and its rules.
pub struct Source<C: ?Sized> {
    pub key: &'static str,
    pub extra: &'static str,
    pub shown: &'static str,
    pub check: fn(&At, &C, &mut FieldErrors),
}

/// Checks the first source there is, and tells the others to be too many. `found` counts those before the table's.
/// `after` runs after every source and learns whether it was the first. Answers how many were accepted.
pub fn check_sources<C: ?Sized>(
    at: &At,
    table: &[Source<C>],
    mut found: usize,
    context: &C,
    errors: &mut FieldErrors,
    after: impl Fn(&Source<C>, bool, &mut FieldErrors),
) -> usize {
    for source in table {
        let Some(value) = at.get_as(source.key, source.shown) else {
            continue;
        };
        let first = found == 0;
        if first {
            found = 1;
            (source.check)(&value, context, errors);
        } else {
            at.forbidden(source.extra, MORE_THAN_ONE, errors);
        }
        after(source, first, errors);
    }
    found
}

pub fn host_path(at: &At, errors: &mut FieldErrors) {
    if !at.require("path", errors) {
        return;
    }
    let path = at.str("path");
    at.complain("path", path, no_backsteps(path), errors);
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    at.one_of_if_set("type", TYPES, errors);
}

pub fn gce_persistent_disk(at: &At, errors: &mut FieldErrors) {
    at.require("pdName", errors);
    partition(at, errors);
}

pub fn aws_elastic_block_store(at: &At, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
    partition(at, errors);
}

fn partition(at: &At, errors: &mut FieldErrors) {
    let partition = at.int("partition");
    if !(0..=255).contains(&partition) {
        at.invalid("partition", partition, PARTITIONS, errors);
    }
}

pub fn nfs(at: &At, errors: &mut FieldErrors) {
    at.require("server", errors);
    at.require("path", errors);
    if !at.str("path").starts_with('/') {
        at.invalid("path", at.str("path"), "must be an absolute path", errors);
    }
}

pub fn glusterfs(at: &At, errors: &mut FieldErrors) {
    at.require("endpoints", errors);
    at.require("path", errors);
}

pub fn flocker(at: &At, errors: &mut FieldErrors) {
    let (name, uuid) = (at.str("datasetName"), at.str("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        at.required("", "one of datasetName and datasetUUID is required", errors);
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        at.invalid("", "resource", detail, errors);
    }
    if name.contains('/') {
        at.invalid("datasetName", name, "must not contain '/'", errors);
    }
}

pub fn rbd(at: &At, errors: &mut FieldErrors) {
    if at.len("monitors") == 0 {
        at.required("monitors", "", errors);
    }
    at.require("image", errors);
}

pub fn ceph_fs(at: &At, errors: &mut FieldErrors) {
    if at.len("monitors") == 0 {
        at.required("monitors", "", errors);
    }
}

pub fn quobyte(at: &At, errors: &mut FieldErrors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.str("registry");
    if registry.is_empty() {
        at.required("registry", PAIRS, errors);
    } else if at.str("tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        at.required("tenant", detail, errors);
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_port(pair)) {
            at.invalid("registry", registry, PAIRS, errors);
        }
    }
    at.require("volume", errors);
}

/// As Go's `net.SplitHostPort` accepts it: the port may be anything, an address with colons is in brackets.
fn is_host_port(pair: &str) -> bool {
    let Some((host, port)) = pair.rsplit_once(':') else {
        return false;
    };
    let stray = |text: &str| text.contains(['[', ']']);
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|inner| !stray(inner)) && !stray(port),
        None => !host.contains(':') && !stray(pair),
    }
}

pub fn cinder(at: &At, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
    secret_name(at, errors);
}

/// `secretRef`, where it is given, must have a name.
pub fn secret_name(at: &At, errors: &mut FieldErrors) {
    if let Some(secret) = at.get("secretRef") {
        secret.require("name", errors);
    }
}

pub fn fibre_channel(at: &At, errors: &mut FieldErrors) {
    let (names, wwids) = (at.len("targetWWNs"), at.len("wwids"));
    if names == 0 && wwids == 0 {
        let detail = "must specify either targetWWNs or wwids, but not both";
        at.required("targetWWNs", detail, errors);
    }
    if names != 0 && wwids != 0 {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        at.invalid("targetWWNs", at.list("targetWWNs").to_vec(), detail, errors);
    }
    if names != 0 {
        match at.number("lun") {
            None => at.required("lun", "lun is required if targetWWNs is specified", errors),
            Some(lun) if !(0..=255).contains(&lun) => at.invalid("lun", lun, LUNS, errors),
            Some(_) => {}
        }
    }
}

/// The rules of iSCSI names and LUNs that pods and persistent volumes share. `prefix_detail` is what they say about a
/// name that starts with none of the known prefixes.
pub fn iscsi_target(at: &At, prefix_detail: &str, errors: &mut FieldErrors) {
    if at.require("iqn", errors) {
        let name = at.str("iqn");
        if !has_iscsi_prefix(name) {
            at.invalid("iqn", name, prefix_detail, errors);
        } else if !is_iscsi_name(name) {
            at.invalid("iqn", name, "must be valid format", errors);
        }
    }
    let lun = at.int("lun");
    if !(0..=255).contains(&lun) {
        at.invalid("lun", lun, LUNS, errors);
    }
    if (at.flag("chapAuthDiscovery") || at.flag("chapAuthSession")) && !at.has("secretRef") {
        at.required("secretRef", "", errors);
    }
}

pub fn iscsi_initiator(at: &At, prefix_detail: &str, errors: &mut FieldErrors) {
    if let Some(name) = at.text("initiatorName") {
        if !has_iscsi_prefix(name) {
            at.invalid("initiatorname", name, prefix_detail, errors);
        } else if !is_iscsi_name(name) {
            at.invalid("initiatorname", name, "must be valid format", errors);
        }
    }
}

fn has_iscsi_prefix(name: &str) -> bool {
    ["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix))
}

/// `iqn.2001-04.com.example:disk`, `eui.` and 16 letters or digits, or `naa.` and 32 of them.
fn is_iscsi_name(name: &str) -> bool {
    if name.starts_with("iqn") {
        // COMPAT: upstream looks for its pattern anywhere in the name.
        return name.match_indices("iqn.").any(|(i, _)| is_dated_domain(&name[i + 4..]));
    }
    let length = if name.starts_with("eui") { 16 } else { 32 };
    // COMPAT: any character may follow the prefix.
    let mut rest = name.chars().skip(3);
    rest.next().is_some_and(|c| c != '\n') && {
        let digits: Vec<char> = rest.collect();
        digits.len() == length && digits.iter().all(char::is_ascii_alphanumeric)
    }
}

/// `YYYY-MM.domain:anything`.
fn is_dated_domain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[5..7].iter().all(u8::is_ascii_digit)
        && bytes[7] == b'.';
    let Some((domain, rest)) = text.get(8..).and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    date && !domain.is_empty()
        && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        && !rest.is_empty()
        && !rest.contains(|c: char| ",;*&$|".contains(c) || c.is_ascii_whitespace())
}

/// Options of a flex volume may not be in the namespaces of Kubernetes.
pub fn flex_volume(at: &At, errors: &mut FieldErrors) {
    at.require("driver", errors);
    for (key, option) in at.entries("options") {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
        let normalized = format!(".{}", namespace.to_lowercase());
        if normalized.ends_with(".kubernetes.io") || normalized.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            option.invalid("", key, detail, errors);
        }
    }
}

pub fn azure_file(at: &At, errors: &mut FieldErrors) {
    at.require("secretName", errors);
    at.require("shareName", errors);
}

pub fn azure_disk(at: &At, errors: &mut FieldErrors) {
    const MANAGED_URI: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB_URI: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    at.require("diskName", errors);
    at.require("diskURI", errors);
    at.one_of_if_set("cachingMode", &["None", "ReadOnly", "ReadWrite"], errors);
    at.one_of_if_set("kind", &["Dedicated", "Managed", "Shared"], errors);
    let uri = at.str("diskURI");
    match at.text("kind") {
        Some("Managed") if !uri.starts_with("/subscriptions/") => {
            at.not_supported("diskURI", uri, &[MANAGED_URI], errors);
        }
        Some(kind) if kind != "Managed" && !uri.starts_with("https://") => {
            at.not_supported("diskURI", uri, &[BLOB_URI], errors);
        }
        _ => {}
    }
}

pub fn vsphere(at: &At, errors: &mut FieldErrors) {
    at.require("volumePath", errors);
}

pub fn photon(at: &At, errors: &mut FieldErrors) {
    at.require("pdID", errors);
}

pub fn portworx(at: &At, errors: &mut FieldErrors) {
    at.require("volumeID", errors);
}

pub fn scale_io(at: &At, errors: &mut FieldErrors) {
    for field in ["gateway", "system", "volumeName"] {
        at.require(field, errors);
    }
}

pub fn storage_os(at: &At, errors: &mut FieldErrors) {
    if at.require("volumeName", errors) {
        dns_label(at, "volumeName", errors);
    }
    if !at.str("volumeNamespace").is_empty() {
        dns_label(at, "volumeNamespace", errors);
    }
    secret_name(at, errors);
}

/// The name of a CSI driver, also of CSIDriver objects.
pub fn csi_driver_name(at: &At, field: &str, errors: &mut FieldErrors) {
    let driver = at.str(field);
    if driver.is_empty() {
        at.required(field, "", errors);
        return;
    }
    if driver.len() > 63 {
        at.too_long(field, 63, errors);
    }
    let complaints = name::is_dns1123_subdomain(&driver.to_lowercase());
    at.complain(field, driver, complaints, errors);
}

/// A `SecretReference`: name and namespace.
pub fn secret_reference(at: &At, field: &str, errors: &mut FieldErrors) {
    let Some(secret) = at.get(field) else { return };
    if secret.require("name", errors) {
        dns_subdomain(&secret, "name", errors);
    }
    if secret.require("namespace", errors) {
        dns_label(&secret, "namespace", errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iscsi_names_have_three_forms() {
        for name in [
            "iqn.2015-02.example.com:test",
            "eui.0123456789abcdef",
            "naa.62004567BA64678D0123456789ABCDEF",
        ] {
            assert!(is_iscsi_name(name), "{name}");
        }
        for name in [
            "iqn.2015-02",
            "iqn.2015-02.example.com",
            "iqn.2015-02.example.com:",
            "eui.0123",
            "naa.6200456",
            "iqn2015-02.a",
        ] {
            assert!(!is_iscsi_name(name), "{name}");
        }
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for pair in ["host:80", "[::1]:80", "host:"] {
            assert!(is_host_port(pair), "{pair}");
        }
        for pair in ["host", "::1:80", "[::1]80", ""] {
            assert!(!is_host_port(pair), "{pair}");
        }
    }
}
