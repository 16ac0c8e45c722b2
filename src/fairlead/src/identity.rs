//! The server's own identity: its certificates, keys and the administrator's way in.

use crate::config::Config;
use crate::files;
use crate::kubeconfig::{self, Admin};
use crate::pki::{Authority, Pki, Subject};
use anyhow::{Context, Result};
use fairlead_auth::authentication::keys::{PublicKey, SigningKey};
use fairlead_server::tls::{CertificateFiles, TlsConfig};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Everything secret or signed that the server starts with.
pub struct Identity {
    pub tls: TlsConfig,
    /// Signs serving and client certificates made here.
    pub authority_pem: String,
    pub admin: CertificateFiles,
    pub front_proxy: FrontProxyIdentity,
    pub tokens: TokenKeys,
}

/// What this server shows to API servers behind it.
pub struct FrontProxyIdentity {
    /// Signs front-proxy certificates made here.
    pub authority_pem: String,
    pub client: CertificateFiles,
}

/// Keys of service account tokens.
pub struct TokenKeys {
    pub verify: Vec<PublicKey>,
    pub sign: Option<SigningKey>,
}

/// The name in the front-proxy certificate made here.
pub const FRONT_PROXY_NAME: &str = "front-proxy-client";

impl Identity {
    /// Reads what was given or made before, and makes the rest.
    ///
    /// # Errors
    /// The data directory cannot be written, or a file is not what it should be.
    pub fn prepare(config: &Config, now: OffsetDateTime) -> Result<Identity> {
        let directory = config.data.path().join("pki");
        let pki = Pki::open(&directory, now)?;
        let authority = pki.authority("ca", "fairlead-ca")?;
        let front_proxy_authority = pki.authority("front-proxy-ca", "fairlead-front-proxy-ca")?;
        let admin = pki.pair(
            "admin",
            &authority,
            &Subject::Client {
                name: "fairlead:admin",
                groups: &["system:masters"],
            },
        )?;
        let client = match &config.proxy_client {
            Some(files) => files.clone(),
            None => {
                let subject = Subject::Client {
                    name: FRONT_PROXY_NAME,
                    groups: &[],
                };
                let pair = pki.pair("front-proxy-client", &front_proxy_authority, &subject)?;
                CertificateFiles {
                    certificate: pair.certificate,
                    key: pair.key,
                }
            }
        };
        Ok(Identity {
            tls: TlsConfig {
                certificate: serving(config, &pki, &authority, now)?,
                by_name: config.tls.by_name.clone(),
                http2: config.tls.http2,
                only_tls13: config.tls.only_tls13,
            },
            authority_pem: authority.pem,
            admin: CertificateFiles {
                certificate: admin.certificate,
                key: admin.key,
            },
            front_proxy: FrontProxyIdentity {
                authority_pem: front_proxy_authority.pem,
                client,
            },
            tokens: token_keys(config, &directory)?,
        })
    }

    /// What clients verify this server by.
    ///
    /// # Errors
    /// The certificate that was given cannot be read.
    pub fn root_ca_pem(&self, config: &Config) -> Result<String> {
        match &config.tls.certificate {
            // A certificate that was given is its own anchor, unless its file holds the chain.
            Some(files) => read(&files.certificate),
            None => Ok(self.authority_pem.clone()),
        }
    }

    /// Writes the administrator's kubeconfig and answers its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_kubeconfig(&self, config: &Config, address: SocketAddr) -> Result<PathBuf> {
        let path = config
            .kubeconfig_out
            .clone()
            .unwrap_or_else(|| config.data.path().join("admin.kubeconfig"));
        let authority_pem = self.root_ca_pem(config)?;
        let text = kubeconfig::write(&Admin {
            server: &url(address),
            authority_pem: &authority_pem,
            certificate_pem: &read(&self.admin.certificate)?,
            key_pem: &read(&self.admin.key)?,
        });
        files::write_private(&path, text.as_bytes())?;
        Ok(path)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// How a client on this machine reaches the server.
pub fn url(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    format!("https://{}", SocketAddr::new(host, address.port()))
}

fn serving(config: &Config, pki: &Pki, authority: &Authority, now: OffsetDateTime) -> Result<CertificateFiles> {
    if let Some(files) = &config.tls.certificate {
        return Ok(files.clone());
    }
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ]
    .into_iter()
    .chain(["kubernetes.default.svc.cluster.local"])
    .map(str::to_owned)
    .collect();
    let mut addresses = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        config.service_address(),
    ];
    for address in [config.listen.ip(), config.advertise] {
        if !address.is_unspecified() && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match config.external_hostname.as_deref().map(|h| (h, h.parse::<IpAddr>())) {
        Some((_, Ok(address))) => addresses.push(address),
        Some((name, Err(_))) => names.push(name.to_owned()),
        None => {}
    }
    let subject = Subject::Server {
        names: &names,
        addresses: &addresses,
    };
    let pair = match &config.tls.directory {
        Some(directory) => Pki::open(directory, now)?.pair("apiserver", authority, &subject)?,
        None => pki.pair("apiserver", authority, &subject)?,
    };
    Ok(CertificateFiles {
        certificate: pair.certificate,
        key: pair.key,
    })
}

fn token_keys(config: &Config, directory: &Path) -> Result<TokenKeys> {
    let accounts = &config.service_accounts;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let sign = match &accounts.signing_key {
        Some(path) => Some(signing_key(path, &read(path)?)?),
        None if accounts.key_files.is_empty() => {
            let path = directory.join("sa.key");
            if !path.exists() {
                // RSA, although it is slow to make: some who trust our tokens read nothing else.
                let (_, pem) = SigningKey::generate().context("cannot make a key for service account tokens")?;
                files::write_private(&path, pem.as_bytes())?;
            }
            Some(signing_key(&path, &read(&path)?)?)
        }
        None => None,
    };
    let mut verify = Vec::new();
    for path in &accounts.key_files {
        let keys = PublicKey::all_from_pem(&read(path)?).with_context(|| format!("{} holds no key", path.display()))?;
        verify.extend(keys);
    }
    if let Some(sign) = &sign
        && !verify.iter().any(|k: &PublicKey| k.id == sign.public.id)
    {
        verify.push(sign.public.clone());
    }
    Ok(TokenKeys { verify, sign })
}

fn signing_key(path: &Path, pem: &[u8]) -> Result<SigningKey> {
    SigningKey::from_pem(pem).with_context(|| format!("{} holds no private key", path.display()))
}
