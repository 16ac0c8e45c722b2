//! The health of one endpoint: when it is left out, for how long, and when that is forgotten.
//!
//! Hysteresis: each ejection in a row lasts twice as long as the one before, and only after twice that time in peace
//! does the next one count as the first.
// PERFORMANCE: per-request path

use crate::policy::Outlier;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// All times are milliseconds of the pool's clock, which starts at one.
#[derive(Default)]
pub struct Health {
    /// In a row.
    failures: AtomicU32,
    errors: AtomicU32,
    ejections: AtomicU32,
    /// Until when requests rather go elsewhere; 0 when healthy.
    ejected_until: AtomicU64,
    /// Until when the next ejection counts as one in a row.
    restless_until: AtomicU64,
    reason: AtomicU8,
    /// Active checks fail.
    down: AtomicBool,
    /// There was an answer once.
    answered: AtomicBool,
    /// A moving average, in microseconds.
    latency: AtomicU64,
    samples: AtomicU32,
}

/// Why an endpoint is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Requests got no answer.
    NoAnswer = 1,
    /// Answers were errors.
    Errors,
    /// Answers took too long.
    Latency,
    /// Active checks fail.
    HealthCheck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No answer yet.
    Connecting,
    Healthy,
    Ejected(Reason),
}

/// As in the status of a BackendPolicy.
impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Connecting => "Connecting",
            State::Healthy => "Healthy",
            State::Ejected(_) => "Ejected",
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            State::Connecting | State::Healthy => "",
            State::Ejected(Reason::NoAnswer) => "NoAnswer",
            State::Ejected(Reason::Errors) => "Errors",
            State::Ejected(Reason::Latency) => "Latency",
            State::Ejected(Reason::HealthCheck) => "HealthCheckFailed",
        }
    }
}

/// The weight of one answer in the average.
const WEIGHT: u64 = 8;
/// Averages over fewer answers say nothing.
const ENOUGH: u32 = 10;

impl Health {
    pub fn is_ejected(&self, now: u64) -> bool {
        self.down.load(Ordering::Relaxed) || self.ejected_until.load(Ordering::Relaxed) > now
    }

    pub fn state(&self, now: u64) -> State {
        if self.down.load(Ordering::Relaxed) {
            return State::Ejected(Reason::HealthCheck);
        }
        if self.ejected_until.load(Ordering::Relaxed) > now {
            return State::Ejected(self.reason());
        }
        match self.answered.load(Ordering::Relaxed) {
            true => State::Healthy,
            false => State::Connecting,
        }
    }

    /// Whether it is left out although it can be reached, so that it counts towards the limit of these.
    pub fn is_outlier(&self, now: u64) -> bool {
        matches!(self.state(now), State::Ejected(Reason::Errors | Reason::Latency))
    }

