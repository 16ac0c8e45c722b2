//! What the store does, under the metric names that dashboards of etcd-backed servers read.
// PERFORMANCE: per-request path

use fairlead_storage::{Embedded, StoreObserver};
use fairlead_telemetry::Families;
use fairlead_telemetry::metrics::{Counters, Histogram, Histograms};
use std::time::Duration;

/// Counts operations by resource.
pub struct StoreMetrics {
    seconds: Histograms,
    total: Counters,
    errors: Counters,
    commits: Histogram,
    batches: Histogram,
}

const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const LABELS: [&str; 3] = ["operation", "group", "resource"];

impl StoreMetrics {
    pub fn register(families: &Families) -> StoreMetrics {
        let fsync: Vec<f64> = (0..14).map(|i| 0.0001 * f64::from(1 << i)).collect();
        let batches: Vec<f64> = (0..11).map(|i| f64::from(1 << i)).collect();
        StoreMetrics {
            seconds: families.histograms(
                "etcd_request_duration_seconds",
                "Time a store operation took in seconds.",
                &LABELS,
                &SECONDS,
            ),
            total: families.counters("etcd_requests_total", "Store operations.", &LABELS),
            errors: families.counters("etcd_request_errors_total", "Store operations that failed.", &LABELS),
            commits: families
                .histograms(
                    "fairlead_store_fsync_seconds",
                    "Time until a batch of writes was durable.",
                    &[],
                    &fsync,
                )
                .with(&[]),
            batches: families
                .histograms(
                    "fairlead_store_batch_writes",
                    "Writes made durable together.",
                    &[],
                    &batches,
                )
                .with(&[]),
        }
    }
}

/// Measures an embedded store again and again, until it is dropped.
pub async fn measure(store: Embedded, families: Families, every: Duration) {
    let size = families
        .gauges(
            "apiserver_storage_size_bytes",
            "Bytes the store's files take on the disk.",
            &["storage_cluster_id"],
        )
        .with(&["embedded"]);
    loop {
        size.set(i64::try_from(store.size()).unwrap_or(i64::MAX));
        tokio::time::sleep(every).await;
    }
}

impl StoreObserver for StoreMetrics {
    fn operation(&self, operation: &'static str, prefix: &str, seconds: f64, ok: bool) {
        let (group, resource) = named(prefix);
        let labels = [operation, group, resource];
        self.total.with(&labels).inc();
        self.seconds.with(&labels).observe(seconds);
        if !ok {
            self.errors.with(&labels).inc();
        }
    }

    fn commit(&self, batch: usize, fsync_seconds: f64) {
        self.batches.observe(batch as f64);
        self.commits.observe(fsync_seconds);
    }
}

/// Group and resource of a cache's prefix: `/pods/`, `/example.com/widgets/`.
fn named(prefix: &str) -> (&str, &str) {
    let path = prefix.trim_matches('/');
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_name_resources() {
        assert_eq!(named("/pods/"), ("", "pods"));
        assert_eq!(named("/example.com/widgets/"), ("example.com", "widgets"));
        let families = Families::default();
        StoreMetrics::register(&families).operation("create", "/pods/", 0.01, false);
        assert_eq!(
            families
                .counters("etcd_request_errors_total", "", &LABELS)
                .with(&["create", "", "pods"])
                .get(),
            1
        );
    }
}
