//! Whether a certificate and a private key belong together.
//!
//! Source of the rules and wording: Go crypto/tls (X509KeyPair).

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";

#[derive(PartialEq)]
enum Kind {
    Rsa,
    Elliptic,
    Edwards,
}

/// What is wrong with a pair in PEM, each in base64.
pub fn complaint(certificate: &str, key: &str) -> Option<String> {
    check(&decode(certificate), &decode(key)).err()
}

fn decode(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap_or_default()
}

fn check(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let leaf = find(certificate, |label| label == CERTIFICATE).map_err(|skipped| match &skipped[..] {
        [] => "tls: failed to find any PEM data in certificate input".to_owned(),
        [label] if label.ends_with(PRIVATE_KEY) => {
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
             have been switched"
                .to_owned()
        }
        _ => format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
             following types: [{}]",
            skipped.join(" ")
        ),
    })?;
    let is_key = |label: &str| label == PRIVATE_KEY || label.ends_with(" PRIVATE KEY");
    let key = find(key, is_key).map_err(|skipped| match &skipped[..] {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [label] if label == CERTIFICATE => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        _ => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of \
             the following types: [{}]",
            skipped.join(" ")
        ),
    })?;
    let Ok((_, leaf)) = X509Certificate::from_der(&leaf) else {
        return Err("x509: malformed certificate".to_owned());
    };
    let public = leaf.public_key();
    let kind = match public.parsed() {
        Ok(PublicKey::RSA(_)) => Kind::Rsa,
        Ok(PublicKey::EC(_)) => Kind::Elliptic,
        Ok(_) if public.algorithm.algorithm.to_id_string() == "1.3.101.112" => Kind::Edwards,
        _ => return Err("tls: unknown public key algorithm".to_owned()),
    };
    let (key_kind, key) = public_part(&key).ok_or("tls: failed to parse private key")?;
    if key_kind != kind {
        return Err("tls: private key type does not match public key type".to_owned());
    }
    if key != *public.subject_public_key.data {
        return Err("tls: private key does not match public key".to_owned());
    }
    Ok(())
}

/// The first block wanted; otherwise the labels of the others.
fn find(pem: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Vec<u8>, Vec<String>> {
    let mut skipped = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let Ok(block) = block else { break };
        if wanted(&block.label) {
            return Ok(block.contents);
        }
        skipped.push(block.label);
    }
    Err(skipped)
}

fn public_part(der: &[u8]) -> Option<(Kind, Vec<u8>)> {
    if let Ok(pair) = rsa::KeyPair::from_der(der).or_else(|_| rsa::KeyPair::from_pkcs8(der)) {
        return Some((Kind::Rsa, pair.public_key().as_ref().to_vec()));
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Some((Kind::Edwards, pair.public_key().as_ref().to_vec()));
    }
    let curves = [
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &ECDSA_P384_SHA384_ASN1_SIGNING,
        &ECDSA_P521_SHA512_ASN1_SIGNING,
    ];
    curves.into_iter().find_map(|curve| {
        let pair = EcdsaKeyPair::from_pkcs8(curve, der).or_else(|_| EcdsaKeyPair::from_private_key_der(curve, der));
        Some((Kind::Elliptic, pair.ok()?.public_key().as_ref().to_vec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_belong_together() {
        let (ours, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let certificate = rcgen::CertificateParams::default().self_signed(&ours).unwrap().pem();
        let try_with = |key: &str| check(certificate.as_bytes(), key.as_bytes());
        assert_eq!(try_with(&ours.serialize_pem()), Ok(()));
        assert_eq!(
            try_with(&other.serialize_pem()),
            Err("tls: private key does not match public key".to_owned())
        );
        assert_eq!(
            try_with("x"),
            Err("tls: failed to find any PEM data in key input".to_owned())
        );
        assert_eq!(
            check(b"", b""),
            Err("tls: failed to find any PEM data in certificate input".to_owned())
        );
    }
}
