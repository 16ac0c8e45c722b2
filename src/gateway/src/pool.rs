//! The endpoints of one Service: which of them gets a request, and what becomes of it there.
// PERFORMANCE: per-request path

use crate::body::{Body, Replay};
use crate::connect::{ConnectError, Connector};
use crate::endpoint::{Endpoint, Tuning};
use crate::health::latency::Latencies;
use crate::health::outlier::State;
use crate::health::patient::timeout;
use crate::lost::Lost;
use crate::metrics::{Attempted, BackendMetrics};
use crate::policy::{Live, Outlier, Policy};
use crate::resolve::Target;
use arc_swap::ArcSwap;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

pub mod retry;
pub mod routes;

use retry::Budget;

/// A request on its way out. What depends on the endpoint is added for each attempt.
pub struct Outgoing {
    pub method: Method,
    pub path_and_query: PathAndQuery,
    /// Without `Host`.
    pub headers: HeaderMap,
    pub body: Replay,
    /// Watches and the like.
    pub long_running: bool,
    /// When nobody waits for the answer any longer.
    pub deadline: Option<Instant>,
    /// Where not to send it first, if there is a choice.
    pub avoid: Option<Arc<Endpoint>>,
    /// Told where it is sent first.
    pub chosen: Option<Arc<OnceLock<Arc<Endpoint>>>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct SendError {
    /// In full, for the log and for conditions.
    pub text: String,
    /// As clients may read it.
    pub public: String,
    /// The client broke off: nobody else is to blame.
    pub by_client: bool,
}

pub struct Pool {
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    connector: Connector,
    live: Live,
    metrics: BackendMetrics,
    budget: Budget,
    latencies: Latencies,
    /// Feeds the choice between endpoints; any spread will do.
    picks: AtomicU64,
    epoch: Instant,
    /// Told when an endpoint fails.
    trouble: Arc<Notify>,
}

/// An attempt without an answer.
pub struct Failed {
    pub error: SendError,
    /// The backend may have seen the request.
    pub sent: bool,
    /// Nothing was heard of it, not even a refusal.
    pub silent: bool,
    /// It was not waited for any longer, which is no proof that the endpoint is not well.
    pub impatient: bool,
}

// === impl Pool ===

impl Pool {
    pub fn new(connector: Connector, live: Live, metrics: BackendMetrics, trouble: Arc<Notify>) -> Pool {
        Pool {
            endpoints: ArcSwap::default(),
            connector,
            live,
            metrics,
            budget: Budget::default(),
            latencies: Latencies::default(),
            picks: AtomicU64::new(0),
            epoch: Instant::now(),
            trouble,
        }
    }

    /// Whether these are the endpoints.
    pub fn leads_to(&self, targets: &[Target]) -> bool {
        let endpoints = self.endpoints.load();
        endpoints.len() == targets.len() && endpoints.iter().zip(targets).all(|(e, t)| e.target == *t)
    }

    /// Replaces the endpoints. Those that stay keep their connections.
    pub fn update(&self, targets: &[Target]) {
        if self.leads_to(targets) {
            return;
        }
        let old = self.endpoints.load();
        let known = |target: &Target| old.iter().find(|e| e.target == *target).cloned();
        let new = targets
            .iter()
            .map(|t| known(t).unwrap_or_else(|| Arc::new(Endpoint::new(t.clone(), &self.metrics))))
            .collect();
        self.endpoints.store(Arc::new(new));
    }

    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// Whether there is more than one endpoint.
    pub fn has_choice(&self) -> bool {
        self.endpoints.load().len() > 1
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.live.load_full()
    }

    pub fn metrics(&self) -> &BackendMetrics {
        &self.metrics
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How long answers of late took to begin.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// How an endpoint is now.
    pub fn state(&self, endpoint: &Endpoint) -> State {
        endpoint.health.state(self.now_millis())
    }

    /// Sends a request to the best endpoint, and again to others for as long as that is safe.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Response<Body>, SendError> {
        retry::send(self, outgoing).await
    }

    /// Sends a request to one endpoint only, whatever its health.
    pub async fn send_to(&self, endpoint: &Arc<Endpoint>, outgoing: &Outgoing) -> Result<Response<Body>, SendError> {
        let sent = self.exchange(endpoint, outgoing, &self.policy(), None).await;
        sent.map_err(|failed| {
            self.eject(endpoint);
            failed.error
        })
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
        let policy = self.policy();
        let mut avoid = None;
        loop {
            let endpoint = self
                .pick(avoid.as_ref())
                .ok_or_else(|| ConnectError::plain("no endpoints available"))?;
            match self.connector.connect_http1(&endpoint.target, &policy.tuning).await {
                Ok(stream) => return Ok((stream, endpoint.authority.clone())),
                Err(error) => {
                    endpoint.metrics.failed_to_connect(&error);
                    self.note_failure(&endpoint, &Failed::to_connect(error.clone()));
                    if avoid.is_some() || !self.has_choice() {
                        return Err(error);
                    }
                    avoid = Some(endpoint);
                }
            }
        }
    }

    /// One attempt at one endpoint, whose answer is judged. `patience` bounds the time to its first byte beside what the
    /// policy says.
    pub async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        outgoing: &Outgoing,
        policy: &Policy,
        patience: Option<Duration>,
    ) -> Result<Response<Body>, Failed> {
        let started = Instant::now();
        let response = self.exchange(endpoint, outgoing, policy, patience).await?;
        let took = started.elapsed();
        endpoint.metrics.attempted(Attempted::Answered);
        if outgoing.long_running {
            return Ok(response);
        }
        endpoint.metrics.first_byte(took);
        self.latencies.record(took);
        let is_error = matches!(response.status().as_u16(), 502..=504);
        self.judge(endpoint, is_error, took, &policy.outlier);
        Ok(response)
    }

