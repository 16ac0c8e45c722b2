//! Impersonation: a user who may act as another does so from here on.

use crate::body::Response;
use crate::filters::authentication::RequestHeaders;
use crate::filters::authorization::attributes;
use crate::filters::{Filter, Next, go_on};
use crate::request::Identified;
use crate::router::failure;
use fairlead_auth::Authorizer;
use fairlead_auth::impersonation::{Impersonation as Modes, is_impersonation_header, requested};
use http::HeaderValue;
use http::header::HeaderName;
use std::future::Future;
use std::sync::Arc;

pub struct Impersonation {
    authorizer: Arc<dyn Authorizer>,
    modes: Modes,
}

impl Impersonation {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Impersonation {
        Impersonation {
            authorizer,
            modes: Modes::default(),
        }
    }
}

impl Filter for Impersonation {
    type In = Identified;
    type Out = Identified;

    fn handle<S: Next<Identified>>(
        self: Arc<Self>,
        mut request: Identified,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let names = request
                .known
                .parts
                .headers
                .keys()
                .filter(|name| is_impersonation_header(name.as_str()));
            let names: Vec<HeaderName> = names.cloned().collect();
            if names.is_empty() {
                return go_on(next, request).await;
            }
            let wanted = match requested(&RequestHeaders(&request.known.parts.headers)) {
                Ok(wanted) => wanted,
                Err(status) => return refused(&status, &request),
            };
            // Nothing behind this filter behaves differently because somebody is impersonated.
            for name in names {
                request.known.parts.headers.remove(name);
            }
            if let Some(wanted) = wanted {
                let attributes = attributes(&request.known.info, &request.user);
                match self.modes.check(&*self.authorizer, &attributes, &wanted).await {
                    Ok(impersonated) => {
                        if let Some(trail) = &request.known.trail {
                            trail.impersonated(impersonated.user.clone(), &impersonated.constraint);
                        }
                        let impersonator = std::mem::replace(&mut request.user, impersonated.user);
                        request.impersonator = Some(impersonator);
                    }
                    Err(status) => return refused(&status, &request),
                }
            }
            go_on(next, request).await
        }
    }
}

fn refused(status: &fairlead_api::Status, request: &Identified) -> Response {
    let mut response = failure(status, &request.known);
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}
