//! The endpoints of one backend: which of them gets a request, and what is tried again elsewhere.
// PERFORMANCE: per-request path

use crate::body::{Body, BoxError, Guarded, Replay};
use crate::connect::{ConnectError, Connector, io_text};
use crate::endpoint::{Endpoint, Release, Tuning};
use crate::metrics::BackendMetrics;
use crate::resolve::Target;
use arc_swap::ArcSwap;
use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// A request on its way out. What depends on the endpoint is added for each attempt.
pub struct Outgoing {
    pub method: Method,
    pub path_and_query: PathAndQuery,
    /// Without `Host`.
    pub headers: HeaderMap,
    pub body: Replay,
    /// Watches and the like.
    pub long_running: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct SendError {
    /// In full, for the log and for conditions.
    pub text: String,
    /// As clients may read it.
    pub public: String,
}

pub struct Pool {
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    connector: Connector,
    tuning: Arc<Tuning>,
    metrics: BackendMetrics,
    budget: Budget,
    /// Feeds the choice between endpoints; any spread will do.
    picks: AtomicU64,
    epoch: Instant,
    /// Told when an endpoint fails.
    trouble: Arc<Notify>,
}

/// Retries are at most a fifth of requests, plus a few.
struct Budget(AtomicI64);

/// Attempts for one request, the first included.
const MAX_ATTEMPTS: usize = 3;

enum Failure {
    /// The backend has not seen the request, or says that it has not acted on it.
    NotSent,
    /// It may have.
    Lost,
    /// It does not answer, and may have seen the request.
    Silent,
}

// === impl Pool ===

impl Pool {
    pub fn new(connector: Connector, tuning: Arc<Tuning>, metrics: BackendMetrics, trouble: Arc<Notify>) -> Pool {
        Pool {
            endpoints: ArcSwap::default(),
            connector,
            tuning,
            metrics,
            budget: Budget(AtomicI64::new(Budget::MAX)),
            picks: AtomicU64::new(0),
            epoch: Instant::now(),
            trouble,
        }
    }

    /// Replaces the endpoints. Those that stay keep their connections.
    pub fn update(&self, targets: &[Target]) {
        let old = self.endpoints.load();
        if old.len() == targets.len() && old.iter().zip(targets).all(|(e, t)| e.target == *t) {
            return;
        }
        let known = |target: &Target| old.iter().find(|e| e.target == *target).cloned();
        let new = targets
            .iter()
            .map(|t| known(t).unwrap_or_else(|| Arc::new(Endpoint::new(t.clone()))))
            .collect();
        self.endpoints.store(Arc::new(new));
    }

    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    pub fn metrics(&self) -> &BackendMetrics {
        &self.metrics
    }

