//! Bounds the whole of a request: what the policy allows, what the client waits for, and little for discovery.
// PERFORMANCE: per-request path

use super::{Answering, Next, Refusal, Step};
use crate::policy::Live;
use crate::pool::{Outgoing, SendError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Discovery is cheap to answer: a backend that takes longer is not well.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Deadline {
    live: Live,
}

impl Deadline {
    pub fn new(live: Live) -> Deadline {
        Deadline { live }
    }
}

impl Step for Deadline {
    fn call<S: Next>(self: &Arc<Self>, mut outgoing: Outgoing, next: &mut S) -> Answering {
        if outgoing.long_running {
            return next.call(outgoing);
        }
        let asked = self.live.load().timeouts.request;
        // `/apis/GROUP/VERSION`
        let is_discovery = outgoing.path_and_query.path().trim_matches('/').split('/').count() == 3;
        let own = [asked, is_discovery.then_some(DISCOVERY_TIMEOUT)]
            .into_iter()
            .flatten()
            .min();
        let Some(own) = own else {
            // The client's own deadline is kept by the chain, which drops this.
            return next.call(outgoing);
        };
        let until = Instant::now() + own;
        if outgoing.deadline.is_some_and(|client| client <= until) {
            // Nor is the client told anything but that its own time is over.
            return next.call(outgoing);
        }
        outgoing.deadline = Some(until);
        let answering = next.call(outgoing);
        Box::pin(async move {
            let late = || {
                Ok(Err(Refusal::Send(SendError::from(
                    "context deadline exceeded".to_owned(),
                ))))
            };
            timeout_at(until, answering).await.unwrap_or_else(|_| late())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer;
    use super::super::testing::{Bottom, get, live, send};
    use super::*;
    use tower::Layer;

    #[tokio::test(start_paused = true)]
    async fn a_request_has_its_time_and_a_watch_has_more() {
        let deadline = Deadline::new(live(|p| p.timeouts.request = Some(Duration::from_secs(7))));
        let service = layer(deadline).layer(Bottom(|outgoing: Outgoing| async move {
            let until = outgoing.deadline;
            tokio::time::sleep(Duration::from_secs(60)).await;
            super::super::testing::ok(if until.is_some() { "bounded" } else { "free" })
        }));
        for (path, long_running, expected) in [
            ("/apis/g/v1/things", false, Some(7)),
            ("/apis/g/v1", false, Some(5)),
            ("/apis/g/v1/things", true, None),
        ] {
            let mut outgoing = get(path);
            outgoing.long_running = long_running;
            let started = Instant::now();
            let answer = send(&service, outgoing).await;
            let took = started.elapsed().as_secs();
            assert_eq!(answer.is_err().then_some(took), expected, "{path}");
        }
        // The client waits for less: whoever set its deadline says so.
        let mut outgoing = get("/apis/g/v1/things");
        outgoing.deadline = Some(Instant::now() + Duration::from_secs(2));
        let bounded = tokio::time::timeout(Duration::from_secs(2), send(&service, outgoing));
        assert!(bounded.await.is_err());
    }
}
