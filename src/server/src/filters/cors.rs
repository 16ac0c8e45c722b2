//! CORS: browsers at allowed origins may read answers. Off where no origin is configured.

use crate::body::{Body, Response};
use crate::filters::{Filter, Next, go_on};
use crate::request::Known;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN,
};
use http::{HeaderValue, Method, StatusCode};
use regex::Regex;
use std::future::Future;
use std::sync::Arc;

pub struct Cors {
    /// Matched anywhere in the `Origin` header; empty for no CORS.
    pub allowed_origins: Vec<Regex>,
}

const METHODS: &str = "POST, GET, OPTIONS, PUT, DELETE, PATCH";
const HEADERS: &str =
    "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since";

impl Filter for Cors {
    type In = Box<Known>;
    type Out = Box<Known>;

    fn handle<S: Next<Box<Known>>>(
        self: Arc<Self>,
        request: Box<Known>,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let allowed = |o: &&HeaderValue| o.to_str().is_ok_and(|o| allows(&self.allowed_origins, o));
            let origin = request.parts.headers.get(ORIGIN).filter(allowed).cloned();
            let Some(origin) = origin else {
                return go_on(next, request).await;
            };
            let mut response = if request.parts.method == Method::OPTIONS {
                let mut preflight = Response::new(Body::empty());
                *preflight.status_mut() = StatusCode::NO_CONTENT;
                preflight
            } else {
                go_on(next, request).await
            };
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            for (name, value) in [
                (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
                (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
                (ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
                (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            response
        }
    }
}

/// Whether pages of this origin may read answers.
pub fn allows(allowed_origins: &[Regex], origin: &str) -> bool {
    !origin.is_empty() && allowed_origins.iter().any(|r| r.is_match(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::filter;
    use crate::filters::request_info::tests::known;
    use tower::{Layer, Service};

    #[tokio::test]
    async fn a_preflight_of_an_allowed_origin_goes_no_further() {
        let layer = filter(Cors {
            allowed_origins: vec![Regex::new("^https://ok$").unwrap()],
        });
        let inner = tower::service_fn(|_: Box<Known>| async { Ok(Response::new(Body::empty())) });
        let mut chain = layer.layer(inner);
        for (origin, code, allowed) in [("https://ok", 204, true), ("https://no", 200, false)] {
            let mut request = known("OPTIONS", "/api");
            request.parts.headers.insert(ORIGIN, HeaderValue::from_static(origin));
            let response = chain.call(request).await.unwrap();
            assert_eq!(response.status(), code);
            assert_eq!(response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), allowed);
        }
    }
}
