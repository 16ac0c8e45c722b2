//! The client that admission and conversion webhooks are called with. Never redirected (CVE-2020-8561).
//!
//! Source of the texts: kubernetes/client-go rest/request.go, kubernetes/apimachinery pkg/api/errors/errors.go.

use crate::apiservice::ServiceReference;
use crate::backend::LiveTargets;
use crate::body::{Replay, full, read};
use crate::connect::Connector;
use crate::endpoint::{Readers, Tuning};
use crate::metrics::Metrics;
use crate::policy::{Live, Policy};
use crate::pool::{Outgoing, Pool};
use crate::resolve::{AddressPolicy, Resolver, Target};
use crate::tls::{self, ClientIdentity, Trust};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dashmap::DashMap;
use fairlead_api::{Node, json};
use fairlead_telemetry::trace::{self, Wait};
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Calls webhooks. What is sent and what comes back is JSON; its meaning is the caller's.
pub trait WebhookClient: Send + Sync {
    /// Posts `body` to a `clientConfig` (`url` or `service`, `caBundle`), and returns the body of a successful answer.
    fn call<'a>(
        &'a self,
        client_config: &'a Node,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, WebhookError>>;
}

/// Why a webhook gave no answer. Displays as kube-apiserver says it, behind "failed to call webhook: " or the like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct WebhookError {
    pub text: String,
    /// The status of an answer that was no success; 0 where there was no answer.
    pub code: u16,
    pub timed_out: bool,
}

/// [`WebhookClient`] over pooled connections, one pool for each client configuration.
pub struct Webhooks {
    resolver: Resolver,
    live: Live,
    metrics: Metrics,
    system_roots: Arc<RootCertStore>,
    /// The certificate shown to webhooks, if any.
    identity: Option<ClientIdentity>,
    hooks: DashMap<String, Arc<Hook>>,
}

struct Hook {
    /// As errors show it: `https://host:port/path`, without the query.
    url: String,
    /// Host and port, as metrics tell them apart.
    host: String,
    path: String,
    pool: Pool,
    targets: Option<LiveTargets>,
}

/// More configurations than this are not kept.
const MAX_HOOKS: usize = 1000;
/// As much as an AdmissionReview with two objects of the largest size can have.
const MAX_ANSWER: usize = 16 << 20;
/// How much of a plain-text failure is told.
const MAX_TEXT: usize = 2048;

impl Webhooks {
    pub fn new(
        resolver: Resolver,
        metrics: Metrics,
        system_roots: Arc<RootCertStore>,
        identity: Option<ClientIdentity>,
    ) -> Webhooks {
        // A webhook may take its time to accept a connection: its own timeout is the bound.
        let tuning = Tuning {
            dial_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            ..Tuning::default()
        };
        Webhooks {
            resolver,
            live: Policy::standard(tuning, Vec::new()).live(),
            metrics,
            system_roots,
            identity,
            hooks: DashMap::new(),
        }
    }

    fn hook(&self, client_config: &Node) -> Result<Arc<Hook>, WebhookError> {
        let key = json::to_string(client_config);
        if let Some(hook) = self.hooks.get(&key) {
            return Ok(hook.clone());
        }
        let hook = Arc::new(self.make(client_config).map_err(WebhookError::plain)?);
        if self.hooks.len() >= MAX_HOOKS {
            self.hooks.clear();
        }
        self.hooks.insert(key, hook.clone());
        Ok(hook)
    }

