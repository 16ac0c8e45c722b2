//! The place of audit: behind authentication, so that events name a user, and before impersonation, so that they name both.

use crate::body::Response;
use crate::filters::{Filter, Next, go_on};
use crate::request::Identified;
use std::future::Future;
use std::sync::Arc;

/// Sees every authenticated request and its answer. The audit crate implements it; without one this filter does nothing.
pub trait Auditor: Send + Sync {
    /// The request as it came, before anything is decided about it.
    fn received(&self, request: &Identified);
    /// Its answer, before it is sent.
    fn answered(&self, audit_id: &str, response: &Response);
}

pub struct Audit {
    pub auditor: Option<Arc<dyn Auditor>>,
}

impl Filter for Audit {
    type In = Identified;
    type Out = Identified;

    fn handle<S: Next<Identified>>(
        self: Arc<Self>,
        request: Identified,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let Some(auditor) = &self.auditor else {
                return go_on(next, request).await;
            };
            auditor.received(&request);
            let audit_id = request.known.audit_id.clone();
            let response = go_on(next, request).await;
            auditor.answered(&audit_id, &response);
            response
        }
    }
}
