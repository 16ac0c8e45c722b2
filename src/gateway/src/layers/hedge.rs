//! Hedging: a reading request that takes long is sent to a second endpoint, and the answer that comes first is used.
// PERFORMANCE: per-request path

use super::{Answer, Answering, Next, Step};
use crate::body::Replay;
use crate::metrics::BackendMetrics;
use crate::policy::{Hedging, Live};
use crate::pool::Outgoing;
use crate::pool::retry::{Budget, reads};
use crate::pool::routes::Routes;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::sleep;

pub struct Hedge {
    live: Live,
    routes: Arc<Routes>,
    budget: Budget,
    metrics: BackendMetrics,
}

impl Hedge {
    pub fn new(live: Live, routes: Arc<Routes>, metrics: BackendMetrics) -> Hedge {
        Hedge {
            live,
            routes,
            budget: Budget::default(),
            metrics,
        }
    }

    /// How long the first request may take before there is a second.
    fn delay(&self, hedging: &Hedging) -> Duration {
        let of_late = |percent| self.routes.any().ok()?.latencies().percentile(percent);
        hedging
            .percentile
            .and_then(of_late)
            .map_or(hedging.delay, |d| d.max(hedging.delay))
    }
}

impl Step for Hedge {
    fn call<S: Next>(self: &Arc<Self>, mut outgoing: Outgoing, next: &mut S) -> Answering {
        let policy = self.live.load();
        let hedging = policy
            .hedging
            .as_ref()
            .filter(|_| reads(&outgoing) && !outgoing.long_running);
        let Some(hedging) = hedging.filter(|_| outgoing.body.is_empty()) else {
            return next.call(outgoing);
        };
        self.budget.deposit(hedging.budget_percent);
        let delay = self.delay(hedging);
        let chosen = Arc::new(OnceLock::new());
        outgoing.chosen = Some(chosen.clone());
        let mut second = Outgoing::new(
            outgoing.method.clone(),
            outgoing.path_and_query.clone(),
            outgoing.headers.clone(),
            Replay::empty(),
        );
        second.deadline = outgoing.deadline;
        let first = next.call(outgoing);
        let (this, mut next) = (self.clone(), next.clone());
        Box::pin(async move {
            let mut first = first;
            tokio::select! {
                biased;
                answer = &mut first => return answer,
                () = sleep(delay) => {}
            }
            if !this.budget.withdraw() {
                return first.await;
            }
            this.metrics.hedged();
            second.avoid = chosen.get().cloned();
            race(first, next.call(second)).await
        })
    }
}

/// The first answer; where one request gets none, the other's.
async fn race(first: Answering, second: Answering) -> Result<Answer, Infallible> {
    match futures_util::future::select(first, second).await {
        futures_util::future::Either::Left((answer, other)) | futures_util::future::Either::Right((answer, other)) => {
            match answer? {
                Err(_) => other.await,
                answer => Ok(answer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer;
    use super::super::testing::{Bottom, get, live, lost, metrics, ok, send};
    use super::*;
    use http_body_util::BodyExt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::Instant;
    use tower::Layer;

    async fn text(answer: Answer) -> String {
        let bytes = answer
            .expect("an answer")
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_is_sent_late_and_may_win() {
        let live = live(|p| {
            p.hedging = Some(Hedging {
                delay: Duration::from_millis(50),
                percentile: None,
                budget_percent: 1,
            });
        });
        let sent = Arc::new(AtomicUsize::new(0));
        let count = sent.clone();
        // Every first request hangs, every second one is quick, every third gets no answer.
        let bottom = Bottom(move |_| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            async move {
                match n % 2 {
                    0 => tokio::time::sleep(Duration::from_secs(10)).await,
                    _ if n == 3 => return lost(),
                    _ => {}
                }
                ok(if n.is_multiple_of(2) { "first" } else { "second" })
            }
        });
        let routes = Arc::new(Routes::new(live.clone(), Vec::new()));
        let service = layer(Hedge::new(live, routes, metrics())).layer(bottom);
        let started = Instant::now();
        assert_eq!(text(send(&service, get("/")).await).await, "second");
        assert!(started.elapsed() < Duration::from_millis(60));
        // The second is lost: the first one's answer counts.
        assert_eq!(text(send(&service, get("/")).await).await, "first");
        // A write is sent once; so is everything once the budget is spent.
        let mut post = get("/");
        post.method = http::Method::POST;
        assert_eq!(text(send(&service, post).await).await, "first");
        assert_eq!(sent.swap(1, Ordering::Relaxed), 5);
        for _ in 0..20 {
            let _ = send(&service, get("/")).await;
        }
        let seconds = sent.load(Ordering::Relaxed) - 1 - 20;
        assert!(seconds <= 9, "{seconds}");
    }
}
