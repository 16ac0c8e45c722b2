//! Certificates and requests for them, as PEM: whether they can be read, and whether a request is signed with its key.
//!
//! Source of the wording: Go crypto/x509, encoding/asn1, and kubernetes pkg/apis/certificates.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

const REQUEST: &str = "CERTIFICATE REQUEST";
const CERTIFICATE: &str = "CERTIFICATE";

/// What is wrong with a request (PKCS #10), which its own key must have signed.
pub fn request_mistake(pem: &[u8]) -> Option<String> {
    let block = x509_parser::pem::parse_x509_pem(pem).ok().map(|(_, block)| block);
    let Some(block) = block.filter(|block| block.label == REQUEST) else {
        return Some("PEM block type must be CERTIFICATE REQUEST".into());
    };
    match X509CertificationRequest::from_der(&block.contents) {
        Err(x509_parser::asn1_rs::Err::Incomplete(_)) => Some("asn1: syntax error: data truncated".into()),
        Err(_) => Some("asn1: structure error: tags don't match".into()),
        Ok((rest, _)) if !rest.is_empty() => Some("asn1: syntax error: trailing data".into()),
        Ok((_, request)) => signature_mistake(&request),
    }
}

fn signature_mistake(request: &X509CertificationRequest) -> Option<String> {
    let info = &request.certification_request_info;
    let key = &info.subject_pki;
    let algorithm = request.signature_algorithm.algorithm.to_id_string();
    let bytes = key.subject_public_key.data.as_ref();
    let parsed = key.parsed().ok();
    let elliptic = matches!(parsed, Some(PublicKey::EC(_)));
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|p| p.as_oid().ok())
        .map(|oid| oid.to_id_string());
    let Some((check, failed)) = algorithm_of(&algorithm, elliptic, curve.as_deref()) else {
        return Some("x509: cannot verify signature: algorithm unimplemented".into());
    };
    let verified = UnparsedPublicKey::new(check, bytes).verify(info.raw, request.signature_value.data.as_ref());
    verified.is_err().then(|| failed.to_owned())
}

/// How a signature is checked, and the words when it is wrong.
fn algorithm_of(
    algorithm: &str,
    elliptic: bool,
    curve: Option<&str>,
) -> Option<(&'static dyn VerificationAlgorithm, &'static str)> {
    const P256: &str = "1.2.840.10045.3.1.7";
    const P384: &str = "1.3.132.0.34";
    const P521: &str = "1.3.132.0.35";
    const ECDSA_FAILED: &str = "x509: ECDSA verification failure";
    const RSA_FAILED: &str = "crypto/rsa: verification error";
    let check: &dyn VerificationAlgorithm = match (algorithm, curve) {
        ("1.2.840.113549.1.1.5", _) => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.11", _) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.12", _) => &signature::RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", _) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        ("1.3.101.112", _) => return Some((&signature::ED25519, "x509: Ed25519 verification failure")),
        ("1.2.840.10045.4.3.2", Some(P256)) => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some(P256)) => &signature::ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some(P256)) => &signature::ECDSA_P256_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", Some(P384)) => &signature::ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some(P384)) => &signature::ECDSA_P384_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some(P384)) => &signature::ECDSA_P384_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", Some(P521)) => &signature::ECDSA_P521_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some(P521)) => &signature::ECDSA_P521_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some(P521)) => &signature::ECDSA_P521_SHA512_ASN1,
        _ => return None,
    };
    Some((check, if elliptic { ECDSA_FAILED } else { RSA_FAILED }))
}

/// What is wrong with issued certificates: one or more, and nothing else.
pub fn certificates_mistake(pem: &[u8]) -> Option<String> {
    let mut found = 0;
    for block in Pem::iter_from_buffer(pem) {
        let Ok(block) = block else { break };
        if block.label != CERTIFICATE {
            let label = fairlead_api::field::go_quote(&block.label);
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {label}"));
        }
        let mut rest = block.contents.as_slice();
        if rest.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        while !rest.is_empty() {
            let Ok((after, _)) = X509Certificate::from_der(rest) else {
                return Some("x509: malformed certificate".into());
            };
            rest = after;
        }
        found += 1;
    }
    if found == 0 {
        return Some("must contain at least one CERTIFICATE PEM block".into());
    }
    has_headers(pem).then(|| "no PEM block headers are permitted".into())
}

/// Whether a block begins with `name: value` lines.
fn has_headers(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    let mut lines = text.lines().skip_while(|line| !line.starts_with("-----BEGIN ")).skip(1);
    lines.next().is_some_and(|line| line.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_with_their_key() {
        let key = rcgen::KeyPair::generate().expect("keys can be made");
        let request = rcgen::CertificateParams::new(Vec::new())
            .expect("no names are fine")
            .serialize_request(&key);
        let pem = request.and_then(|request| request.pem()).expect("requests can be made");
        assert_eq!(request_mistake(pem.as_bytes()), None);

        let mut block = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("it is PEM").1;
        let last = block.contents.len() - 1;
        block.contents[last] ^= 1;
        use base64::Engine;
        let body = base64::prelude::BASE64_STANDARD.encode(&block.contents);
        let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
        assert_eq!(
            request_mistake(forged.as_bytes()).as_deref(),
            Some("x509: ECDSA verification failure")
        );
        assert!(request_mistake(b"x").is_some_and(|mistake| mistake.starts_with("PEM block type")));
    }

    #[test]
    fn nothing_but_certificates_is_issued() {
        let key = rcgen::KeyPair::generate().expect("keys can be made");
        let certificate = rcgen::CertificateParams::new(Vec::new()).and_then(|params| params.self_signed(&key));
        let pem = certificate.expect("certificates can be made").pem();
        assert_eq!(certificates_mistake(pem.as_bytes()), None);
        assert_eq!(
            certificates_mistake(key.serialize_pem().as_bytes()).as_deref(),
            Some("only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\"")
        );
        assert_eq!(
            certificates_mistake(b"x").as_deref(),
            Some("must contain at least one CERTIFICATE PEM block")
        );
    }
}
