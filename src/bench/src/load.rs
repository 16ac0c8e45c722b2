//! The closed loop: a fixed number of requests in flight for a fixed time.

use crate::Settings;
use crate::client::{Call, Connection};
use crate::report::{Row, Usage};
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many requests are in flight.
#[derive(Clone, Copy)]
pub struct Shape {
    pub connections: usize,
    pub streams: usize,
}

/// What one stream of requests saw.
#[derive(Default)]
struct Seen {
    latencies: Vec<u32>,
    errors: u64,
    bytes: u64,
}

/// Runs `make(n)` for n = 0, 1, 2 … until the time is over. Answers with any of `good` codes count as done.
pub async fn closed_loop(
    settings: &Settings,
    name: &str,
    shape: Shape,
    good: &'static [u16],
    make: impl Fn(u64) -> Call + Send + Sync + 'static,
) -> Result<Row> {
    let make = Arc::new(make);
    let counter = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::new();
    for _ in 0..shape.connections {
        connections.push(settings.target.connect().await?);
    }
    let before = samples(settings)?;
    let start = Instant::now();
    let deadline = start + settings.duration;
    let mut tasks = JoinSet::new();
    for connection in &connections {
        for _ in 0..shape.streams {
            tasks.spawn(stream(
                connection.clone(),
                deadline,
                good,
                counter.clone(),
                make.clone(),
            ));
        }
    }
    let mut all = Seen::default();
    while let Some(seen) = tasks.join_next().await {
        let seen = seen?;
        all.latencies.extend(seen.latencies);
        all.errors += seen.errors;
        all.bytes += seen.bytes;
    }
    let elapsed = start.elapsed();
    row(settings, name, all.latencies, all.errors, all.bytes, elapsed, &before)
}

async fn stream(
    mut connection: Connection,
    deadline: Instant,
    good: &'static [u16],
    counter: Arc<AtomicU64>,
    make: Arc<impl Fn(u64) -> Call>,
) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < deadline {
        let call = make(counter.fetch_add(1, Ordering::Relaxed));
        let start = Instant::now();
        match connection.call(&call).await {
            Ok((code, length)) if good.contains(&code) => {
                seen.latencies.push(micros(start.elapsed()));
                seen.bytes += length as u64;
            }
            Ok(_) => seen.errors += 1,
            Err(_) => {
                seen.errors += 1;
                break;
            }
        }
    }
    seen
}

/// Puts a row together and adds what the observed processes used since `before`.
pub fn row(
    settings: &Settings,
    name: &str,
    mut latencies: Vec<u32>,
    errors: u64,
    bytes: u64,
    elapsed: Duration,
    before: &[crate::process::Sample],
) -> Result<Row> {
    latencies.sort_unstable();
    let mut processes = Vec::new();
    for (process, before) in settings.processes.iter().zip(before) {
        let now = process.sample()?;
        processes.push(Usage {
            name: process.name.clone(),
            cpu_seconds: now.cpu_seconds - before.cpu_seconds,
            resident_bytes: now.resident_bytes,
        });
    }
    Ok(Row {
        name: name.into(),
        requests: latencies.len() as u64,
        errors,
        elapsed,
        latencies,
        bytes,
        processes,
    })
}

pub fn samples(settings: &Settings) -> Result<Vec<crate::process::Sample>> {
    settings.processes.iter().map(|p| p.sample()).collect()
}

pub fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
