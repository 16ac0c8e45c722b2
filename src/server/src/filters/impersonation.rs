//! Impersonation: a user who may act as another does so from here on.

use crate::body::Response;
use crate::encode;
use crate::filters::{Filter, Next, go_on};
use crate::request::Identified;
use fairlead_api::Status;
use fairlead_auth::Authorizer;
use std::future::Future;
use std::sync::Arc;

pub struct Impersonation {
    pub authorizer: Arc<dyn Authorizer>,
}

const PREFIX: &str = "impersonate-";

impl Filter for Impersonation {
    type In = Identified;
    type Out = Identified;

    fn handle<S: Next<Identified>>(
        self: Arc<Self>,
        request: Identified,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let headers = &request.known.parts.headers;
            if headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
                let status = Status::new(403, "Forbidden", "impersonation is not configured");
                return encode::status(&status, headers, &request.known.query);
            }
            go_on(next, request).await
        }
    }
}
