//! Audit: behind authentication, so that events name a user, and before impersonation, so that they name both.
//!
//! Without a policy this filter is one look at an `Option`; a request that no rule matches costs the rules.
// PERFORMANCE: per-request path

use crate::body::{Hold, Response};
use crate::encode;
use crate::filters::{Filter, Next, go_on};
use crate::request::{Identified, Known};
use fairlead_api::field::go_quote;
use fairlead_api::{Status, UserInfo};
use fairlead_audit::{Asked, Auditor, Received, Trail};
use fairlead_gateway::upgrade::Companion;
use futures_util::FutureExt;
use http::StatusCode;
use http::header::{HeaderName, USER_AGENT};
use hyper::upgrade::OnUpgrade;
use std::any::Any;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;

pub struct Audit {
    pub auditor: Option<Arc<Auditor>>,
}

impl Filter for Audit {
    type In = Identified;
    type Out = Identified;

    fn handle<S: Next<Identified>>(
        self: Arc<Self>,
        mut request: Identified,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            let trail = match &self.auditor {
                None => return go_on(next, request).await,
                Some(auditor) => begin(auditor, &request.known, Some(&request.user)),
            };
            let Some(trail) = trail else {
                return go_on(next, request).await;
            };
            for (key, value) in std::mem::take(&mut request.annotations) {
                trail.annotate(key, value);
            }
            if !trail.begin().await {
                return not_stored(&request.known);
            }
            let long_running = request.known.info.long_running();
            let mut waiting = Waiting {
                trail: Some(trail.clone()),
                deadline: request.known.deadline,
            };
            request.known.trail = Some(trail.clone());
            let tunnel = Tunnel::of(&mut request.known, &trail);
            // Nothing of the request is used after a panic but its trail, whose facts are whole at any time.
            let outcome = AssertUnwindSafe(go_on(next, request)).catch_unwind().await;
            waiting.trail = None;
            match outcome {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    trail.started(101).await;
                    if let Some(tunnel) = tunnel {
                        tunnel.begun.store(true, Ordering::Relaxed);
                    }
                    response
                }
                Ok(response) => answered(trail, response, long_running).await,
                Err(panic) => {
                    trail.panicked(reason(&*panic)).await;
                    resume_unwind(panic)
                }
            }
        }
    }
}

/// The one event of a request that gets no further than to a filter before this: nobody is known to have made it.
pub async fn refused(auditor: Option<&Arc<Auditor>>, known: &Known, status: &Status) {
    let Some(auditor) = auditor else { return };
    if let Some(trail) = begin(auditor, known, None) {
        trail.failed(status);
        trail.started(status.code()).await;
    }
}

fn begin(auditor: &Arc<Auditor>, known: &Known, user: Option<&Arc<UserInfo>>) -> Option<Arc<Trail>> {
    let info = &known.info;
    let asked = Asked {
        user: user.map(|user| &**user),
        verb: &info.verb,
        resource_request: info.resource_request,
        namespace: &info.namespace,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        name: &info.name,
        path: &info.path,
    };
    let verdict = auditor.judge(&asked)?;
    let received = Received {
        audit_id: known.audit_id.clone(),
        request_uri: known.parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        user: user.cloned(),
        source_ips: source_ips(known),
        user_agent: known.header(USER_AGENT).to_owned(),
        ago: known.at.elapsed(),
    };
    Some(auditor.begin(verdict, &asked, received))
}

async fn answered(trail: Arc<Trail>, mut response: Response, long_running: bool) -> Response {
    let code = response.status().as_u16();
    if long_running {
        trail.started(code).await;
    }
    if response.body().is_whole() {
        trail.complete(code).await;
    } else {
        response.body_mut().hold(Sending { trail, code });
    }
    response
}

/// An answer on its way: complete when it has been sent, or given up.
struct Sending {
    trail: Arc<Trail>,
    code: u16,
}

impl Hold for Sending {
    fn released(&mut self, _: u64) {
        self.trail.completed(self.code);
    }
}

/// What an answer that switches protocols leads to: complete when the last who knows of it is gone.
struct Tunnel {
    trail: Arc<Trail>,
    begun: AtomicBool,
}