    /// Sends a request to the best endpoint, and again to others for as long as that is safe.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Response<Body>, SendError> {
        self.budget.deposit();
        let mut avoid = None;
        let mut attempt = 1;
        loop {
            let endpoint = self
                .pick(avoid.as_ref())
                .ok_or_else(|| SendError::from("no endpoints available".to_owned()))?;
            let (error, failure) = match self.attempt(&endpoint, &outgoing).await {
                Ok(response) => {
                    endpoint.succeeded();
                    self.metrics.answered();
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            self.note_failure(&endpoint, &failure);
            if attempt == MAX_ATTEMPTS || !self.may_repeat(&outgoing, &failure) || !self.budget.withdraw() {
                return Err(error);
            }
            tracing::debug!(
                backend = self.metrics.name(),
                error = error.text,
                attempt,
                "trying again"
            );
            avoid = Some(endpoint);
            attempt += 1;
        }
    }

    fn may_repeat(&self, outgoing: &Outgoing, failure: &Failure) -> bool {
        let idempotent = matches!(outgoing.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let sensible = match failure {
            Failure::NotSent => true,
            Failure::Lost => idempotent,
            // Who was silent once would let the client wait once more.
            Failure::Silent => idempotent && self.endpoints.load().len() > 1,
        };
        sensible && outgoing.body.can_repeat()
    }

    /// Sends a request to one endpoint only, whatever its health.
    pub async fn send_to(&self, endpoint: &Arc<Endpoint>, outgoing: &Outgoing) -> Result<Response<Body>, SendError> {
        match self.attempt(endpoint, outgoing).await {
            Ok(response) => {
                endpoint.succeeded();
                Ok(response)
            }
            Err((error, _)) => {
                self.eject(endpoint);
                Err(error)
            }
        }
    }

    /// A connection of its own, speaking HTTP/1.1, and the host it leads to.
    pub async fn connect_http1(
        &self,
    ) -> Result<
        (
            impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
            String,
        ),
        ConnectError,
    > {
        let mut avoid = None;
        loop {
            let endpoint = self
                .pick(avoid.as_ref())
                .ok_or_else(|| ConnectError::plain("no endpoints available"))?;
            match self.connector.connect_http1(&endpoint.target).await {
                Ok(stream) => return Ok((stream, endpoint.authority.clone())),
                Err(error) => {
                    self.metrics.failed_to_connect(&error);
                    self.note_failure(&endpoint, &Failure::NotSent);
                    if avoid.is_some() || self.endpoints.load().len() < 2 {
                        return Err(error);
                    }
                    avoid = Some(endpoint);
                }
            }
        }
    }

    async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        outgoing: &Outgoing,
    ) -> Result<Response<Body>, (SendError, Failure)> {
        let load = endpoint.begin();
        let lease = endpoint.lease(&self.connector, &self.tuning, &self.metrics).await;
        let lease = lease.map_err(|e| {
            let failure = if e.timed_out { Failure::Silent } else { Failure::NotSent };
            let error = SendError {
                text: e.text,
                public: e.public,
            };
            (error, failure)
        })?;
        let request = outgoing.request(endpoint, lease.is_http2());
        let sending = lease.send(request, endpoint, load, self.tuning.max_idle_http1);
        match self.watched(endpoint, sending).await {
            Some(Ok((response, release))) => Ok(guarded(response, release)),
            Some(Err((error, unsent))) => {
                let failure = match unsent || was_refused(&error) {
                    true => Failure::NotSent,
                    false if error.is_timeout() => Failure::Silent,
                    false => Failure::Lost,
                };
                Err((SendError::from(hyper_text(&error)), failure))
            }
            None => {
                let text = "net/http: timeout awaiting response headers".to_owned();
                Err((SendError::from(text), Failure::Silent))
            }
        }
    }

    /// Waits for an answer. One that takes long makes somebody see whether the endpoint is well; `None` if it is not.
    async fn watched<T>(&self, endpoint: &Endpoint, sending: impl Future<Output = T>) -> Option<T> {
        let mut sending = std::pin::pin!(sending);
        if let Ok(answer) = timeout(self.tuning.suspicion, &mut sending).await {
            return Some(answer);
        }
        let abandoned = endpoint.abandoned();
        self.trouble.notify_one();
        tokio::select! {
            answer = sending => Some(answer),
            () = abandoned => None,
        }
    }

    /// The less loaded of two, of those that are not ejected where there are any.
    fn pick(&self, avoid: Option<&Arc<Endpoint>>) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        if let [only] = endpoints.as_slice() {
            return Some(only.clone());
        }
        let now = self.now_millis();
        let avoided = |e: &Arc<Endpoint>| avoid.is_some_and(|a| Arc::ptr_eq(a, e));
        let healthy: Vec<&Arc<Endpoint>> = endpoints.iter().filter(|e| !e.is_ejected(now) && !avoided(e)).collect();
        let candidates = match healthy.is_empty() {
            false => healthy,
            true => endpoints.iter().filter(|e| !avoided(e)).collect(),
        };
        let count = candidates.len() as u64;
        if count < 2 {
            return candidates.first().map(|e| (*e).clone());
        }
        let spread = mixed(self.picks.fetch_add(1, Ordering::Relaxed));
        let first = spread % count;
        let second = (first + 1 + (spread >> 32) % (count - 1)) % count;
        let (first, second) = (candidates[first as usize], candidates[second as usize]);
        Some(if first.load() <= second.load() {
            first.clone()
        } else {
            second.clone()
        })
    }

