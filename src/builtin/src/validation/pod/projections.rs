//! Projected volumes and the downward API in volumes.
// PERFORMANCE: per-request path

use super::super::at::At;
use super::super::{common, paths, shown, signers};
use super::volumes::{file_mode, key_to_path};
use super::{Leniency, environment};
use fairlead_api::{FieldError, FieldErrors, FieldPath, name};
use std::collections::HashSet;

const FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const DUPLICATE: &str = "conflicting duplicate paths";
const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

pub fn downward_api(at: &At, errors: &mut FieldErrors) {
    file_mode(at, "defaultMode", errors);
    for file in at.list("items") {
        // COMPAT: items are reported without their index.
        let path = at.path().as_str().to_owned();
        downward_file(&At::named(file, &path), errors);
    }
}

fn downward_file(file: &At, errors: &mut FieldErrors) {
    file.require("path", errors);
    let path = file.str("path");
    file.complain("path", path, paths::not_reserved(path), errors);
    if let Some(field) = file.get("fieldRef") {
        environment::field_reference(&field, FIELDS, errors);
        if file.has("resourceFieldRef") {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            file.invalid("", "resource", detail, errors);
        }
    } else if let Some(resource) = file.get("resourceFieldRef") {
        if resource.require("containerName", errors) {
            environment::resource_field(&resource, errors);
        }
        environment::resource_divisor(&resource, errors);
    } else {
        file.required("", "one of fieldRef and resourceFieldRef is required", errors);
    }
    file_mode(file, "mode", errors);
}

/// The paths of files so far, in one volume.
struct Files<'a> {
    seen: HashSet<&'a str>,
    volume: FieldPath,
}

impl<'a> Files<'a> {
    /// Adds a path. `shown` is what the error shows where it is there already.
    fn add(&mut self, path: &'a str, shown: &str, errors: &mut FieldErrors) {
        if !self.seen.insert(path) {
            errors.push(FieldError::invalid(&self.volume, shown, DUPLICATE));
        }
    }

    fn add_given(&mut self, path: &'a str, shown: &str, errors: &mut FieldErrors) {
        if !path.is_empty() {
            self.add(path, shown, errors);
        }
    }
}

pub fn projected(at: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    file_mode(at, "defaultMode", errors);
    let places: Vec<FieldPath> = (0..at.len("sources")).map(|i| at.path_of("sources").index(i)).collect();
    let mut files = Files {
        seen: HashSet::new(),
        volume: at.path(),
    };
    for (source, path) in at.list("sources").iter().zip(&places) {
        let source = At::named(source, path.as_str());
        let count = source_of(&source, at, leniency, &mut files, errors);
        if count > 1 {
            source.forbidden("", "may not specify more than 1 volume type per source", errors);
        }
    }
}

fn source_of<'a>(
    source: &At<'a>,
    volume: &At,
    leniency: &Leniency,
    files: &mut Files<'a>,
    errors: &mut FieldErrors,
) -> usize {
    let mut count = 0;
    for key in ["secret", "configMap"] {
        let Some(keys) = source.get(key) else { continue };
        count += 1;
        keys.require("name", errors);
        let name = keys.str("name");
        for (i, item) in keys.node.list("items").iter().enumerate() {
            let path = keys.path_of("items").index(i);
            key_to_path(&At::named(item, path.as_str()), errors);
            files.add_given(item_path(source, key, i), name, errors);
        }
    }
    if let Some(downward) = source.get("downwardAPI") {
        count += 1;
        let path = downward.path();
        for (i, file) in downward.node.list("items").iter().enumerate() {
            downward_file(&At::named(file, path.as_str()), errors);
            let file = item_path(source, "downwardAPI", i);
            files.add_given(file, file, errors);
        }
    }
    if let Some(token) = source.get("serviceAccountToken") {
        count += 1;
        service_account_token(&token, volume, leniency, errors);
    }
    if let Some(bundle) = source.get("clusterTrustBundle") {
        count += 1;
        trust_bundle(&bundle, errors);
        let path = source.node.str_at(&["clusterTrustBundle", "path"]);
        files.add(path, path, errors);
    }
    if let Some(certificate) = source.get("podCertificate") {
        count += 1;
        pod_certificate(&certificate, errors);
        certificate_paths(&certificate, source, files, errors);
    }
    count
}