impl Tunnel {
    /// Sent along with a request that may lead to one.
    fn of(known: &mut Known, trail: &Arc<Trail>) -> Option<Arc<Tunnel>> {
        known.parts.extensions.get::<OnUpgrade>()?;
        let tunnel = Arc::new(Tunnel {
            trail: trail.clone(),
            begun: AtomicBool::new(false),
        });
        known.parts.extensions.insert(Companion(tunnel.clone()));
        Some(tunnel)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if *self.begun.get_mut() {
            self.trail.completed(101);
        }
    }
}

/// A request without an answer. That it is dropped means that nobody waits for one.
struct Waiting {
    trail: Option<Arc<Trail>>,
    deadline: Option<Instant>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(trail) = self.trail.take() {
            trail.abandoned(self.deadline.is_some_and(|deadline| deadline <= Instant::now()));
        }
    }
}

fn not_stored(known: &Known) -> Response {
    let uri = known.parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let quoted = go_quote(uri);
    encode::text(
        500,
        format!("Internal Server Error: {quoted}: failed to store audit event\n"),
    )
}

fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

/// Where a request comes from, as far as others tell, and last as far as is known.
///
/// Source: kubernetes/apimachinery pkg/util/net/http.go (`SourceIPs`).
fn source_ips(known: &Known) -> Vec<IpAddr> {
    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
    let forwarded = known.header(FORWARDED_FOR).split(',').filter_map(address);
    let mut found: Vec<IpAddr> = forwarded.collect();
    if let Some(real) = address(known.header(REAL_IP)).filter(|real| !found.contains(real)) {
        found.push(real);
    }
    let peer = SocketAddr::ip(&known.connection.peer).to_canonical();
    if found.last() != Some(&peer) {
        found.push(peer);
    }
    found
}

