//! A request on its way through the chain. What a filter establishes becomes a type, so a skipped filter does not compile:
//! [`Received`] → [`Known`] (request info) → [`Identified`] (authentication) → [`Authorized`](crate::filters::authorization::Authorized).
// PERFORMANCE: per-request path

use crate::body::Payload;
use crate::connection::Connection;
use crate::request_info::RequestInfo;
use fairlead_api::UserInfo;
use fairlead_audit::Trail;
use http::HeaderMap;
use http::request::Parts;
use std::sync::Arc;
use tokio::time::Instant;

/// A request as it came.
pub struct Received {
    pub parts: Parts,
    pub payload: Payload,
    pub connection: Arc<Connection>,
    pub at: Instant,
    pub audit_id: String,
}

/// A request whose path has been understood. It goes on in a box: each filter is a future, and would hold it whole.
pub struct Known {
    pub parts: Parts,
    pub payload: Payload,
    pub connection: Arc<Connection>,
    pub at: Instant,
    /// When an answer must be there; `None` for long-running requests.
    pub deadline: Option<Instant>,
    pub audit_id: String,
    /// What is recorded of the request, where it is audited.
    pub trail: Option<Arc<Trail>>,
    pub info: RequestInfo,
    /// Decoded query parameters in order.
    pub query: Vec<(String, String)>,
}

/// A request somebody is known to have made.
pub struct Identified {
    pub known: Box<Known>,
    pub user: Arc<UserInfo>,
    /// Who really made it, where `user` is impersonated.
    pub impersonator: Option<Arc<UserInfo>>,
    /// What authentication leaves for the audit event: key and value.
    pub annotations: Vec<(&'static str, String)>,
}

impl Known {
    pub fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        header(&self.parts.headers, name)
    }

    /// The first value of a query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        crate::query::first(&self.query, name)
    }
}

/// The first value of a header as text; empty where there is none or it is not text.
pub fn header(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> &str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// All values of a header as one, as Go's clients of a header list see it: joined by commas.
pub fn joined(headers: &HeaderMap, name: http::header::HeaderName) -> std::borrow::Cow<'_, str> {
    let mut values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let first = values.next().unwrap_or("");
    match values.next() {
        None => first.into(),
        Some(second) => values
            .fold(format!("{first},{second}"), |all, v| format!("{all},{v}"))
            .into(),
    }
}
