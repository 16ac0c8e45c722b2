//! A Kubernetes API server that this one stands in front of (`--core-backend`): requests for its groups are sent on in the
//! caller's name, by impersonation; its discovery and OpenAPI are learnt like those of other backends.
//!
//! Unlike an extension server it is no part of the cluster's objects: address, trust and credentials come from a
//! kubeconfig, and it authorizes what it is asked for itself.

use crate::body::{Body, BoxError, Replay, read};
use crate::connect::Connector;
use crate::endpoint::{Readers, Tuning};
use crate::headers;
use crate::metrics::{BackendMetrics, Metrics};
use crate::policy::Policy;
use crate::pool::{Outgoing, Pool, SendError};
use crate::proxy::{self, RequestContext};
use crate::resolve::{AddressPolicy, Target};
use crate::tls::{self, ClientIdentity, TlsSetupError, Trust};
use crate::{upgrade, uri};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fairlead_api::{Node, UserInfo, json};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

pub mod documents;
pub mod follow;

pub use documents::CoreGroup;

/// The name by which routes know it; no APIService can have one without a full stop.
pub const CORE: &str = "core";

/// How to reach it, and as whom.
pub struct CoreConfig {
    pub host: String,
    pub port: u16,
    /// What its URL has behind the host, without a slash at the end.
    pub base: String,
    /// A PEM bundle; `None` trusts the system's.
    pub ca: Option<Vec<u8>>,
    pub insecure_skip_tls_verify: bool,
    /// Instead of the host's, in its certificate.
    pub server_name: Option<String>,
    pub identity: Option<ClientIdentity>,
    pub tuning: Tuning,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Core(Arc<Inner>);

struct Inner {
    pool: Pool,
    base: String,
    metrics: BackendMetrics,
    /// `Bearer …`; replaced when its file changes.
    authorization: ArcSwapOption<HeaderValue>,
    /// Told when a request has no answer.
    trouble: Arc<Notify>,
}

/// Why the server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    #[error("{0}")]
    Send(String),
    #[error("status {code}: {message}")]
    Refused { code: u16, message: String },
    #[error("its answer is not JSON")]
    Document,
}

