//! How many durable writes a second the embedded store makes, and how long they take: 1, 16 and 128 writers.
//! `cargo run --release -p fairlead-storage --example writes [DIR]`

use bytes::Bytes;
use fairlead_storage::{Embedded, EmbeddedConfig, Error, Expect, Store, StoreObserver};
use fairlead_telemetry::SystemClock;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 1500;
const SECONDS: u64 = 3;

#[derive(Default)]
struct Commits {
    commits: AtomicU64,
    writes: AtomicU64,
    nanos: AtomicU64,
}

impl StoreObserver for Commits {
    fn operation(&self, _: &'static str, _: &str, _: f64, _: bool) {}

    fn commit(&self, batch: usize, fsync_seconds: f64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(batch as u64, Ordering::Relaxed);
        self.nanos.fetch_add((fsync_seconds * 1e9) as u64, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("fairlead-writes"), PathBuf::from);
    for writers in [1, 16, 128] {
        let run = dir.join(writers.to_string());
        let commits = Arc::new(Commits::default());
        let config = EmbeddedConfig {
            observer: Some(commits.clone()),
            ..EmbeddedConfig::new(Arc::new(SystemClock))
        };
        let store = Embedded::open(&run, config)?;
        let end = Instant::now() + Duration::from_secs(SECONDS);
        let tasks =
            (0..writers).map(|writer| fairlead_telemetry::task::spawn("writer", write(store.clone(), writer, end)));
        let done = futures_util::future::join_all(tasks).await;
        let mut times: Vec<Duration> = done.into_iter().filter_map(|done| done.ok()?.ok()).flatten().collect();
        times.sort_unstable();
        let at = |share: f64| {
            times
                .get((times.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        let (count, nanos) = (
            commits.commits.load(Ordering::Relaxed).max(1),
            commits.nanos.load(Ordering::Relaxed),
        );
        println!(
            "{writers:>4} writers: {:>6} writes/s, p50 {:>7.3?}, p99 {:>7.3?}, max {:>7.3?}; {:.1} writes a commit, {:.3?} a commit",
            times.len() as u64 / SECONDS,
            at(0.5),
            at(0.99),
            times.last().copied().unwrap_or_default(),
            commits.writes.load(Ordering::Relaxed) as f64 / count as f64,
            Duration::from_nanos(nanos / count),
        );
        store.close().await;
        drop(store);
        // Only files this run has made.
        for name in ["store.db", "store.db-wal", "store.db-shm", "lock"] {
            _ = std::fs::remove_file(run.join(name));
        }
        _ = std::fs::remove_dir(&run);
    }
    Ok(())
}

async fn write(store: Embedded, writer: u32, end: Instant) -> Result<Vec<Duration>, Error> {
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    let mut times = Vec::new();
    for i in 0.. {
        let started = Instant::now();
        if started >= end {
            break;
        }
        store
            .put(&format!("/things/{writer}/{i}"), value.clone(), Expect::Absent, None)
            .await?;
        times.push(started.elapsed());
    }
    Ok(times)
}
