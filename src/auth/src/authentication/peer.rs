//! [`PeerCertificates`]: what a client presented in the TLS handshake, and the verdicts on it.
// PERFORMANCE: per-request path

use fairlead_api::Timestamp;
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{AuthError, Authenticated};

/// The certificate chain of one connection, leaf first, made once when the handshake is done and shared by all its
/// requests. Authenticators keep their verdicts in it, so a chain is verified once and not on every request.
#[derive(Default)]
pub struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    expires: OnceLock<Option<i64>>,
    verdicts: Mutex<BTreeMap<u64, Verdict>>,
}

/// What one authenticator found, under one set of trusted CAs.
#[derive(Clone)]
struct Verdict {
    until: Timestamp,
    result: Result<Option<Authenticated>, AuthError>,
}

impl PeerCertificates {
    pub fn new(chain: Vec<CertificateDer<'static>>) -> PeerCertificates {
        PeerCertificates {
            chain,
            ..PeerCertificates::default()
        }
    }

    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// When the client's own certificate runs out, for `apiserver_client_certificate_expiration_seconds`.
    pub fn expires(&self) -> Option<Timestamp> {
        let read = || {
            super::trust::leaf(&self.chain)
                .ok()
                .map(|leaf| leaf.validity().not_after.timestamp())
        };
        self.expires.get_or_init(read).map(Timestamp::from_unix_seconds)
    }

    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// The verdict kept under `key`, or the one `verify` reaches, kept until the time it gives.
    pub(crate) fn verdict(
        &self,
        key: u64,
        now: Timestamp,
        verify: impl FnOnce() -> (Timestamp, Result<Option<Authenticated>, AuthError>),
    ) -> Result<Option<Authenticated>, AuthError> {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = verdicts.get(&key).filter(|v| now < v.until) {
            return verdict.result.clone();
        }
        verdicts.retain(|_, v| now < v.until);
        let (until, result) = verify();
        verdicts.insert(
            key,
            Verdict {
                until,
                result: result.clone(),
            },
        );
        result
    }
}
