//! The place of priority and fairness: until it is there, a bound on requests in flight, one for reads and one for writes.

use crate::body::{Kept, Response};
use crate::filters::{Filter, Next, go_on};
use crate::metrics::Metrics;
use crate::request::Identified;
use crate::router::failure;
use fairlead_api::Status;
use fairlead_auth::authentication::MASTERS;
use fairlead_discovery::{Route, Router};
use fairlead_telemetry::metrics::IntGauge;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Requests to backends are not counted: each backend has a bound of its own at the gateway, and a slow one must not
/// take what everybody else needs.
pub struct InFlight {
    router: Router,
    reads: Option<Arc<Semaphore>>,
    writes: Option<Arc<Semaphore>>,
    metrics: Metrics,
}

impl InFlight {
    /// Zero means no bound.
    pub fn new(router: Router, reads: usize, writes: usize, metrics: Metrics) -> InFlight {
        let bound = |n: usize| (n > 0).then(|| Arc::new(Semaphore::new(n)));
        for kind in ["readOnly", "mutating"] {
            metrics.inflight.with(&[kind]);
            metrics.inqueue.with(&[kind]);
        }
        InFlight {
            router,
            reads: bound(reads),
            writes: bound(writes),
            metrics,
        }
    }
}

impl Filter for InFlight {
    type In = Identified;
    type Out = Identified;

    fn handle<S: Next<Identified>>(
        self: Arc<Self>,
        request: Identified,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let info = &request.known.info;
            if info.long_running() {
                return go_on(next, request).await;
            }
            let reads = matches!(info.verb.as_str(), "get" | "list" | "watch");
            let (bound, kind) = if reads {
                (&self.reads, "readOnly")
            } else {
                (&self.writes, "mutating")
            };
            let route = self.router.load().route(&info.group, &info.version, &info.resource);
            let is_remote = matches!(route, Some(Route::Remote(_)));
            let permit = match bound {
                Some(_) if is_remote => None,
                None => None,
                Some(bound) => match bound.clone().try_acquire_owned() {
                    Ok(permit) => Some(permit),
                    Err(_) if request.user.in_group(MASTERS) => None,
                    Err(_) => {
                        crate::endpoints::count_termination(&self.metrics, info, &request.known.parts.method, 429);
                        let status = Status::too_many_requests("Too many requests, please try again later.", 1);
                        return failure(&status, &request.known);
                    }
                },
            };
            let counted = Counted::new(self.metrics.inflight.with(&[kind]));
            let mut response = go_on(next, request).await;
            if !response.body().is_whole() {
                // The memory of a long answer is bounded as long as it is being sent.
                response.body_mut().hold(Kept((permit, counted)));
            }
            response
        }
    }
}

/// One request in a gauge.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Counted {
        gauge.inc();
        Counted(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
