//! TLS towards each kind of peer. Files are read again when they have changed.

use super::Peer;
use crate::tls::{ClientIdentity, TlsSetupError, Trust, client_config};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// What is shown to kubelets, and what theirs is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeletTls {
    /// Certificate and key; nothing is shown without.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Of certificate authorities. COMPAT: without it any certificate will do.
    pub authority: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the files for kubelets cannot be used")]
    Setup(#[from] TlsSetupError),
}

pub(super) struct Trusts {
    files: KubeletTls,
    kubelets: Mutex<Kubelets>,
    workload: Arc<ClientConfig>,
}

struct Kubelets {
    /// When each file last changed.
    stamps: Vec<Option<SystemTime>>,
    verified: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
}

impl Trusts {
    pub(super) fn new(files: KubeletTls) -> Result<Trusts, TrustError> {
        Ok(Trusts {
            kubelets: Mutex::new(Kubelets::read(&files)?),
            workload: Arc::new(config(Trust::Insecure, None)?),
            files,
        })
    }

    pub(super) fn of(&self, peer: Peer) -> Arc<ClientConfig> {
        if peer == Peer::Workload {
            return self.workload.clone();
        }
        let mut kubelets = self.kubelets.lock().unwrap_or_else(PoisonError::into_inner);
        if kubelets.stamps != stamps(&self.files) {
            match Kubelets::read(&self.files) {
                Ok(read) => *kubelets = read,
                Err(error) => tracing::warn!(%error, "changed files for kubelets cannot be used, the old ones stay"),
            }
        }
        match peer {
            Peer::UnverifiedKubelet => kubelets.unverified.clone(),
            Peer::Kubelet | Peer::Workload => kubelets.verified.clone(),
        }
    }
}

impl Kubelets {
    fn read(files: &KubeletTls) -> Result<Kubelets, TrustError> {
        let stamps = stamps(files);
        let identity = match &files.client {
            Some((certificate, key)) => Some(ClientIdentity::from_pem(&read(certificate)?, &read(key)?)?),
            None => None,
        };
        let unverified = Arc::new(config(Trust::Insecure, identity.as_ref())?);
        let verified = match &files.authority {
            Some(path) => Arc::new(config(Trust::Bundle(&read(path)?), identity.as_ref())?),
            None => unverified.clone(),
        };
        Ok(Kubelets {
            stamps,
            verified,
            unverified,
        })
    }
}

fn config(trust: Trust, identity: Option<&ClientIdentity>) -> Result<ClientConfig, TlsSetupError> {
    client_config(trust, &Arc::new(RootCertStore::empty()), identity, &["http/1.1"])
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|source| TrustError::Read {
        path: path.into(),
        source,
    })
}

fn stamps(files: &KubeletTls) -> Vec<Option<SystemTime>> {
    let client = files.client.iter().flat_map(|(certificate, key)| [certificate, key]);
    client
        .chain(&files.authority)
        .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
        .collect()
}