/// Of a request of this server's own; a whole OpenAPI document may have to be made for it.
const TIMEOUT: Duration = Duration::from_secs(30);
const LIMIT: usize = 64 << 20;
/// Of a check whether it still answers.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Core {
    /// Nothing is dialed yet.
    ///
    /// # Errors
    /// The CA, certificate or key cannot be used.
    pub fn new(
        config: CoreConfig,
        metrics: &Metrics,
        system_roots: &Arc<RootCertStore>,
    ) -> Result<Core, TlsSetupError> {
        Core::named(CORE, config, metrics, system_roots)
    }

    /// [`Core::new`] for another server that a kubeconfig names; metrics know it as `name`.
    ///
    /// # Errors
    /// As there.
    pub fn named(
        name_in_metrics: &str,
        config: CoreConfig,
        metrics: &Metrics,
        system_roots: &Arc<RootCertStore>,
    ) -> Result<Core, TlsSetupError> {
        let trust = match (config.insecure_skip_tls_verify, &config.ca) {
            (true, _) => Trust::Insecure,
            (false, Some(pem)) => Trust::Bundle(pem),
            (false, None) => Trust::System,
        };
        let made = |protocols: &[&str]| {
            tls::client_config(trust, system_roots, config.identity.as_ref(), protocols).map(Arc::new)
        };
        let name = config.server_name.unwrap_or_else(|| config.host.clone());
        let connector = Connector {
            tls: made(&["h2", "http/1.1"])?,
            tls_http1: made(&["http/1.1"])?,
            server_name: ServerName::try_from(name)
                .unwrap_or_else(|_| ServerName::try_from("invalid").expect("a DNS name")),
            // An administrator has named it.
            policy: Arc::new(AddressPolicy::anything()),
            readers: Readers::default(),
        };
        let trouble = Arc::new(Notify::new());
        let metrics = metrics.backend(name_in_metrics);
        let pool = Pool::new(
            connector,
            Policy::standard(config.tuning, Vec::new()).live(),
            metrics.clone(),
            trouble.clone(),
        );
        pool.update(&[match config.host.parse::<std::net::IpAddr>() {
            Ok(ip) => Target::Address((ip, config.port).into()),
            Err(_) => Target::Name(config.host, config.port),
        }]);
        Ok(Core(Arc::new(Inner {
            pool,
            base: config.base,
            metrics,
            authorization: ArcSwapOption::empty(),
            trouble,
        })))
    }

    /// Shows another bearer token from now on.
    pub fn set_token(&self, token: Option<&str>) {
        let header = token.and_then(|t| HeaderValue::from_str(&format!("Bearer {t}")).ok());
        self.0.authorization.store(header.map(|mut header| {
            header.set_sensitive(true);
            Arc::new(header)
        }));
    }

    /// Sends a request on in the name of `user`, and returns the answer, or what the client is told instead.
    pub async fn proxy<B>(
        &self,
        request: Request<B>,
        user: &UserInfo,
        context: &RequestContext<'_>,
        (group, version): (&str, &str),
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let started = Instant::now();
        let response = self.answer(request, user, context).await;
        let code = response.status().as_u16();
        self.0
            .metrics
            .all()
            .answered(context.verb, group, version, code, started.elapsed());
        response
    }

    async fn answer<B>(&self, request: Request<B>, user: &UserInfo, context: &RequestContext<'_>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let rewritten = uri::rewritten(request.uri().path(), request.uri().query());
        let Some(path_and_query) = rewritten.and_then(|p| self.based(p.as_str())) else {
            return proxy::error_text(StatusCode::BAD_REQUEST, "invalid path");
        };
        let dress = |headers: &mut HeaderMap| self.impersonate(headers, user);
        if headers::upgrade(request.headers()).is_some() {
            return upgrade::proxy(CORE, &self.0.pool, request, path_and_query, dress, context).await;
        }
        let (mut parts, body) = request.into_parts();
        let asked_gzip = proxy::prepare(&mut parts, dress, context);
        let outgoing = Outgoing {
            long_running: context.long_running,
            deadline: context.deadline,
            ..Outgoing::new(parts.method, path_and_query, parts.headers, Replay::new(body))
        };
        match self.0.pool.send(outgoing).await {
            Ok(response) if is_redirect(&response) => proxy::redirect_refused(),
            Ok(response) => proxy::finish(response, asked_gzip),
            Err(error) => {
                tracing::warn!(error = error.text, "no answer of the core");
                proxy::unreachable_text(&error.public)
            }
        }
    }

    /// Who asks, in the words of the impersonation protocol, beside this server's own credentials.
    fn impersonate(&self, headers: &mut HeaderMap, user: &UserInfo) {
        self.authorize(headers);
        headers::set_impersonation(headers, user);
    }

    fn authorize(&self, headers: &mut HeaderMap) {
        if let Some(value) = self.0.authorization.load().as_ref() {
            headers.insert(header::AUTHORIZATION, HeaderValue::clone(value));
        }
    }

    fn based(&self, path: &str) -> Option<PathAndQuery> {
        if self.0.base.is_empty() {
            return path.parse().ok();
        }
        format!("{}{path}", self.0.base).parse().ok()
    }

    /// GETs a document as this server itself. `None` where it is still the one with this ETag.
    pub async fn get(&self, path: &str, accept: &str, etag: &str) -> Result<Option<(Bytes, String)>, CoreError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::ACCEPT, accept), (header::IF_NONE_MATCH, etag)] {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        let response = self.send(Method::GET, path, headers, Replay::empty(), TIMEOUT).await?;
        if response.0 == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        accepted(response).map(Some)
    }

    /// GETs an object.
    pub async fn json(&self, path: &str) -> Result<Node, CoreError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.send(Method::GET, path, headers, Replay::empty(), TIMEOUT).await?;
        json::parse(&accepted(response)?.0).map_err(|_| CoreError::Document)
    }

    /// Posts an object, and returns the one that is answered.
    pub async fn post(&self, path: &str, object: &Node) -> Result<Node, CoreError> {
        let body = json::to_vec(object);
        let mut headers = HeaderMap::new();
        let json_type = HeaderValue::from_static("application/json");
        headers.insert(header::ACCEPT, json_type.clone());
        headers.insert(header::CONTENT_TYPE, json_type);
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        let body = Replay::new(crate::body::full(body));
        let response = self.send(Method::POST, path, headers, body, TIMEOUT).await?;
        json::parse(&accepted(response)?.0).map_err(|_| CoreError::Document)
    }

    /// Posts what is JSON already to the URL itself. Of the answer only its code counts.
    pub async fn deliver(&self, body: Bytes) -> Result<(), CoreError> {
        let mut headers = HeaderMap::new();
        let json_type = HeaderValue::from_static("application/json");
        headers.insert(header::ACCEPT, json_type.clone());
        headers.insert(header::CONTENT_TYPE, json_type);
        headers.insert(header::CONTENT_LENGTH, body.len().into());
        let path = if self.0.base.is_empty() { "/" } else { "" };
        let body = Replay::new(crate::body::full(body));
        let response = self.send(Method::POST, path, headers, body, TIMEOUT).await?;
        accepted(response).map(drop)
    }

    /// Opens a stream of events. The caller reads it.
    pub async fn watch(&self, path: &str) -> Result<Body, CoreError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        self.authorize(&mut headers);
        let path_and_query = self
            .based(path)
            .ok_or_else(|| CoreError::Send(format!("invalid path {path:?}")))?;
        let outgoing = Outgoing {
            long_running: true,
            ..Outgoing::new(Method::GET, path_and_query, headers, Replay::empty())
        };
        let response = self.0.pool.send(outgoing).await?;
        let (parts, body) = response.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        Err(CoreError::Refused {
            code: parts.status.as_u16(),
            message: String::new(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Replay,
        time: Duration,
    ) -> Result<(StatusCode, Bytes, String), CoreError> {
        self.authorize(&mut headers);
        headers.insert(header::USER_AGENT, HeaderValue::from_static("fairlead"));
        let path_and_query = self
            .based(path)
            .ok_or_else(|| CoreError::Send(format!("invalid path {path:?}")))?;
        let outgoing = Outgoing::new(method, path_and_query, headers, body);
        let sending = async {
            let (parts, body) = self.0.pool.send(outgoing).await?.into_parts();
            let etag = parts
                .headers
                .get(header::ETAG)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            let etag = etag.to_owned();
            let bytes = read(body, LIMIT).await.map_err(|e| CoreError::Send(e.to_string()))?;
            Ok((parts.status, bytes, etag))
        };
        timeout(time, sending)
            .await
            .unwrap_or_else(|_| Err(CoreError::Send(format!("no answer within {time:?}"))))
    }

    /// Resolves after a request had no answer for long and the server does not answer a check either; what waits for it
    /// has been given up then.
    pub async fn lost(&self) {
        loop {
            self.0.trouble.notified().await;
            let check = self.send(
                Method::GET,
                "/version",
                HeaderMap::new(),
                Replay::empty(),
                PROBE_TIMEOUT,
            );
            if check.await.is_err() {
                self.0.pool.endpoints().iter().for_each(|endpoint| endpoint.abandon());
                return;
            }
        }
    }
}

impl From<SendError> for CoreError {
    fn from(error: SendError) -> CoreError {
        CoreError::Send(error.text)
    }
}

fn accepted((status, bytes, etag): (StatusCode, Bytes, String)) -> Result<(Bytes, String), CoreError> {
    if status.is_success() {
        return Ok((bytes, etag));
    }
    let message = match json::parse(&bytes) {
        Ok(answer) => answer.str("message").to_owned(),
        Err(_) => String::from_utf8_lossy(&bytes).chars().take(200).collect(),
    };
    Err(CoreError::Refused {
        code: status.as_u16(),
        message,
    })
}

fn is_redirect(response: &Response<Body>) -> bool {
    response.status().is_redirection() && response.headers().contains_key(header::LOCATION)
}
