//! Exemplars: for each bucket of a histogram, the last observation that belongs to a recorded trace.

use crate::SystemClock;
use crate::trace::TraceId;
use dashmap::DashMap;
use fairlead_api::Clock;

/// One observation and its trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    pub trace: TraceId,
    pub value: f64,
    /// Seconds since 1970.
    pub at: f64,
}

/// Those of all series of one family, by the series' keys.
#[derive(Default)]
pub(crate) struct Exemplars(DashMap<u64, Vec<Option<Exemplar>>>);

impl Exemplars {
    pub(crate) fn put(&self, key: u64, buckets: &[f64], value: f64, trace: TraceId) {
        let bucket = buckets
            .iter()
            .position(|bound| value <= *bound)
            .unwrap_or(buckets.len());
        let at = SystemClock.now().0 as f64 / 1e9;
        let mut of_series = self.0.entry(key).or_insert_with(|| vec![None; buckets.len() + 1]);
        if let Some(slot) = of_series.get_mut(bucket) {
            *slot = Some(Exemplar { trace, value, at });
        }
    }

    pub(crate) fn of(&self, key: u64) -> Vec<Option<Exemplar>> {
        self.0.get(&key).map_or_else(Vec::new, |found| found.clone())
    }

    pub(crate) fn remove(&self, key: u64) {
        self.0.remove(&key);
    }
}
