//! [`Work`]: how much a loop has to do and how long it takes, under the `workqueue_*` names that dashboards read.

use crate::metrics::{Families, Histogram, IntCounter, IntGauge};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The work of one loop. Cheap to clone.
#[derive(Clone)]
pub struct Work {
    adds: IntCounter,
    retries: IntCounter,
    depth: IntGauge,
    waited: Histogram,
    worked: Histogram,
    running: Arc<Mutex<Vec<Instant>>>,
}

/// A piece of work that waits. Dropped unstarted, it is forgotten.
pub struct Waiting {
    work: Work,
    since: Instant,
}

/// A piece of work under way, until it is dropped.
pub struct Working {
    work: Work,
    since: Instant,
}

impl Work {
    /// The loop's families, with `name` as their label.
    pub fn of(families: &Families, name: &'static str) -> Work {
        let buckets: Vec<f64> = (0..10)
            .scan(1e-8, |bound, _| {
                let this = *bound;
                *bound *= 10.0;
                Some(this)
            })
            .collect();
        let label = &["name"];
        let running: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let unfinished = families.gauges(
            "workqueue_unfinished_work_seconds",
            "How long the work under way has taken so far, in whole seconds, summed.",
            label,
        );
        let longest = families.gauges(
            "workqueue_longest_running_processor_seconds",
            "How long the longest work under way has taken so far, in whole seconds.",
            label,
        );
        let (unfinished, longest, seen) = (unfinished.with(&[name]), longest.with(&[name]), running.clone());
        families.before_reading(move || {
            let since = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = |s: &Instant| i64::try_from(s.elapsed().as_secs()).unwrap_or(i64::MAX);
            unfinished.set(since.iter().map(seconds).sum());
            longest.set(since.iter().map(seconds).max().unwrap_or(0));
        });
        Work {
            adds: families
                .counters("workqueue_adds_total", "Work that came up.", label)
                .with(&[name]),
            retries: families
                .counters("workqueue_retries_total", "Work that has to be done again.", label)
                .with(&[name]),
            depth: families
                .gauges("workqueue_depth", "Work that waits.", label)
                .with(&[name]),
            waited: families
                .histograms(
                    "workqueue_queue_duration_seconds",
                    "How long work waits, in seconds.",
                    label,
                    &buckets,
                )
                .with(&[name]),
            worked: families
                .histograms(
                    "workqueue_work_duration_seconds",
                    "How long work takes, in seconds.",
                    label,
                    &buckets,
                )
                .with(&[name]),
            running,
        }
    }

    /// Something is to be done.
    pub fn add(&self) -> Waiting {
        self.adds.inc();
        self.depth.inc();
        Waiting {
            work: self.clone(),
            since: Instant::now(),
        }
    }

    /// What was done has to be done again.
    pub fn retry(&self) {
        self.retries.inc();
    }
}

impl Waiting {
    /// It is being done.
    pub fn start(self) -> Working {
        self.work.waited.observe(self.since.elapsed().as_secs_f64());
        let since = Instant::now();
        self.work.lock().push(since);
        Working {
            work: self.work.clone(),
            since,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.work.depth.dec();
    }
}

impl Work {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Working {
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.work.worked.observe(self.since.elapsed().as_secs_f64());
        let mut running = self.work.lock();
        if let Some(at) = running.iter().position(|since| *since == self.since) {
            running.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_and_is_done() {
        let families = Families::default();
        let work = Work::of(&families, "loop");
        let waiting = work.add();
        assert_eq!(work.depth.get(), 1);
        let working = waiting.start();
        assert_eq!((work.depth.get(), work.adds.get()), (0, 1));
        assert_eq!((work.waited.get_sample_count(), work.worked.get_sample_count()), (1, 0));
        drop(working);
        assert_eq!(work.worked.get_sample_count(), 1);
        assert!(work.lock().is_empty());
        let names: Vec<String> = families.gather().iter().map(|f| f.name().to_owned()).collect();
        assert_eq!(names.iter().filter(|n| n.starts_with("workqueue_")).count(), 7);
    }
}
