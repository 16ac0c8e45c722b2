//! TLS towards backends: whom to trust, what to show, and Go's words for what is wrong with a certificate.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;

/// Whose signature on a server's certificate counts.
#[derive(Clone, Copy)]
pub enum Trust<'a> {
    /// A PEM bundle.
    Bundle(&'a [u8]),
    System,
    /// Anybody's.
    Insecure,
}

/// The certificate this server shows to backends.
#[derive(Debug)]
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why no connection can even be tried. Displays as client-go says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsSetupError {
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    Bundle,
    #[error("tls: failed to find any PEM data in certificate input")]
    Certificate,
    #[error("tls: failed to find any PEM data in key input")]
    Key,
    #[error("tls: private key does not match public key")]
    Mismatch,
}

/// What is wrong with a server's certificate.
#[derive(Debug, thiserror::Error)]
#[error("x509: {text}")]
pub struct CertificateProblem {
    pub text: String,
    pub kind: ProblemKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    Expired,
    Name,
    MissingSan,
    Sha1,
    Authority,
}

// === impl ClientIdentity ===

impl ClientIdentity {
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<ClientIdentity, TlsSetupError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsSetupError::Certificate)?;
        if chain.is_empty() {
            return Err(TlsSetupError::Certificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsSetupError::Key)?;
        Ok(ClientIdentity { chain, key })
    }
}

/// A client's TLS configuration, offering `protocols` in that order.
pub fn client_config(
    trust: Trust,
    system: &Arc<RootCertStore>,
    identity: Option<&ClientIdentity>,
    protocols: &[&str],
) -> Result<ClientConfig, TlsSetupError> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(Verifier::new(trust, system, provider.clone())?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has all default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|_| TlsSetupError::Mismatch)?,
    };
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    Ok(config)
}

/// Reads the first file there is of those where systems keep their roots. Call it once, at start.
pub fn system_roots() -> Arc<RootCertStore> {
    const FILES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let mut roots = RootCertStore::empty();
    if let Some(pem) = FILES.iter().find_map(|file| std::fs::read(file).ok()) {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    Arc::new(roots)
}

// === impl Verifier ===

/// Checks as webpki does, and besides accepts a certificate that is itself in the bundle, as Go does.
#[derive(Debug)]
struct Verifier {
    insecure: bool,
    /// `None` where there is no root at all.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    bundle: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(
        trust: Trust,
        system: &Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, TlsSetupError> {
        let (roots, bundle) = match trust {
            Trust::Insecure => (None, Vec::new()),
            Trust::System => (Some(system.clone()), Vec::new()),
            Trust::Bundle(pem) => {
                let bundle: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
                if bundle.is_empty() {
                    return Err(TlsSetupError::Bundle);
                }
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(bundle.iter().cloned());
                (Some(Arc::new(roots)), bundle)
            }
        };
        let webpki = roots.filter(|r| !r.is_empty()).and_then(|roots| {
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .ok()
        });
        Ok(Verifier {
            insecure: matches!(trust, Trust::Insecure),
            webpki,
            bundle,
            provider,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer,
        intermediates: &[CertificateDer],
        name: &ServerName,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.insecure {
            return Ok(ServerCertVerified::assertion());
        }
        if let Some(webpki) = &self.webpki
            && webpki
                .verify_server_cert(certificate, intermediates, name, ocsp, now)
                .is_ok()
        {
            return Ok(ServerCertVerified::assertion());
        }
        match problem(certificate, name, now, &self.bundle) {
            None if self.bundle.contains(certificate) => Ok(ServerCertVerified::assertion()),
            found => {
                let found = found.unwrap_or_else(unknown_authority);
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(
                    Arc::new(found),
                ))))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What Go would find first: the dates, then the names, then who signed. `None` if only the signer can be the problem.
fn problem(
    certificate: &CertificateDer,
    name: &ServerName,
    now: UnixTime,
    bundle: &[CertificateDer],
) -> Option<CertificateProblem> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return Some(unknown_authority());
    };
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    let expired = |what: &str, bound: i64| {
        let at = |s: i64| fairlead_api::Timestamp::from_unix_seconds(s).rfc3339();
        let text = format!(
            "certificate has expired or is not yet valid: current time {} is {what} {}",
            at(seconds),
            at(bound)
        );
        CertificateProblem {
            text,
            kind: ProblemKind::Expired,
        }
    };
    if seconds < validity.not_before.timestamp() {
        return Some(expired("before", validity.not_before.timestamp()));
    }
    if seconds > validity.not_after.timestamp() {
        return Some(expired("after", validity.not_after.timestamp()));
    }
    let matches = ParsedCertificate::try_from(certificate).is_ok_and(|c| verify_server_name(&c, name).is_ok());
    if !matches {
        return Some(wrong_name(&parsed, name));
    }
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.5" => "SHA1-RSA",
        "1.2.840.10045.4.1" => "ECDSA-SHA1",
        _ => return None,
    };
    let authority = bundle.first().and_then(|ca| common_name(ca)).unwrap_or_default();
    let text = format!(
        "certificate signed by unknown authority (possibly because of \"x509: cannot verify signature: insecure algorithm \
         {algorithm}\" while trying to verify candidate authority certificate {authority:?})"
    );
    Some(CertificateProblem {
        text,
        kind: ProblemKind::Sha1,
    })
}

fn wrong_name(certificate: &x509_parser::certificate::X509Certificate, name: &ServerName) -> CertificateProblem {
    let wanted = name.to_str();
    let mut dns = Vec::new();
    let mut addresses = Vec::new();
    let extension = certificate.subject_alternative_name().ok().flatten();
    for general in extension.iter().flat_map(|e| &e.value.general_names) {
        match general {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let ip = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
                let ip = ip.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
                addresses.extend(ip.ok().map(|ip| ip.to_string()));
            }
            _ => {}
        }
    }
    let kind = if extension.is_none() {
        ProblemKind::MissingSan
    } else {
        ProblemKind::Name
    };
    let subject = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|n| n.as_str().ok());
    let text = match name {
        _ if extension.is_none() && subject == Some(wanted.as_ref()) => {
            "certificate relies on legacy Common Name field, use SANs instead".to_owned()
        }
        ServerName::IpAddress(_) if addresses.is_empty() => {
            format!("cannot validate certificate for {wanted} because it doesn't contain any IP SANs")
        }
        ServerName::IpAddress(_) => format!("certificate is valid for {}, not {wanted}", addresses.join(", ")),
        _ if dns.is_empty() => format!("certificate is not valid for any names, but wanted to match {wanted}"),
        _ => format!("certificate is valid for {}, not {wanted}", dns.join(", ")),
    };
    CertificateProblem { text, kind }
}

fn unknown_authority() -> CertificateProblem {
    CertificateProblem {
        text: "certificate signed by unknown authority".into(),
        kind: ProblemKind::Authority,
    }
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    parsed
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()
        .map(str::to_owned)
}