    fn make(&self, client_config: &Node) -> Result<Hook, String> {
        let bundle = STANDARD
            .decode(client_config.str("caBundle"))
            .map_err(|e| e.to_string())?;
        let trust = if bundle.is_empty() {
            Trust::System
        } else {
            Trust::Bundle(&bundle)
        };
        let service = client_config.get("service").filter(|s| !s.is_null());
        let (host, port, path) = match service {
            Some(service) => {
                let reference = ServiceReference::read(service);
                (reference.server_name(), reference.port, service.str("path").to_owned())
            }
            None => address(client_config.str("url"))?,
        };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|e| e.to_string())?;
        let config = |protocols: &[&str]| {
            tls::client_config(trust, &self.system_roots, self.identity.as_ref(), protocols)
                .map(Arc::new)
                .map_err(|e| e.to_string())
        };
        let policy = if service.is_some() {
            self.resolver.policy.clone()
        } else {
            Arc::new(AddressPolicy::anything())
        };
        let connector = Connector {
            tls: config(&["h2", "http/1.1"])?,
            tls_http1: config(&["http/1.1"])?,
            server_name: name,
            policy,
            readers: Readers::default(),
        };
        let pool = Pool::new(
            connector,
            self.live.clone(),
            self.metrics.backend(crate::metrics::WEBHOOKS),
            Arc::new(Notify::new()),
        );
        let targets = match service {
            Some(service) => Some(LiveTargets::new(self.resolver.clone(), ServiceReference::read(service))),
            None => {
                let bare = host.trim_matches(['[', ']']);
                pool.update(&[match bare.parse::<IpAddr>() {
                    Ok(ip) => Target::Address((ip, port).into()),
                    Err(_) => Target::Name(bare.into(), port),
                }]);
                None
            }
        };
        let path = format!("/{}", path.trim_start_matches('/'));
        let url = match service {
            Some(_) => format!("https://{host}:{port}{path}"),
            None => format!("{}{path}", origin(client_config.str("url"))),
        };
        Ok(Hook {
            url,
            host: format!("{host}:{port}"),
            path,
            pool,
            targets,
        })
    }
}

impl WebhookClient for Webhooks {
    fn call<'a>(
        &'a self,
        client_config: &'a Node,
        body: Bytes,
        allowed: Duration,
    ) -> BoxFuture<'a, Result<Bytes, WebhookError>> {
        Box::pin(async move {
            let started = Instant::now();
            let answer = self.ask(client_config, body, allowed).await;
            trace::spent(Wait::Webhook, started.elapsed());
            answer
        })
    }
}

impl Webhooks {
    async fn ask(&self, client_config: &Node, body: Bytes, allowed: Duration) -> Result<Bytes, WebhookError> {
        let hook = self.hook(client_config)?;
        let query = format!("?timeout={}", go_duration(allowed));
        let failed = |why: &str| WebhookError::plain(format!("Post {:?}: {why}", format!("{}{query}", hook.url)));
        if let Some(targets) = &hook.targets {
            targets.refresh(&hook.pool).map_err(|e| failed(&e.to_string()))?;
        }
        let path_and_query: PathAndQuery = format!("{}{query}", hook.path)
            .parse()
            .map_err(|_| failed("invalid path"))?;
        let headers = headers(body.len());
        let outgoing = Outgoing::new(Method::POST, path_and_query, headers, Replay::new(full(body)));
        let exchange = async {
            let (parts, body) = hook
                .pool
                .send(outgoing)
                .await
                .map_err(|e| failed(&e.text))?
                .into_parts();
            let bytes = read(body, MAX_ANSWER).await.map_err(|e| {
                WebhookError::plain(format!(
                    "unexpected error when reading response body. Please retry. Original error: {e}"
                ))
            })?;
            Ok((parts, bytes))
        };
        let started = Instant::now();
        let outcome = timeout(allowed, exchange).await;
        let code = match &outcome {
            Ok(Ok((parts, _))) => Some(parts.status.as_u16()),
            _ => None,
        };
        self.metrics.called(&hook.host, code, started.elapsed());
        let (parts, bytes) = match outcome {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(WebhookError {
                    timed_out: true,
                    ..failed("context deadline exceeded")
                });
            }
        };
        understood(&parts, bytes)
    }
}

impl WebhookError {
    fn plain(text: impl Into<String>) -> WebhookError {
        WebhookError {
            text: text.into(),
            code: 0,
            timed_out: false,
        }
    }
}

fn headers(length: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    if let Some(trace) = trace::header().and_then(|t| HeaderValue::from_str(&t).ok()) {
        headers.insert(crate::headers::TRACEPARENT.clone(), trace);
    }
    headers
}

