//! What is tried again, and how often: elsewhere, within a budget, and only what cannot do harm twice.
// PERFORMANCE: per-request path

use crate::body::Body;
use crate::pool::{Failed, Outgoing, Pool, SendError};
use http::{Method, Response};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Retries are at most a share of requests, plus a few.
pub struct Budget(AtomicI64);

impl Budget {
    /// In hundredths of a retry.
    const MAX: i64 = 1_000;
    const RETRY: i64 = 100;

    /// A request was sent, which earns its share.
    pub fn deposit(&self, percent: u32) {
        if self.0.load(Ordering::Relaxed) >= Budget::MAX {
            return;
        }
        self.0.fetch_add(i64::from(percent), Ordering::Relaxed);
    }

    pub fn withdraw(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| {
                (b >= Budget::RETRY).then_some(b - Budget::RETRY)
            })
            .is_ok()
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicI64::new(Budget::MAX))
    }
}

/// Sends a request to the best endpoint, and again to others for as long as that is safe.
pub async fn send(pool: &Pool, outgoing: Outgoing) -> Result<Response<Body>, SendError> {
    let policy = pool.policy();
    let retries = &policy.retries;
    pool.budget().deposit(retries.budget_percent);
    let mut avoid = outgoing.avoid.clone();
    let mut attempt = 1;
    loop {
        let endpoint = pool
            .pick(avoid.as_ref())
            .ok_or_else(|| SendError::from("no endpoints available".to_owned()))?;
        if let Some(chosen) = &outgoing.chosen {
            // Only the first choice is of interest.
            let _ = chosen.set(endpoint.clone());
        }
        let patience = match attempt < retries.attempts && reads(&outgoing) && pool.has_choice() {
            true => retries.per_try_timeout,
            false => None,
        };
        let failed = match pool.attempt(&endpoint, &outgoing, &policy, patience).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        pool.note_failure(&endpoint, &failed);
        if attempt >= retries.attempts || !may_repeat(pool, &outgoing, &failed) || !has_time(&outgoing) {
            return Err(failed.error);
        }
        let allowed = pool.budget().withdraw();
        pool.metrics().retried(allowed);
        if !allowed {
            return Err(failed.error);
        }
        let error = failed.error.text;
        tracing::debug!(backend = pool.metrics().name(), error, attempt, "trying again");
        avoid = Some(endpoint);
        attempt += 1;
    }
}

/// Whether a request changes nothing, so that sending it twice does no harm.
pub fn reads(outgoing: &Outgoing) -> bool {
    matches!(outgoing.method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn may_repeat(pool: &Pool, outgoing: &Outgoing, failed: &Failed) -> bool {
    let safe = !failed.sent || reads(outgoing);
    // Who was silent once would let the client wait once more.
    let sensible = !failed.silent || pool.has_choice();
    safe && sensible && outgoing.body.can_repeat()
}

/// With less time than this left, another attempt would not be answered in time either.
const SHORTEST: Duration = Duration::from_millis(5);

fn has_time(outgoing: &Outgoing) -> bool {
    outgoing.deadline.is_none_or(|d| d > Instant::now() + SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_allows_a_burst_and_then_a_fifth() {
        let budget = Budget::default();
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 10);
        let retried = (0..100).filter(|_| {
            budget.deposit(20);
            budget.withdraw()
        });
        assert_eq!(retried.count(), 20);
    }
}
