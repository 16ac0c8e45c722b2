//! Names of signers of certificates: `domain/path`.
//!
//! Source of the rules and wording: kubernetes pkg/apis/core/validation/names.go.

use super::at::At;
use fairlead_api::{FieldErrors, name};

const DOMAIN_LIMIT: usize = 253;
const LIMIT: usize = 571;

pub fn signer_name(at: &At, field: &str, errors: &mut FieldErrors) {
    let signer = at.str(field);
    if signer.is_empty() {
        at.required(field, "", errors);
        return;
    }
    let Some((domain, path)) = signer.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        at.invalid(field, signer, detail, errors);
        return;
    };
    if domain.len() > DOMAIN_LIMIT {
        at.too_long(field, DOMAIN_LIMIT as i64, errors);
    }
    first_bad_label(at, field, domain, name::is_dns1123_label, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        at.invalid(field, domain, detail, errors);
    }
    first_bad_label(at, field, path, name::is_dns1123_subdomain, errors);
    if signer.len() > LIMIT {
        at.too_long(field, LIMIT as i64, errors);
    }
}

/// Whether the project itself reserves a signer.
pub fn is_kubernetes(signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")
}

fn first_bad_label(at: &At, field: &str, segment: &str, check: fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    let bad = segment.split('.').map(|label| (label, check(label)));
    if let Some((label, complaints)) = bad.into_iter().find(|(_, complaints)| !complaints.is_empty()) {
        for complaint in complaints {
            let detail = format!("validating label {label:?}: {complaint}");
            at.invalid(field, segment, detail, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn signers_have_a_domain_and_a_path() {
        let check = |signer: &str| {
            let object = node!({"signerName": signer});
            let mut errors = Vec::new();
            signer_name(&At::root(&object), "signerName", &mut errors);
            errors.len()
        };
        assert_eq!(check("example.com/a.b"), 0);
        for bad in [
            "",
            "example.com",
            "com/a",
            "example.com/a/b",
            "Example.com/a",
            "example.com/A",
        ] {
            assert_eq!(check(bad), 1, "{bad}");
        }
        assert!(is_kubernetes("x.kubernetes.io/y") && !is_kubernetes("xkubernetes.io/y"));
    }
}
