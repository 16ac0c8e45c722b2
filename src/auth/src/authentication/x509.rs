//! [`ClientCertificates`]: users by client certificate: name from the CN, groups from the Os.
//!
//! Source of behaviour: kubernetes/apiserver pkg/authentication/request/x509.
// PERFORMANCE: per-request path

use super::trust::{Authorities, leaf, verdict_until};
use super::union::join;
use super::{AuthError, Authenticated, Authenticator, CREDENTIAL_ID, Credentials};
use aws_lc_rs::digest::{SHA256, digest};
use compact_str::CompactString;
use fairlead_api::{Clock, Timestamp, UserInfo};
use futures_util::future::BoxFuture;
use rustls_pki_types::CertificateDer;
use std::fmt::Write;
use std::sync::Arc;
use x509_parser::prelude::X509Certificate;

/// The attribute of a subject that holds the user's uid.
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// The client certificate authenticator (`--client-ca-file`). Verifies once per connection and minute.
pub struct ClientCertificates {
    authorities: Authorities,
    key: u64,
    clock: Arc<dyn Clock>,
}

impl ClientCertificates {
    pub fn new(authorities: Authorities, clock: Arc<dyn Clock>) -> ClientCertificates {
        ClientCertificates {
            key: authorities.key("x509"),
            authorities,
            clock,
        }
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'static>],
        now: Timestamp,
    ) -> (Timestamp, Result<Option<Authenticated>, AuthError>) {
        let read = match leaf(chain) {
            Ok(read) => read,
            Err(error) => return (now, Err(error)),
        };
        let until = verdict_until(&read, now);
        (
            until,
            self.authorities
                .verify(chain, now)
                .and_then(|()| user(&read, &chain[0])),
        )
    }
}

impl Authenticator for ClientCertificates {
    fn authenticate<'a>(&'a self, c: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<Authenticated>, AuthError>> {
        let now = self.clock.now();
        Box::pin(std::future::ready(if c.peer.is_empty() {
            Ok(None)
        } else {
            c.peer.verdict(self.key, now, || self.verify(c.peer.chain(), now))
        }))
    }
}

/// The user a verified certificate stands for; none without a common name.
fn user(certificate: &X509Certificate, der: &[u8]) -> Result<Option<Authenticated>, AuthError> {
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue| value.as_str().unwrap_or_default().to_owned();
    // As Go reads it: of several common names the last counts.
    let Some(name) = subject
        .iter_common_name()
        .map(text)
        .last()
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let uids: Vec<String> = subject
        .iter_attributes()
        .filter(|a| a.attr_type().to_id_string() == UID_ATTRIBUTE)
        .map(text)
        .collect();
    let uid = match uids.as_slice() {
        [] => "",
        [uid] if !uid.is_empty() => uid,
        [_] => return Err(AuthError::new("UID cannot be an empty string")),
        many => return Err(AuthError(format!("expected 1 UID, but found multiple: {many:?}"))),
    };
    let groups = subject
        .iter_organization()
        .map(|o| CompactString::from(text(o)))
        .collect();
    let mut user = UserInfo {
        name: name.into(),
        uid: uid.into(),
        groups,
        ..UserInfo::default()
    };
    user.extra.insert(CREDENTIAL_ID.into(), vec![fingerprint(der)]);
    join(&mut user);
    Ok(Some(Authenticated::new(user, "x509")))
}

fn fingerprint(der: &[u8]) -> String {
    digest(&SHA256, der)
        .as_ref()
        .iter()
        .fold(String::from("X509SHA256="), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::authentication::peer::PeerCertificates;
    use fairlead_api::time::FixedClock;
    use futures_util::FutureExt;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    pub const NOW: &str = "2026-11-24T00:00:00Z";

    pub fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    pub fn client(ca: &CertifiedIssuer<'static, KeyPair>, name: &str, group: &str) -> PeerCertificates {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap();
        PeerCertificates::new(vec![certificate.der().clone()])
    }

    pub fn clock(at: &str) -> Arc<FixedClock> {
        Arc::new(FixedClock(Timestamp::parse(at).unwrap()))
    }

    #[test]
    fn subject_becomes_user() {
        let (ours, other) = (ca("ours"), ca("other"));
        let authorities = Authorities::from_pem(ours.pem().as_bytes()).unwrap();
        let at = |when| ClientCertificates::new(authorities.clone(), clock(when));
        let ask =
            |when, peer: &PeerCertificates| at(when).authenticate(&Credentials::none(peer)).now_or_never().unwrap();
        let ann = ask(NOW, &client(&ours, "ann", "dev")).unwrap().unwrap();
        assert_eq!(
            (ann.user.name.as_str(), ann.user.groups.as_slice()),
            ("ann", &["dev".into(), "system:authenticated".into()][..])
        );
        let id = &ann.user.extra[CREDENTIAL_ID][0];
        assert!(id.starts_with("X509SHA256=") && id.len() == 11 + 64, "{id}");
        assert!(ask(NOW, &client(&other, "ann", "dev")).is_err());
        assert!(ask(NOW, &client(&ours, "", "dev")).unwrap().is_none());
        assert!(ask(NOW, &PeerCertificates::default()).unwrap().is_none());
        // The verdict of a connection ends with its certificate.
        let peer = client(&ours, "ann", "dev");
        assert_eq!(peer.expires(), Timestamp::parse("2030-01-01T00:00:00Z"));
        assert!(ask("2029-12-31T23:59:59Z", &peer).is_ok());
        assert!(ask("2030-01-02T00:00:00Z", &peer).is_err());
    }
}
