//! Client certificates of X.509 version 1, which webpki does not read. They have no extensions, so nothing can be said
//! against their use but who signed them: a CA of the bundle itself, never an intermediate.
//!
//! COMPAT: kube-apiserver takes them, and `openssl x509 -req` without extensions makes them.

use super::AuthError;
use fairlead_api::Timestamp;
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor};
use webpki::{ALL_VERIFICATION_ALGS, RawPublicKeyEntity};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// The public key of a version 1 certificate; `None` for others.
pub fn public_key(certificate: &[u8]) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    (read.version() == X509Version::V1).then(|| read.public_key().raw.to_vec().into())
}

/// Whether a message was signed by the owner of a key, with any of these algorithms.
pub fn signed(
    key: &SubjectPublicKeyInfoDer,
    algorithms: &[&'static dyn SignatureVerificationAlgorithm],
    message: &[u8],
    signature: &[u8],
) -> bool {
    RawPublicKeyEntity::try_from(key).is_ok_and(|key| {
        algorithms
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    })
}

/// Verifies a client's certificate against the CAs it may be signed by.
pub(super) fn verify(certificate: &[u8], anchors: &[TrustAnchor], now: Timestamp) -> Result<(), AuthError> {
    let (_, read) =
        X509Certificate::from_der(certificate).map_err(|e| AuthError(format!("unreadable certificate: {e}")))?;
    let (validity, now) = (read.validity(), now.unix_seconds());
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return Err(AuthError::new(
            "verifying certificate failed: the certificate has expired or is not yet valid",
        ));
    }
    let issued = anchors.iter().any(|anchor| {
        sequence(&anchor.subject) == read.issuer().as_raw()
            && signed(
                &sequence(&anchor.subject_public_key_info).into(),
                ALL_VERIFICATION_ALGS,
                read.tbs_certificate.as_ref(),
                &read.signature_value.data,
            )
    });
    if issued {
        Ok(())
    } else {
        Err(AuthError::new("verifying certificate failed: UnknownIssuer"))
    }
}

/// A DER SEQUENCE of this content. Trust anchors keep theirs without the header.
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|b| **b == 0).count()..];
    let mut out = vec![0x30];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        out.push(0x80 | digits.len() as u8);
        out.extend_from_slice(digits);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::super::peer::PeerCertificates;
    use super::super::trust::Authorities;
    use super::super::x509::ClientCertificates;
    use super::super::x509::tests::{ca, clock};
    use super::super::{Authenticator, Credentials};
    use super::*;
    use futures_util::FutureExt;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    const CA: &[u8] = include_bytes!("../../testdata/version1-ca.crt");
    const CLIENT: &[u8] = include_bytes!("../../testdata/version1-client.crt");

    #[test]
    fn a_certificate_without_extensions_names_its_user() {
        let chain = vec![CertificateDer::from_pem_slice(CLIENT).unwrap()];
        assert!(public_key(&chain[0]).is_some());
        assert!(public_key(ca("another").der()).is_none());
        let peer = PeerCertificates::new(chain);
        let ask = |pem: &[u8], at| {
            ClientCertificates::new(Authorities::from_pem(pem).unwrap(), clock(at))
                .authenticate(&Credentials::none(&peer))
                .now_or_never()
                .unwrap()
        };
        let ann = ask(CA, "2027-01-01T00:00:00Z").unwrap().unwrap();
        assert_eq!(
            (ann.user.name.as_str(), ann.user.groups.as_slice()),
            ("ann", &["dev".into(), "system:authenticated".into()][..])
        );
    }

    #[test]
    fn others_are_refused() {
        let der = CertificateDer::from_pem_slice(CLIENT).unwrap();
        let trusted = |pem: &[u8]| Authorities::from_pem(pem).unwrap();
        let at = |text| Timestamp::parse(text).unwrap();
        let now = at("2027-01-01T00:00:00Z");
        let chain = |der: &[u8]| vec![CertificateDer::from(der.to_vec())];
        assert!(trusted(CA).verify(&chain(&der), now).is_ok());
        assert!(trusted(CA).verify(&chain(&der), at("2026-01-01T00:00:00Z")).is_err());
        assert!(trusted(CA).verify(&chain(&der), at("2127-01-01T00:00:00Z")).is_err());
        // Of the same name, with another key.
        let same_name = ca("version 1 test CA");
        assert!(trusted(same_name.pem().as_bytes()).verify(&chain(&der), now).is_err());
        // A changed subject is no longer signed.
        let mut forged = der.to_vec();
        let ann = forged.windows(3).position(|w| w == b"ann").unwrap();
        forged[ann] = b'b';
        assert!(trusted(CA).verify(&chain(&forged), now).is_err());
    }

    #[test]
    fn lengths_as_der_writes_them() {
        for (length, header) in [
            (5, &[0x30, 5][..]),
            (0x80, &[0x30, 0x81, 0x80]),
            (0x1234, &[0x30, 0x82, 0x12, 0x34]),
        ] {
            let encoded = sequence(&vec![7; length]);
            assert!(encoded.starts_with(header) && encoded.len() == header.len() + length);
        }
    }
}
