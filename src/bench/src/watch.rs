//! Watch fan-out: paced writes, and how long each takes to reach each watcher. Every event is looked for: one that is
//! missing, comes twice or before an earlier one of its writer is an error.

use crate::Settings;
use crate::client::{Call, Connection};
use crate::load::{row, samples};
use crate::report::Row;
use anyhow::{Context, Result, bail};
use http::Method;
use http_body_util::BodyExt;
use memchr::memmem::Finder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

/// How many watch, and how often something changes.
#[derive(Clone, Copy)]
pub struct Shape {
    pub watchers: usize,
    pub connections: usize,
    pub writes_per_second: u32,
    pub each: Each,
}

/// What each watcher asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Each {
    /// Everything that is written.
    All,
    /// One name of its own: most are never written.
    Name,
}

/// Stands before the time an object was sent, in microseconds since the run began, and its number.
const MARK: &[u8] = b"\"bench-sent\":\"";
/// Objects that are written in turn.
const OBJECTS: u64 = 64;
/// Who writes them: each has its own, so that a slow answer holds up few.
const WRITERS: u64 = 16;

pub async fn fan_out(settings: &Settings, name: &str, shape: Shape) -> Result<Row> {
    let collection = format!("/api/v1/namespaces/{}/configmaps", settings.namespace);
    let mut control = settings.target.connect().await?;
    let list = control.json(&Call::get(format!("{collection}?limit=1"))).await?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("the list has no resourceVersion")?
        .to_owned();
    let start = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let ready = Arc::new(Barrier::new(shape.watchers + 1));
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    let connected = if settings.target.is_http1() {
        shape.watchers
    } else {
        shape.connections
    };
    for _ in 0..connected {
        connections.push(settings.target.connect().await?);
    }
    let arrived = Arc::new(AtomicU64::new(0));
    for i in 0..shape.watchers {
        let connection = connections[i % connected].clone();
        let path = match shape.each {
            Each::All => format!("{collection}?watch=1&resourceVersion={version}&labelSelector=bench%3Dwatch"),
            // In all namespaces, where a name is a field like any other.
            Each::Name => format!(
                "/api/v1/configmaps?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3Dwatched-{i}"
            ),
        };
        let (ready, stopped, arrived) = (ready.clone(), stopped.clone(), arrived.clone());
        tasks.spawn(watcher(connection, path, start, ready, stopped, arrived));
    }
    tokio::time::timeout(Duration::from_secs(60), ready.wait())
        .await
        .context("not all watches opened in 60 s")?;
    prepare(&mut control, &collection).await?;
    let before = samples(settings)?;
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for first in 0..WRITERS {
        let pace = Pace {
            first,
            every: Duration::from_secs(1) / shape.writes_per_second,
            begun,
            until: begun + settings.duration,
            start,
        };
        writers.spawn(write(control.clone(), collection.clone(), pace));
    }
    let mut written = 0;
    while let Some(count) = writers.join_next().await {
        written += count??;
    }
    let elapsed = begun.elapsed();
    let readers = match shape.each {
        Each::All => shape.watchers as u64,
        Each::Name => 1,
    };
    until_arrived(&arrived, written * readers).await;
    stop.send_replace(true);
    let mut latencies = Vec::new();
    let (mut bytes, mut disorder) = (0, 0);
    while let Some(seen) = tasks.join_next().await {
        let seen = seen??;
        latencies.extend(seen.delays);
        bytes += seen.bytes;
        disorder += seen.disorder;
    }
    let missing = (written * readers).abs_diff(latencies.len() as u64);
    row(settings, name, latencies, missing + disorder, bytes, elapsed, &before)
}

/// Waits for events that are still under way, as long as some come; and a little more for those that should not.
async fn until_arrived(arrived: &AtomicU64, expected: u64) {
    let (mut last, mut quiet) = (0, 0);
    while quiet < 20 && arrived.load(Ordering::Relaxed) < expected {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = arrived.load(Ordering::Relaxed);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Makes the objects that will be written, without a mark.
async fn prepare(connection: &mut Connection, collection: &str) -> Result<()> {
    for i in 0..OBJECTS {
        let body = object(i, None);
        let call = Call::send(Method::POST, collection, "application/json", body);
        match connection.call(&call).await? {
            (201 | 409, _) => {}
            (code, _) => bail!("making an object to watch was answered {code}"),
        }
    }
    Ok(())
}

fn object(number: u64, sent: Option<u128>) -> String {
    let mut data = serde_json::json!({"filling": "x".repeat(700)});
    if let Some(sent) = sent {
        data["bench-sent"] = format!("{sent}-{number}").into();
    }
    serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("watched-{}", number % OBJECTS), "labels": {"bench": "watch"}},
        "data": data,
    })
    .to_string()
}