/// The path of an item, living as long as the source does.
fn item_path<'a>(source: &At<'a>, key: &str, index: usize) -> &'a str {
    let items = source.node.get(key).map_or(&[][..], |keys| keys.list("items"));
    items.get(index).map_or("", |item| item.str("path"))
}

fn service_account_token(token: &At, volume: &At, leniency: &Leniency, errors: &mut FieldErrors) {
    let seconds = token.int("expirationSeconds");
    if seconds < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        token.invalid("expirationSeconds", seconds, detail, errors);
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        token.invalid("expirationSeconds", seconds, detail, errors);
    }
    // COMPAT: the path is reported at the volume.
    match token.str("path") {
        "" => volume.required("path", "", errors),
        path if !leniency.token_path => volume.complain("path", path, paths::not_reserved(path), errors),
        _ => {}
    }
}

fn trust_bundle(bundle: &At, errors: &mut FieldErrors) {
    match (bundle.text("name"), bundle.text("signerName")) {
        (Some(_), Some(_)) => {
            let text = shown::json("core.ClusterTrustBundleProjection", Some(bundle.node));
            bundle.invalid_shown("", text, "only one of name and signerName may be used", errors);
        }
        (Some(name), None) => {
            if name.is_empty() {
                bundle.required("name", "must be a valid object name", errors);
            }
            for complaint in trust_bundle_name(name) {
                let detail = format!("not a valid clustertrustbundlename: {complaint}");
                bundle.invalid("name", name, detail, errors);
            }
            if let Some(selector) = bundle.get("labelSelector") {
                let text = shown::json("labelSelector", Some(selector.node));
                let detail = "labelSelector must be unset if name is specified";
                bundle.invalid_shown("labelSelector", text, detail, errors);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                bundle.required("signerName", "must be a valid signer name", errors);
            }
            signers::signer_name(bundle, "signerName", errors);
            common::label_selector(bundle, "labelSelector", errors);
        }
        (None, None) => bundle.required("", "either name or signerName must be specified", errors),
    }
    bundle.require("path", errors);
    let path = bundle.str("path");
    bundle.complain("path", path, paths::not_reserved(path), errors);
}

/// `signer:domain:name` where a signer made it, and a plain name otherwise.
fn trust_bundle_name(name: &str) -> Vec<String> {
    let Some((signer, rest)) = name.rsplit_once(':') else {
        return name::name_is_dns_subdomain(name, false);
    };
    if signer.contains('/') {
        let (signer, prefix) = (signer.replace(':', "/"), signer.replace('/', ":"));
        return vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}:"
        )];
    }
    name::name_is_dns_subdomain(rest, false)
}

fn pod_certificate(at: &At, errors: &mut FieldErrors) {
    signers::signer_name(at, "signerName", errors);
    for (key, _) in at.entries("userAnnotations") {
        match key.to_lowercase() {
            key if key.is_empty() => at.required("userAnnotations", "", errors),
            key => at.complain("userAnnotations", &key, domain_prefixed_key(&key), errors),
        }
    }
    at.one_of("keyType", KEY_TYPES, errors);
    let Some(seconds) = at.number("maxExpirationSeconds") else {
        return;
    };
    if seconds < 3600 {
        let detail = "if provided, maxExpirationSeconds must be >= 3600";
        at.invalid("maxExpirationSeconds", seconds, detail, errors);
    }
    let most = if signers::is_kubernetes(at.str("signerName")) {
        24 * 3600
    } else {
        91 * 24 * 3600
    };
    if seconds > most {
        let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
        at.invalid("maxExpirationSeconds", seconds, detail, errors);
    }
}

fn certificate_paths<'a>(at: &At, source: &At<'a>, files: &mut Files<'a>, errors: &mut FieldErrors) {
    let mut given = 0;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = source.node.str_at(&["podCertificate", field]);
        if path.is_empty() {
            continue;
        }
        given += 1;
        at.complain(field, path, paths::not_reserved(path), errors);
        files.add(path, path, errors);
    }
    if given == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        at.required("", detail, errors);
    }
}

/// `prefix/name`, the prefix a domain.
fn domain_prefixed_key(key: &str) -> Vec<String> {
    let complaints = name::is_qualified_name(key);
    match complaints.is_empty() && !key.contains('/') {
        true => vec!["must be a domain-prefixed key (such as \"acme.io/foo\")".into()],
        false => complaints,
    }
}
