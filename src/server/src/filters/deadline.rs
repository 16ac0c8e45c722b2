//! The deadline: no request but a long-running one takes longer than it was given.
// PERFORMANCE: per-request path

use crate::body::{Body, BoxError, Response};
use crate::encode;
use crate::endpoints::{count_abort, count_termination};
use crate::filters::{Filter, Next, audit, go_on};
use crate::metrics::Metrics;
use crate::request::Known;
use bytes::Bytes;
use fairlead_api::Status;
use fairlead_audit::Auditor;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

pub struct Deadline {
    pub auditor: Option<Arc<Auditor>>,
    pub default: Duration,
    pub metrics: Metrics,
}

impl Filter for Deadline {
    type In = Box<Known>;
    type Out = Box<Known>;

    fn handle<S: Next<Box<Known>>>(
        self: Arc<Self>,
        mut request: Box<Known>,
        next: S,
    ) -> impl Future<Output = Response> + Send + 'static {
        async move {
            if request.info.long_running() {
                return go_on(next, request).await;
            }
            let timeout = match request.query("timeout").filter(|t| !t.is_empty()).map(parse_duration) {
                None => self.default,
                Some(Ok(asked)) if asked > 0 && (asked as u128) < self.default.as_nanos() => {
                    Duration::from_nanos(asked.unsigned_abs())
                }
                Some(Ok(_)) => self.default,
                Some(Err(why)) => {
                    let status =
                        Status::bad_request(format!("invalid timeout specified in the request URL - time: {why}"));
                    audit::refused(self.auditor.as_ref(), &request, &status).await;
                    return encode::status(&status, &request.parts.headers, &request.query);
                }
            };
            let deadline = request.at + timeout;
            request.deadline = Some(deadline);
            let info = request.info.clone();
            let method = request.parts.method.clone();
            match tokio::time::timeout_at(deadline, go_on(next, request)).await {
                Ok(mut response) => {
                    if !response.body().is_whole() {
                        let (body, metrics) = (std::mem::take(response.body_mut()), self.metrics.clone());
                        let late = move || count_abort(&metrics, &info, &method);
                        *response.body_mut() = Body::other(Bounded::new(body, deadline, late));
                    }
                    response
                }
                Err(_) => {
                    count_termination(&self.metrics, &info, &method, 504);
                    // Whoever was handling it is dropped by now.
                    self.metrics.post_timeouts.with(&["timeout-handler", "ok"]).inc();
                    encode::timed_out()
                }
            }
        }
    }
}

/// The rest of an answer that has begun, which nobody waits for after the deadline: it breaks off, so that clients see
/// that it is not whole.
struct Bounded {
    body: Body,
    deadline: Instant,
    /// Made when there is something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
    late: Option<Box<dyn FnOnce() + Send>>,
}

impl Bounded {
    fn new(body: Body, deadline: Instant, late: impl FnOnce() + Send + 'static) -> Bounded {
        Bounded {
            body,
            deadline,
            timer: None,
            late: Some(Box::new(late)),
        }
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let deadline = this.deadline;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(timer.as_mut().poll(context));
        if let Some(late) = this.late.take() {
            late();
        }
        Poll::Ready(Some(Err("the request's time is over".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Nanoseconds of a Go duration: `1h2m3.5s`, `-300ms`.
///
/// # Errors
/// In the words of Go's `time.ParseDuration`, without the `time: `.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration {}", fairlead_api::field::go_quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = match &rest[..digits] {
            "" | "." => return Err(invalid()),
            number => number.parse().map_err(|_| invalid())?,
        };
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let nanoseconds = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => {
                return Err(format!(
                    "missing unit in duration {}",
                    fairlead_api::field::go_quote(text)
                ));
            }
            unit => {
                let quote = fairlead_api::field::go_quote;
                return Err(format!("unknown unit {} in duration {}", quote(unit), quote(text)));
            }
        };
        total += number * nanoseconds;
        rest = &rest[unit..];
    }
    if total >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { -(total as i64) } else { total as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::filters::filter;
    use crate::filters::request_info::tests::known;
    use fairlead_telemetry::Families;
    use http_body_util::BodyExt;
    use tower::{Layer, Service};

    #[test]
    fn durations_are_gos() {
        assert_eq!(parse_duration("1h2m3.5s"), Ok(3_723_500_000_000));
        assert_eq!(parse_duration("-300ms"), Ok(-300_000_000));
        assert_eq!(parse_duration("0"), Ok(0));
        assert_eq!(parse_duration("5"), Err("missing unit in duration \"5\"".into()));
        assert_eq!(parse_duration("x"), Err("invalid duration \"x\"".into()));
        assert_eq!(
            parse_duration("5x"),
            Err("unknown unit \"x\" in duration \"5x\"".into())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_long_running_requests_outlive_it() {
        let layer = filter(Deadline {
            auditor: None,
            default: Duration::from_secs(60),
            metrics: Metrics::register(&Families::default()),
        });
        let slow = tower::service_fn(|_: Box<Known>| async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok(Response::new(Body::empty()))
        });
        let mut chain = layer.layer(slow);
        for (uri, code) in [
            ("/api/v1/pods", 504),
            ("/api/v1/pods?timeout=1s", 504),
            ("/api/v1/pods?timeout=x", 400),
            ("/api/v1/pods?watch=1", 200),
        ] {
            assert_eq!(chain.call(known("GET", uri)).await.unwrap().status(), code, "{uri}");
        }
    }

    /// kubernetes/apiserver pkg/server/filters/timeout.go (`WithTimeout`).
    #[tokio::test(start_paused = true)]
    async fn what_is_late_is_said_in_upstreams_words_or_broken_off() {
        let families = Families::default();
        let layer = filter(Deadline {
            auditor: None,
            default: Duration::from_secs(60),
            metrics: Metrics::register(&families),
        });
        let never = tower::service_fn(|_: Box<Known>| std::future::pending());
        let mut response: Response = layer.layer(never).call(known("GET", "/version")).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        let text = response.body_mut().collect().await.unwrap().to_bytes();
        assert_eq!(
            text,
            "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"Timeout: request did not complete within the allotted \
             timeout\",\"reason\":\"Timeout\",\"details\":{},\"code\":504}\n"
        );
        let halting = tower::service_fn(|_: Box<Known>| async {
            let first = futures_util::stream::iter([Ok(Bytes::from("begun"))]);
            let stream = futures_util::StreamExt::chain(first, futures_util::stream::pending());
            Ok(Response::new(Body::stream(Box::pin(stream), None)))
        });
        let mut response: Response = layer.layer(halting).call(known("GET", "/version")).await.unwrap();
        let started = Instant::now();
        let body = response.body_mut();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(started.elapsed().as_secs(), 60);
        let mut out = String::new();
        fairlead_telemetry::text::write(&families.gather(), &mut out);
        for line in [
            "apiserver_request_post_timeout_total{source=\"timeout-handler\",status=\"ok\"} 1",
            "apiserver_request_terminations_total{code=\"504\",component=\"apiserver\"",
            "apiserver_request_aborts_total{group=\"\"",
        ] {
            assert!(out.contains(line), "{line}\n{out}");
        }
    }
}