/// When a writer writes: the events number `first`, `first + WRITERS` and so on, each at its time.
struct Pace {
    first: u64,
    every: Duration,
    begun: Instant,
    until: Instant,
    start: Instant,
}

async fn write(mut connection: Connection, collection: String, pace: Pace) -> Result<u64> {
    let mut written = 0;
    loop {
        let number = pace.first + written * WRITERS;
        let at = pace.begun + pace.every.mul_f64(number as f64);
        tokio::time::sleep_until(at.into()).await;
        if Instant::now() >= pace.until {
            return Ok(written);
        }
        let body = object(number, Some(pace.start.elapsed().as_micros()));
        let path = format!("{collection}/watched-{}", number % OBJECTS);
        let call = Call::send(Method::PUT, path, "application/json", body);
        match connection.call(&call).await? {
            (200, _) => written += 1,
            (code, _) => bail!("a write of the watch scenario was answered {code}"),
        }
    }
}

/// What one watcher saw.
#[derive(Default)]
struct Seen {
    /// In microseconds.
    delays: Vec<u32>,
    bytes: u64,
    /// Events that were not the next ones of their writers.
    disorder: u64,
    /// The last number of each writer.
    last: [Option<u64>; WRITERS as usize],
}

impl Seen {
    fn event(&mut self, event: &[u8], now: u128, finder: &Finder) {
        let Some((sent, number)) = mark(event, finder) else {
            return;
        };
        self.delays
            .push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
        let last = &mut self.last[(number % WRITERS) as usize];
        self.disorder += u64::from(last.is_some_and(|last| number <= last));
        *last = Some(number);
    }
}

/// Reads events until told to stop.
async fn watcher(
    mut connection: Connection,
    path: String,
    start: Instant,
    ready: Arc<Barrier>,
    mut stopped: watch::Receiver<bool>,
    arrived: Arc<AtomicU64>,
) -> Result<Seen> {
    let response = connection.open(&Call::get(path)).await?;
    if !response.status().is_success() {
        bail!("a watch was answered {}", response.status());
    }
    let mut body = response.into_body();
    ready.wait().await;
    let finder = Finder::new(MARK);
    let mut seen = Seen::default();
    // The beginning of an event whose end is still to come.
    let mut pending: Vec<u8> = Vec::new();
    let mut stop = std::pin::pin!(stopped.changed());
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            _ = &mut stop => return Ok(seen),
        };
        let Some(frame) = frame else {
            return Ok(seen);
        };
        let Some(data) = frame?.into_data().ok() else { continue };
        let now = start.elapsed().as_micros();
        seen.bytes += data.len() as u64;
        let before = seen.delays.len();
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', &data) {
            let event = &data[from..end];
            if pending.is_empty() {
                seen.event(event, now, &finder);
            } else {
                pending.extend_from_slice(event);
                seen.event(&pending, now, &finder);
                pending.clear();
            }
            from = end + 1;
        }
        pending.extend_from_slice(&data[from..]);
        arrived.fetch_add((seen.delays.len() - before) as u64, Ordering::Relaxed);
    }
}

/// When an object was sent, and its number.
fn mark(event: &[u8], finder: &Finder) -> Option<(u128, u64)> {
    let text = &event[finder.find(event)? + MARK.len()..];
    let text = std::str::from_utf8(&text[..memchr::memchr(b'"', text)?]).ok()?;
    let (sent, number) = text.split_once('-')?;
    Some((sent.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found() {
        let finder = Finder::new(MARK);
        let event = br#"{"data":{"bench-sent":"1234-7","x":""}}"#;
        assert_eq!(mark(event, &finder), Some((1234, 7)));
        assert_eq!(mark(b"{}", &finder), None);
    }

    #[test]
    fn disorder_shows() {
        let mut seen = Seen::default();
        let finder = Finder::new(MARK);
        for number in [0, 1, 16, 17, 1] {
            seen.event(format!(r#""bench-sent":"5-{number}""#).as_bytes(), 9, &finder);
        }
        assert_eq!((seen.delays.len(), seen.disorder), (5, 1));
    }
}
