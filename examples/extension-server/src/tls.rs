//! Certificates: the one this server shows, and the CA whose client certificates it believes.

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// A certificate chain with its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// What goes into `spec.caBundle`; empty when the certificate came from a file.
    pub ca_pem: String,
}

impl Identity {
    pub fn from_files(cert: &str, key: &str) -> anyhow::Result<Identity> {
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect)
            .with_context(|| format!("--cert-file: cannot read {cert}"))?;
        let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("--key-file: cannot read {key}"))?;
        Ok(Identity {
            chain,
            key,
            ca_pem: String::new(),
        })
    }

    /// A new CA and a serving certificate for `dns_names`, signed by it. The CA's key is forgotten at once.
    pub fn self_signed(dns_names: &[String]) -> anyhow::Result<Identity> {
        Identity::signed(CertificateParams::new(dns_names.to_vec())?)
    }

    /// One whose time is over, for tests.
    pub fn expired(dns_names: &[String]) -> anyhow::Result<Identity> {
        let mut leaf = CertificateParams::new(dns_names.to_vec())?;
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
        Identity::signed(leaf)
    }

    fn signed(mut leaf: CertificateParams) -> anyhow::Result<Identity> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "extension-server CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;

        leaf.distinguished_name.push(DnType::CommonName, "extension-server");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            ca_pem: ca_certificate.pem(),
        })
    }
}

/// Client certificates are optional, since health checks bring none; one that is brought must be signed by `client_ca_pem`.
pub fn server_config(identity: &Identity, client_ca_pem: Option<&[u8]>) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.context("the front proxy's CA is not PEM")?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The common name of a certificate that TLS has already verified.
pub fn common_name(certificate: &CertificateDer) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    parsed
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()
        .map(str::to_owned)
}
