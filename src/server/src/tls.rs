//! TLS of the listener: certificates that can be replaced while it runs, and client certificates that are asked for
//! and not judged here: who a certificate stands for is the authenticator's business.

use arc_swap::ArcSwap;
use fairlead_auth::authentication::version1;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a listener needs to serve TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub certificate: CertificateFiles,
    /// More certificates, chosen by the name a client asks for: patterns (`*.example.com`), and files.
    pub by_name: Vec<(Vec<String>, CertificateFiles)>,
    pub http2: bool,
    pub only_tls13: bool,
}

/// A chain and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read certificates from {}", .0.display())]
    Certificate(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("cannot read a private key from {}", .0.display())]
    Key(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("{} and {} do not make a key pair", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("the TLS configuration is not usable")]
    Config(#[source] rustls::Error),
}

/// The certificates of a listener; replaced as a whole. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Arc<ArcSwap<Chosen>>);

struct Chosen {
    default: Arc<CertifiedKey>,
    by_name: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl Certificates {
    /// # Errors
    /// A file cannot be read, or a key does not belong to its certificate.
    pub fn load(config: &TlsConfig) -> Result<Certificates, TlsError> {
        Ok(Certificates(Arc::new(ArcSwap::from_pointee(Chosen::load(config)?))))
    }

    /// Reads the files again. On an error the old certificates stay.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn reload(&self, config: &TlsConfig) -> Result<(), TlsError> {
        self.0.store(Arc::new(Chosen::load(config)?));
        Ok(())
    }
}

impl Chosen {
    fn load(config: &TlsConfig) -> Result<Chosen, TlsError> {
        let default = certified_key(&config.certificate)?;
        let by_name = config
            .by_name
            .iter()
            .map(|(names, files)| Ok((names.clone(), certified_key(files)?)))
            .collect::<Result<_, TlsError>>()?;
        Ok(Chosen { default, by_name })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello) -> Option<Arc<CertifiedKey>> {
        let chosen = self.0.load();
        let name = hello.server_name().unwrap_or("");
        let named = chosen
            .by_name
            .iter()
            .find(|(patterns, _)| patterns.iter().any(|p| covers(p, name)));
        Some(named.map_or(&chosen.default, |(_, key)| key).clone())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Certificates")
    }
}

/// Makes rustls' configuration.
///
/// # Errors
/// The provider knows none of the wanted protocol versions.
pub fn server_config(config: &TlsConfig, certificates: Certificates) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = if config.only_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let verifier = AskOnly {
        algorithms: provider.signature_verification_algorithms,
    };
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Config)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(certificates));
    tls.alpn_protocols = if config.http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Arc::new(tls))
}

fn certified_key(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| TlsError::Key(files.key.clone(), e))?;
    let provider: CryptoProvider = aws_lc_rs::default_provider();
    let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|source| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })?;
    Ok(Arc::new(pair))
}

/// All certificates of a PEM file; at least one.
///
/// # Errors
/// The file cannot be read or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |e| TlsError::Certificate(path.to_owned(), e);
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(wrong)?
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    if chain.is_empty() {
        Err(wrong(rustls::pki_types::pem::Error::NoItemsFound))
    } else {
        Ok(chain)
    }
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => name
            .split_once('.')
            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

/// Asks for a client certificate, takes any, and checks only that the client holds its key.
///
/// COMPAT: a bad certificate is a 401 or somebody else's business, never a TLS alert.
#[derive(Debug)]
struct AskOnly {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AskOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer,
        _: &[CertificateDer],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // COMPAT: webpki reads no certificates of version 1; the key in them is as good as any.
        verify_tls12_signature(message, certificate, signed, &self.algorithms).or_else(|error| {
            let algorithms = self
                .algorithms
                .mapping
                .iter()
                .find(|(scheme, _)| *scheme == signed.scheme);
            match (version1::public_key(certificate), algorithms) {
                (Some(key), Some((_, all))) if version1::signed(&key, all, message, signed.signature()) => {
                    Ok(HandshakeSignatureValid::assertion())
                }
                _ => Err(error),
            }
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms).or_else(|error| {
            match version1::public_key(certificate) {
                Some(key) => verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms),
                None => Err(error),
            }
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_one_label() {
        assert!(covers("*.example.com", "a.example.com"));
        assert!(!covers("*.example.com", "a.b.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(covers("Example.com", "example.COM"));
    }
}
