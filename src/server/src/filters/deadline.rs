//! The deadline: no request but a long-running one takes longer than it was given.

use crate::body::Response;
use crate::encode;
use crate::filters::{Filter, Next, go_on};
use crate::metrics::Metrics;
use crate::request::Known;
use fairlead_api::Status;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub struct Deadline {
    pub default: Duration,
    pub metrics: Metrics,
}

impl Filter for Deadline {
    type In = Known;
    type Out = Known;

    fn handle<S: Next<Known>>(
        self: Arc<Self>,
        mut request: Known,
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
                    return encode::status(&status, &request.parts.headers, &request.query);
                }
            };
            let deadline = request.at + timeout;
            request.deadline = Some(deadline);
            let info = request.info.clone();
            let method = request.parts.method.clone();
            match tokio::time::timeout_at(deadline, go_on(next, request)).await {
                Ok(response) => response,
                Err(_) => {
                    crate::endpoints::count_termination(&self.metrics, &info, &method, 504);
                    let status = Status::timeout("request did not complete within the allotted timeout", 0);
                    encode::status_as_json(&status)
                }
            }
        }
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
            default: Duration::from_secs(60),
            metrics: Metrics::register(&Families::default()),
        });
        let slow = tower::service_fn(|_: Known| async {
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
}
