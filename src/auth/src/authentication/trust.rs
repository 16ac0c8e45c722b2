//! [`Authorities`]: a bundle of CAs and the verification of client certificates against it.
//!
//! Unlike Go, webpki refuses unknown critical extensions, CA certificates used as a client's own, and RSA keys under
//! 2048 bits.

use super::{AuthError, version1};
use aws_lc_rs::digest::{SHA256, digest};
use fairlead_api::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a verdict on a connection's certificates is good for: intermediates may run out meanwhile.
const VERDICT_SECONDS: i64 = 60;

/// Trusted CAs, read from PEM.
#[derive(Clone, Debug)]
pub struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    /// Digests of the certificates, sorted.
    prints: Vec<[u8; 8]>,
}

impl Authorities {
    /// Reads a bundle of certificates. Other PEM sections are passed over; none at all is an error.
    pub fn from_pem(pem: &[u8]) -> Result<Authorities, AuthError> {
        let (mut anchors, mut prints) = (Vec::new(), Vec::new());
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| AuthError(format!("unreadable CA bundle: {e}")))?;
            let anchor = anchor_from_trusted_cert(&certificate);
            anchors.push(
                anchor
                    .map_err(|e| AuthError(format!("unusable CA certificate: {e}")))?
                    .to_owned(),
            );
            let print = digest(&SHA256, &certificate);
            prints.push(
                print.as_ref()[..8]
                    .try_into()
                    .expect("a digest has more than eight bytes"),
            );
        }
        prints.sort_unstable();
        prints.dedup();
        if anchors.is_empty() {
            Err(AuthError::new("no certificates in the CA bundle"))
        } else {
            Ok(Authorities { anchors, prints })
        }
    }

    /// Whether the two bundles have a CA in common.
    pub fn overlaps(&self, other: &Authorities) -> bool {
        self.prints
            .iter()
            .any(|print| other.prints.binary_search(print).is_ok())
    }

    /// A number that differs between bundles and between uses of one, for verdicts kept per connection.
    pub(super) fn key(&self, usage: &str) -> u64 {
        let mut bytes = usage.as_bytes().to_vec();
        bytes.extend(self.prints.iter().flatten());
        let print = digest(&SHA256, &bytes);
        u64::from_be_bytes(
            print.as_ref()[..8]
                .try_into()
                .expect("a digest has more than eight bytes"),
        )
    }

    /// Verifies a chain, leaf first, for client authentication.
    pub fn verify(&self, chain: &[CertificateDer<'static>], now: Timestamp) -> Result<(), AuthError> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| AuthError::new("no certificate"))?;
        let refused = |error: webpki::Error| AuthError(format!("verifying certificate failed: {error}"));
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds().max(0).unsigned_abs()));
        let leaf = match EndEntityCert::try_from(leaf) {
            Err(webpki::Error::UnsupportedCertVersion) => return version1::verify(leaf, &self.anchors, now),
            read => read.map_err(refused)?,
        };
        leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &self.anchors,
            intermediates,
            time,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(drop)
        .map_err(refused)
    }
}

/// The leaf of a chain, read.
pub(super) fn leaf<'a>(chain: &'a [CertificateDer<'static>]) -> Result<X509Certificate<'a>, AuthError> {
    let leaf = chain.first().ok_or_else(|| AuthError::new("no certificate"))?;
    X509Certificate::from_der(leaf)
        .map(|(_, read)| read)
        .map_err(|e| AuthError(format!("unreadable certificate: {e}")))
}

/// When a verdict about this certificate has to be reached again.
pub(super) fn verdict_until(certificate: &X509Certificate, now: Timestamp) -> Timestamp {
    let soon = now.unix_seconds().saturating_add(VERDICT_SECONDS);
    Timestamp::from_unix_seconds(soon.min(certificate.validity().not_after.timestamp()))
}
