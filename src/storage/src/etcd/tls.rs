//! [`Tls`]: the certificates for connections to etcd, read again when their files change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Files of certificates and keys, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// What servers are checked against; the system's roots where there is none.
    pub ca: Option<PathBuf>,
    /// The certificate shown to servers, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where systems keep their roots.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Tls {
    /// What the files hold now.
    pub(super) fn read(&self) -> Result<ClientTlsConfig, String> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut config = ClientTlsConfig::new();
        match &self.ca {
            Some(path) => config = config.ca_certificate(Certificate::from_pem(read(path)?)),
            None => {
                if let Some(pem) = SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok()) {
                    config = config.ca_certificate(Certificate::from_pem(pem));
                }
            }
        }
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(config)
    }

    /// Changes with what the files hold; `None` while one cannot be read.
    pub(super) fn stamp(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        let pair = self.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
        for path in self.ca.iter().chain(pair) {
            std::fs::read(path).ok()?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}
