//! How long answers of late took to begin: a histogram that forgets.
// PERFORMANCE: per-request path

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Four buckets for each doubling, from a microsecond up.
const BUCKETS: usize = 128;
/// After so many answers all counts are halved.
const FORGET_AFTER: u32 = 1024;
/// Fewer than these say nothing.
const ENOUGH: u32 = 20;

pub struct Latencies {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            counts: std::array::from_fn(|_| AtomicU32::new(0)),
            total: AtomicU32::new(0),
        }
    }
}

impl Latencies {
    pub fn record(&self, took: Duration) {
        self.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
        // Whoever reaches the limit halves; a count that is lost meanwhile does not matter.
        if self.total.fetch_add(1, Ordering::Relaxed) + 1 == FORGET_AFTER {
            let mut left = 0;
            for count in &self.counts {
                let half = count.load(Ordering::Relaxed) / 2;
                count.store(half, Ordering::Relaxed);
                left += half;
            }
            self.total.store(left, Ordering::Relaxed);
        }
    }

    /// The time within which so many percent of answers came; `None` while too few are known.
    pub fn percentile(&self, percent: u32) -> Option<Duration> {
        let total: u32 = self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum();
        if total < ENOUGH {
            return None;
        }
        let wanted = u64::from(total) * u64::from(percent.min(100)) / 100;
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += u64::from(count.load(Ordering::Relaxed));
            if seen >= wanted {
                return Some(upper_bound(i));
            }
        }
        None
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(4);
    let power = micros.ilog2();
    let quarter = (micros >> (power - 2)) & 3;
    ((power as usize) * 4 + quarter as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let (power, quarter) = (bucket / 4, bucket as u64 % 4);
    Duration::from_micros((5 + quarter) << power.saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_quarter() {
        let latencies = Latencies::default();
        assert_eq!(latencies.percentile(95), None);
        for millis in 1..=100 {
            latencies.record(Duration::from_millis(millis));
        }
        for percent in [50, 90, 95] {
            let found = latencies.percentile(percent).unwrap().as_millis() as f64;
            let wanted = f64::from(percent);
            assert!(found >= wanted && found < wanted * 1.3, "p{percent}: {found}");
        }
        // What was long ago is forgotten.
        for _ in 0..20_000 {
            latencies.record(Duration::from_millis(1));
        }
        assert!(latencies.percentile(99).unwrap() < Duration::from_millis(2));
    }
}