    fn note_failure(&self, endpoint: &Arc<Endpoint>, failure: &Failure) {
        self.metrics.attempted(match failure {
            Failure::NotSent => "not_sent",
            Failure::Lost => "lost",
            Failure::Silent => "silent",
        });
        self.eject(endpoint);
        self.trouble.notify_one();
    }

    fn eject(&self, endpoint: &Arc<Endpoint>) {
        if endpoint.failed(self.now_millis(), &self.tuning) {
            self.metrics.ejected();
        }
    }

    fn now_millis(&self) -> u64 {
        // Starts at one, so that zero is in the past.
        self.epoch.elapsed().as_millis() as u64 + 1
    }
}

impl Outgoing {
    fn request(&self, endpoint: &Endpoint, http2: bool) -> Request<crate::body::Attempt> {
        let mut request = Request::new(self.body.attempt());
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        if let Ok(host) = HeaderValue::from_str(&endpoint.authority) {
            if headers.contains_key(&crate::headers::X_FORWARDED_HOST) {
                headers.insert(&crate::headers::X_FORWARDED_HOST, host.clone());
            }
            if !http2 {
                headers.insert(HOST, host);
            }
        }
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.path_and_query.clone());
        if http2 {
            *request.version_mut() = Version::HTTP_2;
            uri.scheme = Some(Scheme::HTTPS);
            uri.authority = endpoint.authority.parse::<Authority>().ok();
        }
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request
    }
}

impl Budget {
    /// In thousandths of a retry.
    const MAX: i64 = 10_000;
    const DEPOSIT: i64 = 200;
    const RETRY: i64 = 1_000;

    fn deposit(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| {
            Some((b + Budget::DEPOSIT).min(Budget::MAX))
        });
    }

    fn withdraw(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| {
                (b >= Budget::RETRY).then_some(b - Budget::RETRY)
            })
            .is_ok()
    }
}

impl From<String> for SendError {
    fn from(text: String) -> SendError {
        SendError {
            public: text.clone(),
            text,
        }
    }
}

fn guarded(response: Response<hyper::body::Incoming>, release: Release) -> Response<Body> {
    response.map(|body| {
        Guarded {
            body,
            guard: Some(release),
        }
        .map_err(|e| Box::new(e) as BoxError)
        .boxed_unsync()
    })
}

/// Whether the backend says that it has not acted on the request.
fn was_refused(error: &hyper::Error) -> bool {
    if error.is_canceled() {
        return true;
    }
    let Some(error) = h2_error(error) else { return false };
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => error.is_remote(),
        // The streams that a graceful GOAWAY ends are those it did not accept.
        Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        _ => false,
    }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<h2::Error>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// What Go's HTTP client would say.
pub fn hyper_text(error: &hyper::Error) -> String {
    if let Some(h2) = h2_error(error)
        && !h2.is_io()
    {
        return match h2.reason() {
            Some(reason) if h2.is_go_away() => {
                format!("http2: server sent GOAWAY and closed the connection; {reason:?}")
            }
            Some(reason) => format!("stream error: {reason:?}; received from peer"),
            None => "http2: client connection lost".into(),
        };
    }
    if error.is_timeout() {
        return "http2: client connection lost".into();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "EOF".into();
    }
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::UnexpectedEof => "EOF".into(),
                _ => format!("read: {}", io_text(io)),
            };
        }
        source = error.source();
    }
    if error.is_parse() {
        "net/http: HTTP/1.x transport connection broken: malformed HTTP response".into()
    } else {
        "EOF".into()
    }
}

/// Spreads consecutive numbers (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_allows_a_burst_and_then_a_fifth() {
        let budget = Budget(AtomicI64::new(Budget::MAX));
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10);
        let retried = (0..100).filter(|_| {
            budget.deposit();
            budget.withdraw()
        });
        assert_eq!(retried.count(), 20);
    }
}
