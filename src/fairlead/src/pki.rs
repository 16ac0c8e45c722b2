//! The keys and certificates a server makes itself on first start, and uses again afterwards.
//!
//! One CA for serving and client certificates, one for the front proxy, a key for service account tokens. Certificates
//! last a year and are made anew at a start in their last month, or when they lack a name.

use crate::files;
use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A directory of keys and certificates.
pub struct Pki {
    directory: PathBuf,
    now: OffsetDateTime,
}

/// A certificate authority that can sign.
pub struct Authority {
    pub certificate: PathBuf,
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What a certificate is for.
pub enum Subject<'a> {
    Server {
        names: &'a [String],
        addresses: &'a [IpAddr],
    },
    Client {
        name: &'a str,
        groups: &'a [&'a str],
    },
}

const AUTHORITY_LIFE: Duration = Duration::days(3650);
const LIFE: Duration = Duration::days(365);
const RENEW: Duration = Duration::days(30);
/// Clocks of clients may be behind.
const SKEW: Duration = Duration::minutes(5);

impl Pki {
    /// Opens or makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: &Path, now: OffsetDateTime) -> Result<Pki> {
        files::make_directory(directory)?;
        Ok(Pki {
            directory: directory.to_owned(),
            now,
        })
    }

    /// The authority `name`: read, or made.
    ///
    /// # Errors
    /// A file cannot be read or written, or holds something else.
    pub fn authority(&self, name: &str, common_name: &str) -> Result<Authority> {
        let certificate = self.path(name, "crt");
        let key_path = self.path(name, "key");
        if !certificate.exists() || !key_path.exists() {
            let key = KeyPair::generate()?;
            let params = self.authority_params(common_name);
            let made = params.self_signed(&key)?;
            files::write_private(&key_path, key.serialize_pem().as_bytes())?;
            files::write_public(&certificate, made.pem().as_bytes())?;
        }
        let pem = read(&certificate)?;
        let key = KeyPair::from_pem(&read(&key_path)?).with_context(|| damaged(&key_path))?;
        if fairlead_server::tls::read_certificates(&certificate).is_err() {
            bail!(damaged(&certificate));
        }
        // Names and key identifiers of what is signed come from the same parameters the authority was made of.
        let issuer = Issuer::new(self.authority_params(common_name), key);
        Ok(Authority {
            certificate,
            pem,
            issuer,
        })
    }

    fn authority_params(&self, common_name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.not_before = self.now - SKEW;
        params.not_after = self.now + AUTHORITY_LIFE;
        params
    }

    /// The pair `name` signed by `authority`: read while it is good, else made.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn pair(&self, name: &str, authority: &Authority, subject: &Subject) -> Result<Pair> {
        let pair = Pair {
            certificate: self.path(name, "crt"),
            key: self.path(name, "key"),
        };
        if pair.key.exists() && self.is_good(&pair.certificate, subject) {
            return Ok(pair);
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.not_before = self.now - SKEW;
        params.not_after = self.now + LIFE;
        params.use_authority_key_identifier_extension = true;
        match subject {
            Subject::Server { names, addresses } => {
                params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                for name in *names {
                    params
                        .subject_alt_names
                        .push(SanType::DnsName(name.as_str().try_into()?));
                }
                params
                    .subject_alt_names
                    .extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
            }
            Subject::Client { name, groups } => {
                for group in *groups {
                    params.distinguished_name.push(DnType::OrganizationName, *group);
                }
                params.distinguished_name.push(DnType::CommonName, *name);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        let made = params.signed_by(&key, &authority.issuer)?;
        files::write_private(&pair.key, key.serialize_pem().as_bytes())?;
        files::write_public(&pair.certificate, made.pem().as_bytes())?;
        Ok(pair)
    }

    pub fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.directory.join(format!("{name}.{extension}"))
    }

    fn is_good(&self, path: &Path, subject: &Subject) -> bool {
        let Ok(chain) = fairlead_server::tls::read_certificates(path) else {
            return false;
        };
        let Some(Ok((_, certificate))) = chain.first().map(|der| X509Certificate::from_der(der)) else {
            return false;
        };
        if certificate.validity().not_after.to_datetime() < self.now + RENEW {
            return false;
        }
        let Subject::Server { names, addresses } = subject else {
            return true;
        };
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
            return false;
        };
        let has_name = |name: &String| {
            alternatives
                .value
                .general_names
                .iter()
                .any(|n| matches!(n, GeneralName::DNSName(d) if d == name))
        };
        let has_address = |address: &IpAddr| {
            let bytes = match address {
                IpAddr::V4(a) => a.octets().to_vec(),
                IpAddr::V6(a) => a.octets().to_vec(),
            };
            alternatives
                .value
                .general_names
                .iter()
                .any(|n| matches!(n, GeneralName::IPAddress(b) if *b == bytes))
        };
        names.iter().all(has_name) && addresses.iter().all(has_address)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn damaged(path: &Path) -> String {
    format!(
        "{} is damaged: remove it and its pair to have them made again",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn what_was_made_is_used_again_until_it_is_old_or_lacks_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let make = |now: OffsetDateTime, names: &[&str]| {
            let pki = Pki::open(directory.path(), now).unwrap();
            let authority = pki.authority("ca", "test-ca").unwrap();
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            let addresses = [IpAddr::from([127, 0, 0, 1])];
            let pair = pki
                .pair(
                    "apiserver",
                    &authority,
                    &Subject::Server {
                        names: &names,
                        addresses: &addresses,
                    },
                )
                .unwrap();
            (authority.pem, fs::read_to_string(pair.certificate).unwrap())
        };
        let first = make(now(), &["localhost"]);
        assert_eq!(make(now() + Duration::days(300), &["localhost"]), first);
        let renewed = make(now() + Duration::days(340), &["localhost"]);
        assert_eq!(renewed.0, first.0);
        assert_ne!(renewed.1, first.1);
        assert_ne!(make(now() + Duration::days(340), &["localhost", "other"]).1, renewed.1);
    }

    #[test]
    fn a_damaged_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), now()).unwrap();
        pki.authority("ca", "test-ca").unwrap();
        fs::write(pki.path("ca", "key"), "nonsense").unwrap();
        let error = pki.authority("ca", "test-ca").err().unwrap();
        assert!(error.to_string().contains("ca.key is damaged"), "{error}");
    }
}
