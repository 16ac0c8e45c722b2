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
    let mut parts = text.split('.').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| {
            part.trim_start_matches('0')
                .parse()
                .or(if part.ends_with('0') { Ok(0) } else { Err(()) })
        })
    });
    let mut next = || parts.next()??.ok();
    let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    parts.next().is_none().then_some(address.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::request_info::tests::known;

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
        let forwarded = ("x-forwarded-for", "1.2.3.4, nobody, 010.0.0.1,::ffff:9.9.9.9, 1.2.3");
        assert_eq!(ips(&[forwarded]), "1.2.3.4 10.0.0.1 9.9.9.9 127.0.0.1");
        assert_eq!(
            ips(&[forwarded, ("x-real-ip", "1.2.3.4")]),
            "1.2.3.4 10.0.0.1 9.9.9.9 127.0.0.1"
        );
        assert_eq!(ips(&[("x-forwarded-for", "127.0.0.1")]), "127.0.0.1");
        assert_eq!(ips(&[("x-real-ip", "fe80::1")]), "fe80::1 127.0.0.1");
    }
}
