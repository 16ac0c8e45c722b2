//! Headers of every answer: the audit id, no caching, and HSTS where it is configured.

use crate::body::Response;
use crate::filters::{Filter, Next, go_on};
use crate::request::Received;
use http::header::{CACHE_CONTROL, HeaderName, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Method, StatusCode};
use std::future::Future;
use std::sync::Arc;

pub struct ResponseHeaders {
    /// The value of `Strict-Transport-Security`.
    pub strict_transport_security: Option<HeaderValue>,
}

pub const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// An extension of answers that say nothing of caching.
#[derive(Clone)]
pub struct Bare;

impl Filter for ResponseHeaders {
    type In = Received;
    type Out = Received;

    fn handle<S: Next<Received>>(
        self: Arc<Self>,
        request: Received,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let audit_id = HeaderValue::from_str(&request.audit_id).ok();
            let head = request.parts.method == Method::HEAD;
            let mut response = go_on(next, request).await;
            // COMPAT: an answer that switches protocols is passed on as the other side wrote it.
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let bare = response.extensions_mut().remove::<Bare>().is_some();
            let headers = response.headers_mut();
            if let Some(audit_id) = audit_id {
                headers.insert(AUDIT_ID, audit_id);
            }
            if !bare && !switches && !headers.contains_key(CACHE_CONTROL) {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
            }
            if let Some(value) = self.strict_transport_security.as_ref().filter(|_| !bare) {
                headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
            }
            if head {
                response.body_mut().cut();
            }
            response
        }
    }
}
