//! The flags about kubelets.

use super::pair;
use crate::flags::Flags;
use anyhow::{Context, Result};
use fairlead_server::tls::CertificateFiles;
use std::path::PathBuf;

/// How kubelets are reached.
#[derive(Clone, Debug)]
pub struct Kubelets {
    /// What is shown to them.
    pub client: Option<CertificateFiles>,
    /// What their certificates are checked against. COMPAT: nothing, where it is not set.
    pub authority: Option<PathBuf>,
    /// Which of a node's addresses is used, most wanted first.
    pub address_types: Vec<String>,
    /// Of those whose Node does not tell it.
    pub port: u16,
}

/// # Errors
/// A value makes no sense; the error names the flag.
pub fn settings(flags: &Flags) -> Result<Kubelets> {
    let port = flags.int("kubelet-port");
    Ok(Kubelets {
        client: pair(flags, "kubelet-client-certificate", "kubelet-client-key")?,
        authority: flags.some("kubelet-certificate-authority").map(PathBuf::from),
        address_types: flags.list("kubelet-preferred-address-types"),
        port: u16::try_from(port)
            .ok()
            .with_context(|| format!("--kubelet-port={port} is not a port"))?,
    })
}
