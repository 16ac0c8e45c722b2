//! The circuit breaker: while most requests get no answer, they are refused at once, and a few try from time to time.
// PERFORMANCE: per-request path

use super::{Answer, Answering, Next, Refusal, Step};
use crate::metrics::BackendMetrics;
use crate::policy::{self, Live};
use crate::pool::Outgoing;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

pub struct Breaker {
    live: Live,
    circuit: Arc<Circuit>,
}

struct Circuit {
    state: Mutex<State>,
    metrics: BackendMetrics,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        since: Instant,
        requests: u32,
        failures: u32,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        under_way: u32,
        succeeded: u32,
    },
}

/// As metrics and the status page show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

/// A request that was let through; says how it went, or that nobody knows.
struct Passage {
    circuit: Arc<Circuit>,
    settings: policy::Breaker,
    is_trial: bool,
    told: bool,
}

impl Breaker {
    pub fn new(live: Live, metrics: BackendMetrics) -> Breaker {
        let state = Mutex::new(State::closed());
        Breaker {
            live,
            circuit: Arc::new(Circuit { state, metrics }),
        }
    }
}

impl State {
    fn closed() -> State {
        State::Closed {
            since: Instant::now(),
            requests: 0,
            failures: 0,
        }
    }
}

impl Circuit {
    /// Whether a request may pass, and whether it is a trial; else for how long not.
    fn enter(&self, settings: &policy::Breaker) -> Result<bool, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let State::Open { until } = *state {
            if until > now {
                return Err(until - now);
            }
            *state = State::HalfOpen {
                under_way: 0,
                succeeded: 0,
            };
            self.metrics.breaker(BreakerState::HalfOpen);
        }
        match &mut *state {
            State::HalfOpen { under_way, succeeded } if *under_way + *succeeded < settings.trials => {
                *under_way += 1;
                Ok(true)
            }
            State::HalfOpen { .. } => Err(settings.open_time),
            State::Closed { .. } | State::Open { .. } => Ok(false),
        }
    }

    fn leave(&self, settings: &policy::Breaker, is_trial: bool, outcome: Option<bool>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let open = || State::Open {
            until: now + settings.open_time,
        };
        match (&mut *state, is_trial, outcome) {
            (
                State::Closed {
                    since,
                    requests,
                    failures,
                },
                _,
                Some(good),
            ) => {
                if now - *since > settings.window {
                    (*since, *requests, *failures) = (now, 0, 0);
                }
                *requests += 1;
                *failures += u32::from(!good);
                let many = u64::from(*failures) * 100 >= u64::from(settings.failure_percent) * u64::from(*requests);
                if !good && *requests >= settings.minimum_requests && many {
                    tracing::warn!(
                        backend = self.metrics.name(),
                        requests,
                        failures,
                        "the circuit breaker opens"
                    );
                    *state = open();
                    self.metrics.breaker(BreakerState::Open);
                }
            }
            (State::HalfOpen { under_way, succeeded }, true, Some(true)) => {
                *under_way = under_way.saturating_sub(1);
                *succeeded += 1;
                if *succeeded >= settings.trials {
                    tracing::info!(backend = self.metrics.name(), "the circuit breaker closes");
                    *state = State::closed();
                    self.metrics.breaker(BreakerState::Closed);
                }
            }
            (State::HalfOpen { .. }, true, Some(false)) => {
                *state = open();
                self.metrics.breaker(BreakerState::Open);
            }
            (State::HalfOpen { under_way, .. }, true, None) => *under_way = under_way.saturating_sub(1),
            // The state has changed since: it was judged without this one.
            _ => {}
        }
    }
}

impl Passage {
    fn tell(mut self, good: bool) {
        self.told = true;
        self.circuit.leave(&self.settings, self.is_trial, Some(good));
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if !self.told {
            self.circuit.leave(&self.settings, self.is_trial, None);
        }
    }
}

impl Step for Breaker {
    fn call<S: Next>(self: &Arc<Self>, outgoing: Outgoing, next: &mut S) -> Answering {
        let Some(settings) = self.live.load().breaker.clone() else {
            return next.call(outgoing);
        };
        let is_trial = match self.circuit.enter(&settings) {
            Ok(is_trial) => is_trial,
            Err(rest) => return Box::pin(std::future::ready(Ok(Err(Refusal::Resting(rest))))),
        };
        let passage = Passage {
            circuit: self.circuit.clone(),
            settings,
            is_trial,
            told: false,
        };
        let answering = next.call(outgoing);
        Box::pin(async move {
            let answer: Answer = answering.await?;
            match &answer {
                Err(Refusal::Send(error)) if error.by_client => drop(passage),
                answer => passage.tell(!matches!(answer, Err(Refusal::Send(_)))),
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer;
    use super::super::testing::{Bottom, get, live, lost, metrics, ok, send};
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use tower::Layer;

    #[tokio::test(start_paused = true)]
    async fn it_opens_tries_and_closes() {
        let settings = policy::Breaker {
            minimum_requests: 4,
            trials: 2,
            ..policy::Breaker::default()
        };
        let live = live(|p| p.breaker = Some(settings));
        let (well, seen) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (is_well, counted) = (well.clone(), seen.clone());
        let bottom = Bottom(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = if is_well.load(Ordering::Relaxed) {
                ok("")
            } else {
                lost()
            };
            async move { answer }
        });
        let service = layer(Breaker::new(live, metrics())).layer(bottom);
        let reached = || seen.swap(0, Ordering::Relaxed);

        assert!(send(&service, get("/")).await.is_ok());
        well.store(false, Ordering::Relaxed);
        for _ in 0..10 {
            assert!(send(&service, get("/")).await.is_err());
        }
        // Of one good and three bad ones it had enough.
        assert_eq!(reached(), 4);
        assert!(matches!(send(&service, get("/")).await, Err(Refusal::Resting(_))));
        // A trial fails: another rest.
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert!(matches!(send(&service, get("/")).await, Err(Refusal::Send(_))));
        assert!(matches!(send(&service, get("/")).await, Err(Refusal::Resting(_))));
        assert_eq!(reached(), 1);
        // Trials that nobody waits for make room for others; two good ones close it.
        tokio::time::advance(Duration::from_millis(1_001)).await;
        well.store(true, Ordering::Relaxed);
        for _ in 0..5 {
            drop(service.clone().call_for_test(get("/")));
        }
        for _ in 0..5 {
            assert!(send(&service, get("/")).await.is_ok());
        }
    }

    impl<S: Next> super::super::Stepped<Breaker, S> {
        fn call_for_test(mut self, outgoing: Outgoing) -> Answering {
            tower::Service::call(&mut self, outgoing)
        }
    }
}