/// COMPAT: numbers of IPv4 may begin with zeros.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    // Of digits alone: Rust reads a sign, too.
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?;
    let mut parts = text.split('.').map(number);
    let mut next = || parts.next()?;
    let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    parts.next().is_none().then_some(address.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::filters::deadline::Deadline;
    use crate::filters::filter;
    use crate::filters::request_info::tests::known;
    use crate::metrics::Metrics;
    use bytes::Bytes;
    use fairlead_api::time::FixedClock;
    use fairlead_api::{Node, Timestamp, json, node};
    use fairlead_audit::batch::{Batch, Collector};
    use fairlead_audit::sink::{Sink, SinkConfig};
    use fairlead_audit::{Form, Mode, Policy, Sinks};
    use fairlead_telemetry::Families;
    use http_body_util::BodyExt;
    use std::convert::Infallible;
    use std::time::Duration;
    use tokio::sync::oneshot;
    use tower::{Layer, Service};

    /// An auditor of everything, and the end its events come out of.
    fn auditor() -> (Arc<Auditor>, Collector) {
        let metrics = fairlead_audit::Metrics::register(&Families::default());
        let config = SinkConfig {
            form: Form::Json,
            mode: Mode::Batch,
            truncation: None,
            buffer: 100,
            batch: Batch::default(),
        };
        let (_, ended) = oneshot::channel();
        let (sink, collector) = Sink::new(config, &metrics, ended);
        let policy = node!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]});
        let clock = Arc::new(FixedClock(Timestamp(0)));
        let policy = Policy::from_node(&policy).unwrap();
        let auditor = Auditor::new(policy, Sinks::new(vec![sink]), metrics, clock);
        (Arc::new(auditor), collector)
    }

    /// Stage and code of each event so far.
    async fn events(collector: &mut Collector) -> Vec<(String, i64)> {
        let batch = collector.next().await.unwrap();
        let read = |text: &[u8]| json::parse(&[b"{", text].concat()).unwrap();
        let code = |event: &Node| {
            event
                .at(&["responseStatus", "code"])
                .and_then(Node::as_i64)
                .unwrap_or(0)
        };
        let told = batch.iter().map(|item| read(&item.text));
        told.map(|event| (event.str("stage").to_owned(), code(&event)))
            .collect()
    }

    /// A chain of a deadline, this filter, and a handler.
    async fn ask<H, F>(auditor: &Arc<Auditor>, uri: &str, handler: H) -> Response
    where
        H: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let handle = tower::service_fn(move |_: Identified| {
            let answer = handler();
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let audit = filter(Audit {
            auditor: Some(auditor.clone()),
        })
        .layer(handle);
        let identify = tower::service_fn(move |known: Box<Known>| {
            let mut audit = audit.clone();
            let request = Identified {
                known,
                user: Arc::new(UserInfo::new("alice", &[])),
                impersonator: None,
                annotations: Vec::new(),
            };
            async move { audit.call(request).await }
        });
        let deadline = filter(Deadline {
            auditor: Some(auditor.clone()),
            default: Duration::from_secs(60),
            metrics: Metrics::register(&Families::default()),
        });
        deadline.layer(identify).call(known("GET", uri)).await.unwrap()
    }

    fn told(events: &[(&str, i64)]) -> Vec<(String, i64)> {
        events
            .iter()
            .map(|(stage, code)| ((*stage).to_owned(), *code))
            .collect()
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_complete_when_it_has_been_sent() {
        let (auditor, mut collector) = auditor();
        let whole = || async { Response::new(Body::full("text")) };
        ask(&auditor, "/version", whole).await;
        let both = [("RequestReceived", 0), ("ResponseComplete", 200)];
        assert_eq!(events(&mut collector).await, told(&both));
        let pieces = || async {
            let pieces = futures_util::stream::iter([Ok(Bytes::from("a")), Ok(Bytes::from("b"))]);
            Response::new(Body::stream(Box::pin(pieces), None))
        };
        let mut response = ask(&auditor, "/api/v1/pods?watch=1", pieces).await;
        let begun = [("RequestReceived", 0), ("ResponseStarted", 200)];
        assert_eq!(events(&mut collector).await, told(&begun));
        response.body_mut().frame().await.unwrap().unwrap();
        // The client goes away in the middle.
        drop(response);
        assert_eq!(events(&mut collector).await, told(&[("ResponseComplete", 200)]));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_end_without_an_answer_are_told_of() {
        let (auditor, mut collector) = auditor();
        let response = ask(&auditor, "/version", std::future::pending).await;
        assert_eq!(response.status(), 504);
        let late = [("RequestReceived", 0), ("ResponseComplete", 504)];
        assert_eq!(events(&mut collector).await, told(&late));
        ask(&auditor, "/version?timeout=soon", std::future::pending).await;
        assert_eq!(events(&mut collector).await, told(&[("ResponseStarted", 400)]));
        let panics = || async { panic!("a test panics") };
        let panicked = AssertUnwindSafe(ask(&auditor, "/version", panics)).catch_unwind().await;
        assert!(panicked.is_err());
        assert_eq!(
            events(&mut collector).await,
            told(&[("RequestReceived", 0), ("Panic", 500)])
        );
    }

    #[test]
    fn addresses_are_those_that_others_tell_and_the_peers() {
        let ips = |headers: &[(&'static str, &str)]| {
            let mut known = known("GET", "/api");
            for (name, value) in headers {
                known.parts.headers.append(*name, value.parse().unwrap());
            }
            let found = source_ips(&known);
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ips(&[]), "127.0.0.1");
        let forwarded = (
            "x-forwarded-for",
            "1.2.3.4, nobody, 010.0.0.1,::ffff:9.9.9.9, 1.2.3, 10.0.0.300, 1.2.3.4.5, +1.2.3.4",
        );
        assert_eq!(ips(&[forwarded]), "1.2.3.4 10.0.0.1 9.9.9.9 127.0.0.1");
        assert_eq!(
            ips(&[forwarded, ("x-real-ip", "1.2.3.4")]),
            "1.2.3.4 10.0.0.1 9.9.9.9 127.0.0.1"
        );
        assert_eq!(ips(&[("x-forwarded-for", "127.0.0.1")]), "127.0.0.1");
        assert_eq!(ips(&[("x-real-ip", "fe80::1")]), "fe80::1 127.0.0.1");
    }
}