    async fn exchange(
        &self,
        endpoint: &Arc<Endpoint>,
        outgoing: &Outgoing,
        policy: &Policy,
        patience: Option<Duration>,
    ) -> Result<Response<Body>, Failed> {
        let load = endpoint.begin();
        let lease = endpoint.lease(&self.connector, &policy.tuning).await;
        let lease = lease.map_err(Failed::to_connect)?;
        let request = outgoing.request(endpoint, lease.is_http2());
        let sending = pin!(lease.send(request, endpoint, load, &policy.tuning));
        let mut watched = pin!(self.watched(endpoint, sending, &policy.tuning));
        let first_byte = policy.timeouts.first_byte.filter(|_| !outgoing.long_running);
        let bounds = [patience, first_byte];
        let answer = match bounds.into_iter().flatten().min() {
            Some(bound) => timeout(bound, watched.as_mut()).await,
            None => Some(watched.as_mut().await),
        };
        let impatient = answer.is_none();
        match answer.flatten() {
            Some(Ok(response)) => {
                endpoint.health.answered(self.now_millis());
                Ok(response)
            }
            Some(Err(lost)) => Err(Failed {
                impatient,
                ..Failed::from(lost)
            }),
            None => Err(Failed {
                error: SendError::from("net/http: timeout awaiting response headers".to_owned()),
                sent: true,
                silent: true,
                impatient,
            }),
        }
    }

    /// Waits for an answer. One that takes long makes somebody see whether the endpoint is well; `None` if it is not.
    async fn watched<T>(
        &self,
        endpoint: &Endpoint,
        mut sending: Pin<&mut impl Future<Output = T>>,
        tuning: &Tuning,
    ) -> Option<T> {
        if let Some(answer) = timeout(tuning.suspicion, sending.as_mut()).await {
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
    pub fn pick(&self, avoid: Option<&Arc<Endpoint>>) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        if let [only] = endpoints.as_slice() {
            return Some(only.clone());
        }
        let now = self.now_millis();
        let avoided = |e: &Arc<Endpoint>| avoid.is_some_and(|a| Arc::ptr_eq(a, e));
        let healthy: Vec<&Arc<Endpoint>> = endpoints
            .iter()
            .filter(|e| !e.health.is_ejected(now) && !avoided(e))
            .collect();
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

    /// An attempt had no answer.
    pub fn note_failure(&self, endpoint: &Arc<Endpoint>, failed: &Failed) {
        if failed.error.by_client {
            endpoint.metrics.attempted(Attempted::Canceled);
            return;
        }
        endpoint.metrics.attempted(match failed {
            Failed { impatient: true, .. } => Attempted::Timeout,
            Failed { silent: true, .. } => Attempted::Silent,
            Failed { sent: true, .. } => Attempted::Lost,
            Failed { .. } => Attempted::NotSent,
        });
        if failed.impatient {
            self.judge(endpoint, true, Duration::ZERO, &self.live.load().outlier);
        } else {
            self.eject(endpoint);
        }
        self.trouble.notify_one();
    }

    /// Counts a failure, which may eject the endpoint.
    pub fn eject(&self, endpoint: &Endpoint) {
        if endpoint.health.failed(self.now_millis(), &self.live.load().outlier) {
            endpoint.metrics.ejected();
        }
    }

    fn judge(&self, endpoint: &Endpoint, is_error: bool, took: Duration, outlier: &Outlier) {
        if let Some(reason) = endpoint.health.judge(is_error, took, outlier)
            && self.may_eject_outlier(outlier)
            && endpoint.health.eject(self.now_millis(), outlier, reason)
        {
            endpoint.metrics.ejected();
        }
    }

    /// Whether one more endpoint may be left out that can be reached.
    fn may_eject_outlier(&self, outlier: &Outlier) -> bool {
        let (endpoints, now) = (self.endpoints.load(), self.now_millis());
        let ejected = endpoints.iter().filter(|e| e.health.is_outlier(now)).count();
        let allowed = endpoints.len() * outlier.max_ejected_percent / 100;
        outlier.max_ejected_percent > 0 && ejected < allowed.max(1)
    }

    fn now_millis(&self) -> u64 {
        // Starts at one, so that zero is in the past.
        self.epoch.elapsed().as_millis() as u64 + 1
    }
}

impl Failed {
    fn to_connect(error: ConnectError) -> Failed {
        Failed {
            sent: false,
            silent: error.timed_out,
            impatient: false,
            error: SendError {
                text: error.text,
                public: error.public,
                by_client: false,
            },
        }
    }
}

impl From<Lost> for Failed {
    fn from(lost: Lost) -> Failed {
        Failed {
            sent: lost.sent,
            silent: lost.silent,
            impatient: false,
            error: SendError {
                by_client: lost.by_client,
                ..SendError::from(lost.text)
            },
        }
    }
}

impl Outgoing {
    pub fn new(method: Method, path_and_query: PathAndQuery, headers: HeaderMap, body: Replay) -> Outgoing {
        Outgoing {
            method,
            path_and_query,
            headers,
            body,
            long_running: false,
            deadline: None,
            avoid: None,
            chosen: None,
        }
    }

    fn request(&self, endpoint: &Endpoint, http2: bool) -> Request<crate::body::Attempt> {
        let mut request = Request::new(self.body.attempt());
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        if let Some(host) = endpoint.host.clone() {
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
            uri.authority = endpoint.uri_authority.clone();
        }
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request
    }
}

impl From<String> for SendError {
    fn from(text: String) -> SendError {
        SendError {
            public: text.clone(),
            text,
            by_client: false,
        }
    }
}

/// Spreads consecutive numbers (splitmix64).
pub fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
