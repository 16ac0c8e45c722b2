//! Authentication: who makes the request. What proved it goes no further.

use crate::body::Response;
use crate::encode;
use crate::filters::warnings::Warnings;
use crate::filters::{Filter, Next, audit, go_on};
use crate::metrics::Metrics;
use crate::page;
use crate::request::{Identified, Known};
use fairlead_api::{Clock, Status};
use fairlead_audit::Auditor;
use fairlead_auth::authentication::request_header::{IdentityHeaders, STANDARD};
use fairlead_auth::authentication::{ANONYMOUS, Headers, websocket};
use fairlead_auth::{AuthError, Authenticated, Authenticator, Credentials};
use fairlead_telemetry::{SystemClock, trace};
use http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

pub struct Authentication {
    pub auditor: Option<Arc<Auditor>>,
    pub authenticator: Arc<dyn Authenticator>,
    /// Headers of the front-proxy protocol, beside the standard ones.
    pub identity_headers: IdentityHeaders,
    pub metrics: Metrics,
    /// Whether the operators' page is served, whose files strangers load by the dozen.
    pub page: bool,
}

impl Filter for Authentication {
    type In = Box<Known>;
    type Out = Identified;

    fn handle<S: Next<Identified>>(
        self: Arc<Self>,
        mut request: Box<Known>,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let started = Instant::now();
            let hidden = hidden_token(&mut request.parts.headers);
            let outcome = {
                let headers = RequestHeaders(&request.parts.headers);
                let given = bearer(request.header(AUTHORIZATION));
                let credentials = Credentials {
                    bearer: given.or(hidden.as_ref().ok().and_then(Option::as_deref)),
                    peer: &request.connection.certificates,
                    headers: &headers,
                    path: &request.info.path,
                    audiences: &[],
                };
                match (self.authenticator.authenticate(&credentials).await, hidden) {
                    // Bad credentials are no way to be nobody.
                    (Ok(Some(someone)), Err(error)) if someone.user.name == ANONYMOUS => Err(error),
                    (outcome, _) => outcome,
                }
            };
            let result = match &outcome {
                Ok(Some(_)) => "success",
                Ok(None) => "failure",
                Err(_) => "error",
            };
            self.metrics.authentication_attempts.with(&[result]).inc();
            self.metrics
                .authentication_latency
                .with(&[result])
                .observe(started.elapsed().as_secs_f64());
            let Authenticated {
                user,
                audit: annotations,
                warnings,
                ..
            } = match outcome {
                Ok(Some(authenticated)) => {
                    if authenticated.authenticator == "x509"
                        && let Some(expires) = request.connection.certificates.expires()
                    {
                        let left = expires.unix_seconds() - SystemClock.now().unix_seconds();
                        self.metrics.client_certificates.with(&[]).observe(left as f64);
                    }
                    authenticated
                }
                Ok(None) => return self.refuse(&request).await,
                Err(error) => {
                    tracing::debug!(%error, audit_id = request.audit_id, "unable to authenticate a request");
                    return self.refuse(&request).await;
                }
            };
            if let Some(scope) = trace::current() {
                scope.identify(&user.name, user.name != ANONYMOUS);
            }
            self.metrics
                .authenticated_users
                .with(&[username_label(&user.name)])
                .inc();
            self.strip(&mut request.parts.headers);
            let file = self.page && page::is_file(&request.parts.method, &request.info.path);
            if request.connection.http2 && user.name == ANONYMOUS && !file {
                // CVE-2023-44487: strangers do not get to keep an HTTP/2 connection.
                request.connection.close_soon();
            }
            let request = Identified {
                known: request,
                user,
                impersonator: None,
                annotations,
            };
            let mut response = go_on(next, request).await;
            if !warnings.is_empty() {
                let told = response.extensions_mut().get_or_insert_default::<Warnings>();
                told.0.splice(0..0, warnings);
            }
            response
        }
    }
}

impl Authentication {
    async fn refuse(&self, request: &Known) -> Response {
        let status = Status::unauthorized();
        audit::refused(self.auditor.as_ref(), request, &status).await;
        if request.connection.http2 {
            request.connection.close_soon();
        }
        encode::status(&status, &request.parts.headers, &request.query)
    }

    fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        let claims = |name: &str| STANDARD.claims_identity(name) || self.identity_headers.claims_identity(name);
        let claiming: Vec<HeaderName> = headers.keys().filter(|name| claims(name.as_str())).cloned().collect();
        for name in claiming {
            headers.remove(name);
        }
    }
}

/// The token of a browser, which cannot set headers on WebSockets. It is taken out: among the protocols it would go on to
/// whoever speaks them.
fn hidden_token(headers: &mut HeaderMap) -> Result<Option<String>, AuthError> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let found = websocket::token(protocols.filter_map(|p| p.to_str().ok()));
    let rest = match &found {
        Ok(None) => return Ok(None),
        Ok(Some(protocols)) => HeaderValue::from_str(&protocols.rest).ok(),
        Err(_) => None,
    };
    let counts = crate::websocket::is_wanted(headers);
    match rest {
        Some(rest) => drop(headers.insert(SEC_WEBSOCKET_PROTOCOL, rest)),
        None => drop(headers.remove(SEC_WEBSOCKET_PROTOCOL)),
    }
    match counts {
        true => found.map(|protocols| protocols.map(|p| p.token)),
        false => Ok(None),
    }
}

/// The token of `Bearer …`, as Go splits it: two words, the first in any case.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    let token = rest.split(' ').next().unwrap_or("");
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// User names are unbounded; all but the server's own read `other`, as upstream's do.
fn username_label(name: &str) -> &str {
    match name {
        "admin" | "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" => name,
        _ => "other",
    }
}

/// Request headers as the auth crate looks them up.
pub struct RequestHeaders<'a>(pub &'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn values(&self, name: &str) -> Vec<&str> {
        self.0.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect()
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().strip_prefix(prefix)?, value.to_str().ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_second_word() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer abc def"), Some("abc"));
        assert_eq!(bearer("Bearer"), None);
        assert_eq!(bearer("Bearer  abc"), None);
        assert_eq!(bearer("Basic abc"), None);
    }

    #[test]
    fn tokens_among_protocols_end_here() {
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let token = hidden_token(&mut headers);
            let rest = headers
                .get(SEC_WEBSOCKET_PROTOCOL)
                .map(|p| p.to_str().unwrap().to_owned());
            (token.map_err(drop), rest.unwrap_or_default())
        };
        const TOKEN: &str = "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io";
        let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let protocol = ("sec-websocket-protocol", TOKEN);
        let rest = "v5.channel.k8s.io".to_owned();
        let found = asked(&[upgrade[0], upgrade[1], protocol]);
        assert_eq!(found, (Ok(Some("secret".into())), rest.clone()));
        assert_eq!(
            asked(&[protocol]),
            (Ok(None), rest),
            "it counts only where a WebSocket is asked for"
        );
        let found = asked(&[upgrade[0], upgrade[1], protocol, protocol]);
        assert_eq!(found, (Err(()), String::new()));
        let other = ("sec-websocket-protocol", "v4.channel.k8s.io");
        assert_eq!(asked(&[upgrade[0], upgrade[1], other]), (Ok(None), other.1.into()));
    }

    #[test]
    fn identity_headers_end_here() {
        let filter = Authentication {
            auditor: None,
            authenticator: Arc::new(Nobody),
            identity_headers: IdentityHeaders {
                username: vec!["X-User".into()],
                extra_prefix: vec!["X-More-".into()],
                ..IdentityHeaders::default()
            },
            metrics: Metrics::register(&fairlead_telemetry::Families::default()),
            page: false,
        };
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "x-remote-user",
            "x-remote-extra-a",
            "x-user",
            "x-more-b",
            "accept",
        ] {
            headers.insert(HeaderName::from_static(name), "v".parse().unwrap());
        }
        filter.strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    struct Nobody;

    impl Authenticator for Nobody {
        fn authenticate<'a>(
            &'a self,
            _: &'a Credentials<'a>,
        ) -> futures_util::future::BoxFuture<'a, Result<Option<fairlead_auth::Authenticated>, fairlead_auth::AuthError>>
        {
            Box::pin(std::future::ready(Ok(None)))
        }
    }
}
