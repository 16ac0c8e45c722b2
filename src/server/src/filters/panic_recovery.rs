//! Panic recovery: a broken invariant costs one request, not the connection.

use crate::body::Response;
use crate::encode;
use crate::filters::{Filter, Next, go_on};
use crate::metrics::Metrics;
use crate::query::{self, Plus};
use crate::request::Received;
use crate::request_info::RequestInfo;
use futures_util::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

pub struct PanicRecovery {
    pub metrics: Metrics,
}

impl Filter for PanicRecovery {
    type In = Received;
    type Out = Received;

    fn handle<S: Next<Received>>(
        self: Arc<Self>,
        request: Received,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        // Not the query: what clients write there is theirs.
        let described = (
            request.parts.method.clone(),
            request.parts.uri.path().to_owned(),
            request.audit_id.clone(),
        );
        async move {
            // Nothing of the request is used after the panic but what was copied before it.
            match AssertUnwindSafe(go_on(next, request)).catch_unwind().await {
                Ok(response) => response,
                Err(_) => {
                    let (method, path, audit_id) = described;
                    tracing::error!(%method, path, audit_id, "a request panicked");
                    let info = query::decode(&path, Plus::Literal).map(|path| RequestInfo::new(&method, &path, &[]));
                    let info = info.and_then(Result::ok).unwrap_or_default();
                    crate::endpoints::count_abort(&self.metrics, &info, &method);
                    encode::text(
                        500,
                        "This request caused apiserver to panic. Look in the logs for details.\n",
                    )
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::filter;
    use crate::filters::request_info::tests::received;
    use fairlead_telemetry::Families;
    use tower::{Layer, Service};

    #[tokio::test]
    async fn a_panic_is_a_500() {
        let layer = filter(PanicRecovery {
            metrics: Metrics::register(&Families::default()),
        });
        let panics = tower::service_fn(|_: Received| async { panic!("a test panics") });
        let response: Response = layer.layer(panics).call(received("GET", "/")).await.unwrap();
        assert_eq!(response.status(), 500);
    }
}
