//! Refuses what is above a backend's bound, or lets it wait. Watches are not counted; writes may have half of it, as the
//! server itself has room for half as many writes as reads.
// PERFORMANCE: per-request path

use super::{Answer, Answering, Next, Refusal, Step};
use crate::body::{Body, Guarded};
use crate::policy::{self, Live};
use crate::pool::Outgoing;
use crate::pool::retry::reads;
use prometheus::IntGauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

pub struct Bound {
    live: Live,
    state: Arc<State>,
}

struct State {
    current: AtomicUsize,
    writes: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
    shown: IntGauge,
}

/// Counts as under way until it is dropped, with the answer's body.
struct InFlight {
    state: Arc<State>,
    writes: bool,
}

impl Bound {
    pub fn new(live: Live, shown: IntGauge) -> Bound {
        Bound {
            live,
            state: Arc::new(State {
                current: AtomicUsize::new(0),
                writes: AtomicUsize::new(0),
                waiting: AtomicUsize::new(0),
                freed: Notify::new(),
                shown,
            }),
        }
    }
}

impl State {
    fn enter(self: &Arc<Self>, bound: usize, writes: bool) -> Option<InFlight> {
        if !take(&self.current, bound) {
            return None;
        }
        if writes && !take(&self.writes, bound.div_ceil(2)) {
            self.current.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.shown.inc();
        Some(InFlight {
            state: self.clone(),
            writes,
        })
    }

    /// Enters, at once or after a wait. `None` when there is no place in the queue, or for too long none in flight.
    async fn wait(self: &Arc<Self>, bound: &policy::Bound, writes: bool) -> Option<InFlight> {
        let _place = Place::take(self, bound.queue)?;
        let until = Instant::now() + bound.wait;
        loop {
            let freed = self.freed.notified();
            if let Some(entered) = self.enter(bound.in_flight, writes) {
                return Some(entered);
            }
            timeout_at(until, freed).await.ok()?;
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a State);

impl Place<'_> {
    fn take(state: &State, places: usize) -> Option<Place<'_>> {
        let taken = state.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(state);
        (taken < places).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let state = &self.state;
        state.current.fetch_sub(1, Ordering::Relaxed);
        if self.writes {
            state.writes.fetch_sub(1, Ordering::Relaxed);
        }
        state.shown.dec();
        if state.waiting.load(Ordering::Relaxed) > 0 {
            // Reads and writes wait for different things.
            state.freed.notify_waiters();
        }
    }
}

fn take(count: &AtomicUsize, bound: usize) -> bool {
    let taken = count.fetch_add(1, Ordering::Relaxed) < bound;
    if !taken {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    taken
}

impl Step for Bound {
    fn call<S: Next>(self: &Arc<Self>, outgoing: Outgoing, next: &mut S) -> Answering {
        if outgoing.long_running {
            return next.call(outgoing);
        }
        let policy = self.live.load();
        let writes = !reads(&outgoing);
        // Who waits goes first.
        let entered = match self.state.waiting.load(Ordering::Relaxed) {
            0 => self.state.enter(policy.bound.in_flight, writes),
            _ => None,
        };
        if let Some(guard) = entered {
            let answering = next.call(outgoing);
            return Box::pin(async move { Ok(guarded(answering.await?, guard)) });
        }
        let (state, bound, mut next) = (self.state.clone(), policy.bound.clone(), next.clone());
        Box::pin(async move {
            match state.wait(&bound, writes).await {
                Some(guard) => Ok(guarded(next.call(outgoing).await?, guard)),
                None => Ok(Err(Refusal::Busy)),
            }
        })
    }
}

fn guarded(answer: Answer, guard: InFlight) -> Answer {
    answer.map(|response| {
        response.map(|body| match body.is_whole() {
            true => body,
            false => Body::new(Guarded {
                body,
                guard: Some(guard),
            }),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::layer;
    use super::super::testing::{Bottom, get, live, ok, send};
    use super::*;
    use futures_util::future::join_all;
    use std::time::Duration;
    use tower::Layer;

    #[tokio::test(start_paused = true)]
    async fn above_the_bound_requests_wait_or_are_refused() {
        let live = live(|p| {
            p.bound.in_flight = 2;
            p.bound.queue = 3;
            p.bound.wait = Duration::from_millis(1_500);
        });
        let shown = IntGauge::new("test", "test").expect("a name");
        let service = layer(Bound::new(live.clone(), shown.clone())).layer(Bottom(|_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ok("")
        }));
        // Two at once, two after a second; the fifth waits for too long, the others find no place to.
        let answers = join_all((0..8).map(|_| async { send(&service, get("/")).await.is_ok() })).await;
        assert_eq!(answers.into_iter().filter(|ok| *ok).count(), 4);
        assert_eq!(shown.get(), 0);
        let answer = send(&service, get("/")).await;
        assert_eq!(shown.get(), 0, "all of it is here");
        drop(answer);

        let slow = layer(Bound::new(live.clone(), shown.clone())).layer(Bottom(|_| async {
            Ok(http::Response::new(Body::new(crate::body::full("coming"))))
        }));
        let answer = send(&slow, get("/")).await;
        assert_eq!(shown.get(), 1, "the body is not read yet");
        drop(answer);
        assert_eq!(shown.get(), 0);

        // Writes never have all of it.
        let write = || {
            let mut outgoing = get("/");
            outgoing.method = http::Method::POST;
            outgoing
        };
        let writes = join_all((0..3).map(|_| async { send(&service, write()).await.is_ok() }));
        let (writes, read) = futures_util::future::join(writes, send(&service, get("/"))).await;
        assert_eq!((writes.into_iter().filter(|ok| *ok).count(), read.is_ok()), (2, true));

        // Another bound holds from the next request on; watches are free of it.
        live.store(Arc::new(crate::policy::Policy {
            bound: policy::Bound {
                in_flight: 0,
                queue: 0,
                ..policy::Bound::default()
            },
            ..crate::policy::Policy::default()
        }));
        assert!(send(&service, get("/")).await.is_err());
        let mut watch = get("/");
        watch.long_running = true;
        assert!(send(&service, watch).await.is_ok());
    }
}
