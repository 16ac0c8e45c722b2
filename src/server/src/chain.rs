//! The filter chain, outermost first. One function, one screen: [`Chain::new`].
// PERFORMANCE: per-request path

use crate::backup::BackupSource;
use crate::body::Response;
use crate::drain::Drain;
use crate::filters::audit::Audit;
use crate::filters::authentication::Authentication;
use crate::filters::authorization::Authorization;
use crate::filters::cors::Cors;
use crate::filters::cross_site::CrossSite;
use crate::filters::deadline::Deadline;
use crate::filters::impersonation::Impersonation;
use crate::filters::in_flight::InFlight;
use crate::filters::observation::{Observation, Sampling};
use crate::filters::panic_recovery::PanicRecovery;
use crate::filters::request_info::RequestInfoGate;
use crate::filters::response_headers::ResponseHeaders;
use crate::filters::warnings::WarningHeaders;
use crate::filters::{Section, filter, gate};
use crate::metrics::Metrics;
use crate::remote::Remote;
use crate::request::{Identified, Received};
use crate::router::RequestRouter;
use crate::zpages::Pages;
use bytes::Bytes;
use fairlead_audit::Auditor;
use fairlead_auth::authentication::request_header::IdentityHeaders;
use fairlead_auth::{Authenticator, Authorizer};
use fairlead_codec::protobuf::Protobuf;
use fairlead_discovery::Router;
use fairlead_discovery::openapi::Components;
use fairlead_resource::Engine;
use fairlead_resource::hooks::Entropy;
use fairlead_telemetry::{Families, Health};
use http::HeaderValue;
use regex::Regex;
use std::sync::Arc;
use std::time::Duration;
use tower::{Service, ServiceBuilder};

/// Whom the chain asks.
#[derive(Clone)]
pub struct Services {
    pub router: Router,
    pub engine: Engine,
    pub remote: Arc<dyn Remote>,
    /// Schemas of built-in types, for OpenAPI.
    pub components: Arc<dyn Components>,
    /// The protobuf form of built-in kinds.
    pub protobuf: Arc<Protobuf>,
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    /// `None` where nothing is audited.
    pub auditor: Option<Arc<Auditor>>,
    /// `None` where the store is backed up by other means.
    pub backup: Option<Arc<dyn BackupSource>>,
    pub entropy: Arc<dyn Entropy>,
    pub families: Families,
    pub health: Health,
    pub drain: Drain,
}

/// What an operator can set.
#[derive(Clone)]
pub struct Settings {
    pub request_timeout: Duration,
    /// Watches without a timeout of their own end after once to twice this.
    pub min_request_timeout: Duration,
    pub max_reads_in_flight: usize,
    pub max_writes_in_flight: usize,
    pub max_body_bytes: usize,
    pub allowed_origins: Vec<Regex>,
    pub strict_transport_security: Option<HeaderValue>,
    /// Headers that name users beside the standard ones; they end at authentication.
    pub identity_headers: IdentityHeaders,
    /// Which requests are traced and logged.
    pub sampling: Sampling,
    /// Whether `/ui/` is served.
    pub page: bool,
    /// `/statusz` and `/flagz`.
    pub pages: Pages,
    /// The document of `/version`, compact.
    pub version: Bytes,
    /// `/.well-known/openid-configuration` and the key set; `None` where no tokens are issued.
    pub openid: Option<OpenId>,
}

/// Documents by which others verify service account tokens.
#[derive(Clone)]
pub struct OpenId {
    pub configuration: Bytes,
    pub keys: Bytes,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            max_reads_in_flight: 400,
            max_writes_in_flight: 200,
            max_body_bytes: 3 * 1024 * 1024,
            allowed_origins: Vec::new(),
            strict_transport_security: None,
            identity_headers: IdentityHeaders::default(),
            sampling: Sampling::default(),
            page: false,
            pages: Pages::default(),
            version: Bytes::from_static(b"{}"),
            openid: None,
        }
    }
}

/// The chain and everything behind it. Cheap to clone.
#[derive(Clone)]
pub struct Chain {
    service: Section<Received>,
    entropy: Arc<dyn Entropy>,
}

impl Chain {
    pub fn new(services: Services, settings: Settings) -> Chain {
        let metrics = Metrics::register(&services.families).of(services.router.clone());
        let entropy = services.entropy.clone();
        let (authenticator, authorizer) = (services.authenticator.clone(), services.authorizer.clone());
        let auditor = services.auditor.clone();
        let s = settings.clone();

        // Protection: nothing behind this section runs for somebody who may not, or when there is no room.
        let protection: Section<Identified> = Section::new(
            ServiceBuilder::new()
                // Refusals are audited too, so audit is first; it names the user and whom he stands for.
                .layer(filter(Audit {
                    auditor: auditor.clone(),
                }))
                // Everything after this judges the impersonated user.
                .layer(filter(Impersonation::new(authorizer.clone())))
                // Before authorization, which may cost more than a refusal.
                .layer(filter(InFlight::new(
                    services.router.clone(),
                    s.max_reads_in_flight,
                    s.max_writes_in_flight,
                    metrics.clone(),
                )))
                .layer(filter(Authorization {
                    authorizer,
                    metrics: metrics.clone(),
                    page: s.page,
                }))
                .service(RequestRouter::new(services, settings, metrics.clone())),
        );

        // Identity: from a request to somebody's request.
        let identity = Section::new(
            ServiceBuilder::new()
                // Outside of everything that may refuse: refusals are seen as well.
                .layer(filter(Observation {
                    sampling: s.sampling,
                    entropy: entropy.clone(),
                }))
                // The clock starts when the request came, not when it got here.
                .layer(filter(Deadline {
                    auditor: auditor.clone(),
                    default: s.request_timeout,
                    metrics: metrics.clone(),
                }))
                // Outside of everything that warns.
                .layer(filter(WarningHeaders))
                // Browsers ask without credentials first.
                .layer(filter(Cors {
                    allowed_origins: s.allowed_origins.clone(),
                }))
                // Before anybody's credentials are looked at.
                .layer(gate(CrossSite {
                    page: s.page,
                    allowed_origins: s.allowed_origins,
                }))
                .layer(filter(Authentication {
                    auditor,
                    authenticator,
                    identity_headers: s.identity_headers,
                    metrics: metrics.clone(),
                    page: s.page,
                }))
                .service(protection),
        );

        // Connection: what every answer needs, whatever happens behind.
        let connection = Section::new(
            ServiceBuilder::new()
                .layer(filter(ResponseHeaders {
                    strict_transport_security: s.strict_transport_security,
                }))
                .layer(filter(PanicRecovery { metrics }))
                .layer(gate(RequestInfoGate))
                .service(identity),
        );
        Chain {
            service: connection,
            entropy,
        }
    }

    /// Serves one request.
    pub async fn serve(&self, request: Received) -> Response {
        match self.service.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// The client's audit id, or a new one.
    pub fn audit_id(&self, headers: &http::HeaderMap) -> String {
        match crate::request::header(headers, crate::filters::response_headers::AUDIT_ID) {
            "" => random_uuid(&*self.entropy),
            id => id.to_owned(),
        }
    }
}

/// A version 4 UUID.
pub fn random_uuid(entropy: &dyn Entropy) -> String {
    let (a, b) = (entropy.bits(), entropy.bits());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        (b >> 48) & 0x3fff | 0x8000,
        b & 0xffff_ffff_ffff
    )
}
