//! Observation: the request's trace (W3C), what it waits for, and a line in the log for some.
//!
//! It stands outside of authentication, so that refusals are seen too; who strangers say is watching them does not count
//! (see [`Scope::identify`]).
// PERFORMANCE: per-request path

use crate::body::{Hold, Response};
use crate::filters::{Filter, Next, go_on};
use crate::request::Known;
use compact_str::CompactString;
use fairlead_resource::hooks::Entropy;
use fairlead_telemetry::trace::{self, Scope, TraceContext, Wait};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Which requests are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Of a million requests that belong to no trace, how many start one.
    pub traces_per_million: u32,
    /// Of all requests, the share that is logged.
    pub access_log: f64,
}

pub struct Observation {
    pub sampling: Sampling,
    pub entropy: Arc<dyn Entropy>,
}

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

impl Filter for Observation {
    type In = Box<Known>;
    type Out = Box<Known>;

    fn handle<S: Next<Box<Known>>>(
        self: Arc<Self>,
        mut request: Box<Known>,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let trace = self.trace(&mut request.parts.headers);
            let logged = self.draws(self.sampling.access_log);
            // Of writes it matters how long webhooks take.
            let reads = matches!(request.parts.method, Method::GET | Method::HEAD);
            if trace.is_none() && !logged && reads {
                return go_on(next, request).await;
            }
            let scope = Arc::new(Scope::new(trace));
            let line = logged.then(|| Line::new(&request, scope.clone()));
            let mut response = trace::within(scope, async move { go_on(next, request).await }).await;
            if let Some(mut line) = line {
                line.code = response.status().as_u16();
                line.first_byte = line.at.elapsed();
                response.body_mut().hold(line);
            }
            response
        }
    }
}

impl Observation {
    /// The client's trace, or a new one for some requests; what goes on to others says the same.
    fn trace(&self, headers: &mut HeaderMap) -> Option<TraceContext> {
        let mut given = headers.get_all(&TRACEPARENT).iter();
        let (first, second) = (given.next(), given.next());
        if let (Some(only), None) = (first, second)
            && let Some(trace) = only.to_str().ok().and_then(TraceContext::parse)
        {
            return Some(trace);
        }
        if first.is_some() {
            // A header that makes no sense is no trace, and must not become somebody else's.
            headers.remove(&TRACEPARENT);
            headers.remove(&TRACESTATE);
        }
        if !self.draws(f64::from(self.sampling.traces_per_million) / 1e6) {
            return None;
        }
        let entropy = &self.entropy;
        let trace = TraceContext::start([entropy.bits(), entropy.bits(), entropy.bits()]);
        if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        Some(trace)
    }

    fn draws(&self, share: f64) -> bool {
        share > 0.0 && ((self.entropy.bits() >> 11) as f64 / (1u64 << 53) as f64) < share
    }
}

/// What is logged when a request is over. Nothing of a header or a query is in it: they may hold secrets.
struct Line {
    method: Method,
    path: CompactString,
    verb: CompactString,
    group: CompactString,
    version: CompactString,
    resource: CompactString,
    subresource: CompactString,
    audit_id: String,
    at: Instant,
    first_byte: Duration,
    code: u16,
    scope: Arc<Scope>,
}

impl Line {
    fn new(request: &Known, scope: Arc<Scope>) -> Line {
        let info = request.info.clone();
        Line {
            method: request.parts.method.clone(),
            path: info.path,
            verb: info.verb,
            group: info.group,
            version: info.version,
            resource: info.resource,
            subresource: info.subresource,
            audit_id: request.audit_id.clone(),
            at: request.at,
            first_byte: Duration::ZERO,
            code: 0,
            scope,
        }
    }
}

impl Hold for Line {
    fn released(&mut self, sent: u64) {
        let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let spent = |wait| millis(self.scope.spent(wait));
        let trace = self.scope.trace_id().map(|id| id.to_string());
        tracing::info!(
            target: "fairlead::access",
            method = %self.method,
            path = self.path.as_str(),
            verb = self.verb.as_str(),
            group = self.group.as_str(),
            version = self.version.as_str(),
            resource = self.resource.as_str(),
            subresource = self.subresource.as_str(),
            user = self.scope.user(),
            code = self.code,
            bytes = sent,
            total_ms = millis(self.at.elapsed()),
            first_byte_ms = millis(self.first_byte),
            queue_ms = spent(Wait::Queue),
            backend_ms = spent(Wait::Backend),
            connect_ms = spent(Wait::Connect),
            webhook_ms = spent(Wait::Webhook),
            attempts = self.scope.attempts(),
            audit_id = self.audit_id,
            trace_id = trace.as_deref().unwrap_or(""),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::filters::filter;
    use crate::filters::request_info::tests::known;
    use tower::{Layer, Service};

    struct Half;

    impl Entropy for Half {
        fn bits(&self) -> u64 {
            1 << 63
        }
    }

    /// What the rest of the chain sees of the trace: the header that goes on, and whether it is recorded.
    async fn seen(sampling: Sampling, headers: &[&str]) -> (Vec<String>, bool) {
        let layer = filter(Observation {
            sampling,
            entropy: Arc::new(Half),
        });
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let rest = {
            let told = told.clone();
            tower::service_fn(move |request: Box<Known>| {
                let values = request.parts.headers.get_all(TRACEPARENT).iter();
                *told.lock().unwrap() = values.map(|v| v.to_str().unwrap().to_owned()).collect();
                let recorded = trace::sampled().is_some();
                async move {
                    let mut response = Response::new(Body::empty());
                    response.extensions_mut().insert(recorded);
                    Ok(response)
                }
            })
        };
        let mut request = known("GET", "/api/v1/namespaces");
        for header in headers {
            request.parts.headers.append(TRACEPARENT, header.parse().unwrap());
        }
        let response: Response = layer.layer(rest).call(request).await.unwrap();
        let passed = told.lock().unwrap().clone();
        (passed, response.extensions().get::<bool>() == Some(&true))
    }

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn a_trace_goes_on_and_a_wrong_one_ends() {
        let never = Sampling::default();
        assert_eq!(seen(never, &[GIVEN]).await, (vec![GIVEN.to_owned()], true));
        let unrecorded = GIVEN.replace("-01", "-00");
        assert_eq!(seen(never, &[&unrecorded]).await, (vec![unrecorded.clone()], false));
        assert_eq!(seen(never, &["00-nonsense"]).await, (vec![], false));
        assert_eq!(seen(never, &[GIVEN, GIVEN]).await, (vec![], false));
    }

    #[tokio::test]
    async fn some_requests_start_a_trace() {
        let per_million = |traces_per_million| Sampling {
            traces_per_million,
            ..Sampling::default()
        };
        assert_eq!(seen(per_million(500_000), &[]).await, (vec![], false));
        let (passed, recorded) = seen(per_million(500_001), &[]).await;
        assert!(
            recorded && passed.len() == 1 && passed[0].ends_with("-01"),
            "{passed:?}"
        );
        assert_eq!(seen(per_million(1_000_000), &[GIVEN]).await.0, [GIVEN]);
    }
}