/// The body of a success; else what a `Status` in it, or the code alone, says.
fn understood(parts: &http::response::Parts, bytes: Bytes) -> Result<Bytes, WebhookError> {
    let content_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let code = parts.status.as_u16();
    let error = |text: String, code: u16| {
        Err(WebhookError {
            text,
            code,
            timed_out: false,
        })
    };
    if (200..=206).contains(&code) {
        return match bytes.len() {
            0 => {
                let shown = if content_type.is_empty() {
                    "application/json"
                } else {
                    content_type
                };
                error(
                    format!("0-length response with status code: {code} and content type: {shown}"),
                    0,
                )
            }
            _ => Ok(bytes),
        };
    }
    let status = json::parse(&bytes)
        .ok()
        .filter(|s| s.str("kind") == "Status" && s.str("status") != "Success");
    if let Some(status) = status.filter(|_| matches!(media_type.as_str(), "" | "application/json")) {
        return error(status.str("message").to_owned(), code);
    }
    let is_text = media_type.is_empty() || media_type.starts_with("text/");
    let said = match is_text {
        true => String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)])
            .trim()
            .to_owned(),
        false => "unknown".to_owned(),
    };
    error(generic_text(parts.status, said), code)
}

/// What client-go says of a failure that brings no `Status`.
fn generic_text(status: StatusCode, said: String) -> String {
    match status.as_u16() {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 | 415 => said,
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        406 if said.is_empty() || said == "unknown" => {
            "the server was unable to respond with a content type that the client supports".into()
        }
        406 => said,
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into()
        }
        500.. => format!(
            "an error on the server ({}) has prevented the request from succeeding",
            fairlead_api::field::go_quote(&said)
        ),
        code => format!("the server responded with the status code {code} but did not return more information"),
    }
}

/// Host, port and path of a webhook's URL.
fn address(url: &str) -> Result<(String, u16, String), String> {
    let uri: Uri = url.parse().map_err(|_| format!("invalid url {url:?}"))?;
    if uri.scheme_str() != Some("https") {
        return Err(format!("invalid url {url:?}: the scheme must be https"));
    }
    let host = uri
        .host()
        .filter(|h| !h.is_empty())
        .ok_or_else(|| format!("invalid url {url:?}: no host"))?;
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443), uri.path().to_owned()))
}

/// `https://host[:port]` as it was written.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |i| i + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |i| start + i);
    &url[..end]
}

/// `10s`, `1m30s`, `1.5s`, as Go writes durations.
fn go_duration(duration: Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs_f64() % 60.0);
    if duration < Duration::from_secs(1) && !duration.is_zero() {
        return format!("{}ms", duration.as_secs_f64() * 1000.0);
    }
    if minutes == 0 {
        format!("{seconds}s")
    } else {
        format!("{minutes}m{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, content_type: &str, body: &str) -> Result<Bytes, WebhookError> {
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        if !content_type.is_empty() {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        understood(&response.into_parts().0, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn failures_are_told_in_client_go_words() {
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"webhook says 503"}"#;
        for (code, content_type, body, expected) in [
            (503, "application/json", status, "webhook says 503"),
            (
                500,
                "text/plain",
                "oops \"x\"\n",
                "an error on the server (\"oops \\\"x\\\"\") has prevented the request from succeeding",
            ),
            (
                500,
                "application/json",
                "{}",
                "an error on the server (\"unknown\") has prevented the request from succeeding",
            ),
            (
                404,
                "text/plain",
                "x",
                "the server could not find the requested resource",
            ),
            (
                302,
                "text/plain",
                "moved",
                "the server responded with the status code 302 but did not return more information",
            ),
            (
                200,
                "application/json",
                "",
                "0-length response with status code: 200 and content type: application/json",
            ),
        ] {
            assert_eq!(answer(code, content_type, body).unwrap_err().to_string(), expected);
        }
        assert_eq!(answer(201, "application/json; charset=utf-8", "{}").unwrap(), "{}");
        // Whatever they call it: what it is shows when it is read.
        assert_eq!(answer(200, "text/html", "{}").unwrap(), "{}");
    }

    #[test]
    fn addresses_and_durations() {
        assert_eq!(
            address("https://[::1]:9443/a").unwrap(),
            ("[::1]".into(), 9443, "/a".into())
        );
        assert_eq!(
            address("https://example.com").unwrap(),
            ("example.com".into(), 443, "/".into())
        );
        assert!(address("http://example.com/").is_err());
        assert_eq!(origin("https://example.com:1/x"), "https://example.com:1");
        assert_eq!(go_duration(Duration::from_secs(10)), "10s");
        assert_eq!(go_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(go_duration(Duration::from_millis(1500)), "1.5s");
    }
}