    /// There was an answer, and no error. Ends an ejection for want of answers.
    pub fn answered(&self, now: u64) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until > now && self.reason() == Reason::NoAnswer {
            self.ejected_until.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) != 0 && self.restless_until.load(Ordering::Relaxed) < now {
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// Takes in how an answer was. Returns why the endpoint should be ejected, if it should.
    pub fn judge(&self, is_error: bool, took: Duration, outlier: &Outlier) -> Option<Reason> {
        if is_error {
            let errors = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
            return (errors >= outlier.consecutive_errors).then_some(Reason::Errors);
        }
        if self.errors.load(Ordering::Relaxed) != 0 {
            self.errors.store(0, Ordering::Relaxed);
        }
        let max = outlier.max_latency?;
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let old = self.latency.load(Ordering::Relaxed);
        let average = if old == 0 {
            took
        } else {
            old - old / WEIGHT + took / WEIGHT
        };
        self.latency.store(average.max(1), Ordering::Relaxed);
        let enough = self.samples.fetch_add(1, Ordering::Relaxed) + 1 >= ENOUGH;
        (enough && u128::from(average) > max.as_micros()).then_some(Reason::Latency)
    }

    /// There was no answer. Returns whether the endpoint is ejected now and was not before.
    pub fn failed(&self, now: u64, outlier: &Outlier) -> bool {
        // Several requests on one dead connection are one failure.
        if self.is_ejected(now) {
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        failures >= outlier.consecutive_failures && self.eject(now, outlier, Reason::NoAnswer)
    }

    /// Returns whether it was not ejected before.
    pub fn eject(&self, now: u64, outlier: &Outlier, reason: Reason) -> bool {
        if self.ejected_until.load(Ordering::Relaxed) > now {
            return false;
        }
        let before = self.ejections.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = outlier.ejection.saturating_mul(1 << before).min(outlier.max_ejection);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX / 8);
        self.reason.store(reason as u8, Ordering::Relaxed);
        self.ejected_until.store(now + pause, Ordering::Relaxed);
        self.restless_until.store(now + 3 * pause, Ordering::Relaxed);
        for count in [&self.failures, &self.errors, &self.samples] {
            count.store(0, Ordering::Relaxed);
        }
        self.latency.store(0, Ordering::Relaxed);
        true
    }

    /// What active checks say. Returns whether that is news.
    pub fn set_down(&self, down: bool) -> bool {
        self.down.swap(down, Ordering::Relaxed) != down
    }

    fn reason(&self) -> Reason {
        match self.reason.load(Ordering::Relaxed) {
            2 => Reason::Errors,
            3 => Reason::Latency,
            4 => Reason::HealthCheck,
            _ => Reason::NoAnswer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn ejections_in_a_row_last_longer_and_peace_is_remembered() {
        let (health, outlier) = (Health::default(), Outlier::default());
        assert_eq!(health.state(1), State::Connecting);
        health.answered(1);
        assert_eq!(health.state(1), State::Healthy);
        assert!(health.failed(1_000, &outlier));
        assert!(!health.failed(1_001, &outlier), "it is ejected already");
        assert_eq!(health.state(1_999), State::Ejected(Reason::NoAnswer));
        assert_eq!(health.state(2_000), State::Healthy);
        // Again, soon after: two seconds.
        health.answered(2_100);
        assert!(health.failed(2_200, &outlier));
        assert!(health.is_ejected(4_199) && !health.is_ejected(4_200));
        // An answer to a check ends it early, but nothing is forgotten yet.
        assert!(health.failed(4_300, &outlier));
        health.answered(4_400);
        assert!(!health.is_ejected(4_400));
        assert!(health.failed(4_500, &outlier));
        assert!(health.is_ejected(12_499) && !health.is_ejected(12_500));
        // After twice eight seconds in peace it is.
        health.answered(28_600);
        assert!(health.failed(28_700, &outlier));
        assert!(health.is_ejected(29_699) && !health.is_ejected(29_700));
    }

    #[test]
    fn errors_and_latency_are_judged() {
        let outlier = Outlier {
            max_latency: Some(Duration::from_millis(10)),
            ..Outlier::default()
        };
        let health = Health::default();
        let errors = (0..5).map(|_| health.judge(true, SHORT, &outlier)).collect::<Vec<_>>();
        assert_eq!(errors, [None, None, None, None, Some(Reason::Errors)]);
        assert!(health.eject(1, &outlier, Reason::Errors));
        // A good answer of a request that was under way does not end it.
        health.answered(2);
        assert!(health.is_ejected(2) && health.is_outlier(2));

        let health = Health::default();
        for _ in 0..4 {
            assert_eq!(health.judge(true, SHORT, &outlier), None);
        }
        assert_eq!(health.judge(false, SHORT, &outlier), None);
        assert_eq!(health.judge(true, SHORT, &outlier), None, "not in a row");

        let health = Health::default();
        let slow = (0..10)
            .map(|_| health.judge(false, Duration::from_millis(20), &outlier))
            .collect::<Vec<_>>();
        assert_eq!((slow[8], slow[9]), (None, Some(Reason::Latency)));
    }

    #[test]
    fn several_failures_may_be_asked_for() {
        let outlier = Outlier {
            consecutive_failures: 3,
            ..Outlier::default()
        };
        let health = Health::default();
        assert!(!health.failed(1, &outlier) && !health.failed(1, &outlier));
        health.answered(1);
        assert!(!health.failed(1, &outlier) && !health.failed(1, &outlier) && health.failed(1, &outlier));
        assert!(health.set_down(true) && !health.set_down(true));
        assert_eq!(health.state(1 << 40), State::Ejected(Reason::HealthCheck));
    }
}
