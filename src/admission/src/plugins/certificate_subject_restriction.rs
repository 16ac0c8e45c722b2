//! CertificateSubjectRestriction: no certificate for the API makes its holder one of `system:masters`.

use super::certificate_approval::{GROUP, REQUESTS};
use super::{Plugin, now};
use crate::{Attributes, Cluster};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fairlead_api::StatusResult;
use futures_util::future::BoxFuture;
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509CertificationRequest};

#[derive(Default)]
pub struct CertificateSubjectRestriction;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

impl Plugin for CertificateSubjectRestriction {
    fn validates(&self) -> bool {
        true
    }

    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.creates()
            && attributes.is_main(GROUP, REQUESTS)
            && attributes.object.str_at(&["spec", "signerName"]) == CLIENT_SIGNER
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, _: &'a Cluster) -> BoxFuture<'a, StatusResult<()>> {
        now(match subject(attributes.object.str_at(&["spec", "request"])) {
            Err(why) => Err(attributes.forbidden(format_args!("failed to parse CSR: {why}"))),
            Ok(subject) if subject.organizations.iter().any(|name| name == "system:masters") => Err(attributes.forbidden(format_args!(
                "use of {CLIENT_SIGNER} signer with system:masters group is not allowed"
            ))),
            Ok(_) => Ok(()),
        })
    }
}

/// Whom a request is for.
pub(super) struct Subject {
    pub organizations: Vec<String>,
    /// The last one, as signers read it.
    pub common_name: String,
}

/// The subject of a request, given as base64 of PEM.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn subject(request: &str) -> Result<Subject, String> {
    const NOT_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
    let pem = BASE64_STANDARD.decode(request).map_err(|_| NOT_PEM)?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| NOT_PEM)?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(NOT_PEM.into());
    }
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
    let name = &request.certification_request_info.subject;
    let text = |attribute: &AttributeTypeAndValue| {
        text(attribute.attr_value().tag() == Tag::BmpString, attribute.as_slice())
    };
    Ok(Subject {
        organizations: name.iter_organization().map(text).collect(),
        common_name: name.iter_common_name().last().map(text).unwrap_or_default(),
    })
}

/// A name in any of the encodings that signers read.
fn text(wide: bool, bytes: &[u8]) -> String {
    if wide {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(bytes).into_owned()
}
