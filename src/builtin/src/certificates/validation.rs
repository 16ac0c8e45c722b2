//! What CertificateSigningRequests are checked for. What a write may change depends on the subresource it goes to.
//!
//! Source of the rules, their order and wording: kubernetes pkg/apis/certificates/validation/validation.go.
// PERFORMANCE: per-request path

use super::pem;
use crate::validation::at::At;
use crate::validation::signers::signer_name;
use crate::validation::{common, values};
use crate::value::list;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fairlead_api::{FieldErrors, Node};
use std::collections::BTreeSet;

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const CONDITIONS: &[&str] = &["status", "conditions"];
const CERTIFICATE: &[&str] = &["status", "certificate"];
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What an update lets pass because the stored object has it already.
#[derive(Clone, Copy, Default)]
struct Leniency {
    approved_and_denied: bool,
    legacy_signer: bool,
    duplicate_conditions: bool,
    untyped_conditions: bool,
    any_certificate: bool,
    duplicate_usages: bool,
    unknown_usages: bool,
}

impl Leniency {
    fn of(new: &Node, old: &Node) -> Leniency {
        let conditions = list(old, CONDITIONS);
        let has = |kind: &str| conditions.iter().any(|condition| condition.str("type") == kind);
        let kinds: BTreeSet<&str> = conditions.iter().map(|condition| condition.str("type")).collect();
        let usages = list(old, &["spec", "usages"]);
        let distinct: BTreeSet<&str> = usages.iter().filter_map(Node::as_str).collect();
        let issued = old.str_at(CERTIFICATE);
        Leniency {
            approved_and_denied: has("Approved") && has("Denied"),
            legacy_signer: old.str_at(&["spec", "signerName"]) == LEGACY_SIGNER,
            duplicate_conditions: kinds.len() < conditions.len(),
            untyped_conditions: has(""),
            any_certificate: new.str_at(CERTIFICATE) == issued || certificate_mistake(issued).is_some(),
            duplicate_usages: distinct.len() < usages.len(),
            unknown_usages: distinct.iter().any(|usage| !USAGES.contains(usage)),
        }
    }
}

pub fn create(object: &Node, errors: &mut FieldErrors) {
    validate(object, Leniency::default(), errors);
}

/// An update through `subresource`, which is empty for the object itself.
pub fn update(object: &Node, old: &Node, subresource: &str, errors: &mut FieldErrors) {
    validate(object, Leniency::of(object, old), errors);
    let at = At::root(object);
    let status = at.part("status");
    let of = |object, kind: &str| {
        list(object, CONDITIONS)
            .iter()
            .filter(|c| c.str("type") == kind)
            .count()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of(object, kind) < of(old, kind) {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            status.forbidden("conditions", detail, errors);
        }
    }
    if subresource != "approval" {
        for kind in ["Approved", "Denied"] {
            if of(object, kind) > of(old, kind) {
                let detail = format!("updates may not add a condition of type {kind:?}");
                status.forbidden("conditions", detail, errors);
            }
        }
    }
    let issued = old.str_at(CERTIFICATE);
    if object.str_at(CERTIFICATE) != issued {
        if subresource != "status" {
            status.forbidden("certificate", "updates may not set certificate content", errors);
        } else if !issued.is_empty() {
            let detail = "updates may not modify existing certificate content";
            status.forbidden("certificate", detail, errors);
        }
    }
    values::metadata_update(object, old, errors);
}

fn validate(object: &Node, leniency: Leniency, errors: &mut FieldErrors) {
    common::object_meta(object, false, values::any_name, errors);
    let at = At::root(object);
    let spec = at.part("spec");
    let request = spec.str("request");
    if let Some(mistake) = pem::request_mistake(&bytes(request)) {
        let value = if request.is_empty() {
            Node::Null
        } else {
            Node::string(request)
        };
        spec.invalid("request", value, mistake, errors);
    }
    usages(&spec, leniency, errors);
    if spec.str("signerName") == LEGACY_SIGNER && !leniency.legacy_signer {
        let detail = "the legacy signerName is not allowed via this API version";
        spec.invalid("signerName", LEGACY_SIGNER, detail, errors);
    } else {
        signer_name(&spec, "signerName", errors);
    }
    if let Some(seconds) = spec.number("expirationSeconds").filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        spec.invalid("expirationSeconds", seconds, detail, errors);
    }
    let status = at.part("status");
    conditions(&status, leniency, errors);
    if !leniency.any_certificate
        && let Some(mistake) = certificate_mistake(status.str("certificate"))
    {
        status.invalid("certificate", "<certificate data>", mistake, errors);
    }
}

fn usages(spec: &At, leniency: Leniency, errors: &mut FieldErrors) {
    if spec.len("usages") == 0 {
        spec.required("usages", "", errors);
    }
    if !leniency.unknown_usages {
        for usage in spec.each("usages") {
            let text = usage.node.as_str().unwrap_or_default();
            if !USAGES.contains(&text) {
                usage.not_supported("", text, USAGES, errors);
            }
        }
    }
    if !leniency.duplicate_usages {
        let mut seen = BTreeSet::new();
        for usage in spec.each("usages") {
            let text = usage.node.as_str().unwrap_or_default().to_owned();
            if !seen.insert(text.clone()) {
                usage.duplicate("", text, errors);
            }
        }
    }
}

fn conditions(status: &At, leniency: Leniency, errors: &mut FieldErrors) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for condition in status.each("conditions") {
        let kind = condition.str("type");
        if !leniency.untyped_conditions {
            condition.require("type", errors);
        }
        let statuses: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => values::STATUSES,
        };
        condition.required_one_of("status", statuses, errors);
        let opposite = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !leniency.approved_and_denied && !opposite.is_empty() && seen.contains(opposite) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            status.invalid("conditions", kind, detail, errors);
        }
        if !seen.insert(kind.to_owned()) && !leniency.duplicate_conditions {
            condition.duplicate("type", kind, errors);
        }
    }
}

fn certificate_mistake(certificate: &str) -> Option<String> {
    match certificate {
        "" => None,
        text => pem::certificates_mistake(&bytes(text)),
    }
}

/// What a base64 text stands for; that it is one was checked when it was decoded.
fn bytes(base64: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(base64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn texts(check: impl FnOnce(&mut FieldErrors)) -> Vec<String> {
        let mut errors = Vec::new();
        check(&mut errors);
        errors.retain(|error| error.path.as_str().starts_with("status"));
        errors.iter().map(ToString::to_string).collect()
    }

    fn decided(kinds: &[&str]) -> Node {
        let condition = |kind: &&str| {
            let mut condition = node!({"status": "True"});
            condition.set("type", *kind);
            condition
        };
        let mut object = node!({"metadata": {"name": "a"}});
        object.set_at(CONDITIONS, kinds.iter().map(condition).collect::<Vec<Node>>());
        object
    }

    #[test]
    fn only_approval_decides() {
        let (old, new) = (decided(&[]), decided(&["Approved"]));
        assert_eq!(
            texts(|errors| update(&new, &old, "status", errors)),
            [r#"status.conditions: Forbidden: updates may not add a condition of type "Approved""#]
        );
        assert!(texts(|errors| update(&new, &old, "approval", errors)).is_empty());
        assert_eq!(
            texts(|errors| update(&old, &new, "approval", errors)),
            [r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#]
        );
    }

    #[test]
    fn decisions_exclude_each_other() {
        let new = decided(&["Approved", "Denied"]);
        assert_eq!(
            texts(|errors| create(&new, errors)),
            [r#"status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#]
        );
    }
}
