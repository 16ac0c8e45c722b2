//! Watch fan-out: paced writes, and how long each takes to reach each watcher.

use crate::Settings;
use crate::client::{Call, Connection};
use crate::load::{row, samples};
use crate::report::Row;
use anyhow::{Context, Result, bail};
use http::Method;
use http_body_util::BodyExt;
use std::sync::Arc;
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

/// Stands before the time an object was sent, in microseconds since the run began.
const MARK: &[u8] = b"\"bench-sent\":\"";

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
    for _ in 0..shape.connections {
        connections.push(settings.target.connect().await?);
    }
    for i in 0..shape.watchers {
        let connection = connections[i % shape.connections].clone();
        let path = match shape.each {
            Each::All => format!("{collection}?watch=1&resourceVersion={version}&labelSelector=bench%3Dwatch"),
            // In all namespaces, where a name is a field like any other.
            Each::Name => format!(
                "/api/v1/configmaps?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3Dwatched-{i}"
            ),
        };
        tasks.spawn(watcher(connection, path, start, ready.clone(), stopped.clone()));
    }
    tokio::time::timeout(Duration::from_secs(60), ready.wait())
        .await
        .context("not all watches opened in 60 s")?;
    let before = samples(settings)?;
    let begun = Instant::now();
    let written = write(settings, &mut control, &collection, shape.writes_per_second, start).await?;
    let elapsed = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send_replace(true);
    let mut latencies = Vec::new();
    let mut bytes = 0;
    while let Some(seen) = tasks.join_next().await {
        let (seen, length) = seen??;
        latencies.extend(seen);
        bytes += length;
    }
    let readers = match shape.each {
        Each::All => shape.watchers as u64,
        Each::Name => 1,
    };
    let missing = (written * readers).saturating_sub(latencies.len() as u64);
    row(settings, name, latencies, missing, bytes, elapsed, &before)
}

async fn write(
    settings: &Settings,
    connection: &mut Connection,
    collection: &str,
    rate: u32,
    start: Instant,
) -> Result<u64> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    let begun = Instant::now();
    let mut written = 0;
    while begun.elapsed() < settings.duration {
        tick.tick().await;
        let name = format!("watched-{}", written % 64);
        let sent = start.elapsed().as_micros();
        let body = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"bench": "watch"}},
            "data": {"bench-sent": sent.to_string(), "filling": "x".repeat(700)},
        })
        .to_string();
        let exists = written >= 64;
        let (method, path) = if exists {
            (Method::PUT, format!("{collection}/{name}"))
        } else {
            (Method::POST, collection.to_owned())
        };
        let (code, _) = connection
            .call(&Call::send(method, path, "application/json", body.clone()))
            .await?;
        if code == 409 && !exists {
            let path = format!("{collection}/{name}");
            connection
                .call(&Call::send(Method::PUT, path, "application/json", body))
                .await?;
        } else if code >= 300 {
            bail!("a write of the watch scenario was answered {code}");
        }
        written += 1;
    }
    Ok(written)
}

/// Reads events until told to stop. Answers the delay of each in microseconds, and the bytes read.
async fn watcher(
    mut connection: Connection,
    path: String,
    start: Instant,
    ready: Arc<Barrier>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(Vec<u32>, u64)> {
    let response = connection.open(&Call::get(path)).await?;
    if !response.status().is_success() {
        bail!("a watch was answered {}", response.status());
    }
    let mut body = response.into_body();
    ready.wait().await;
    let (mut delays, mut length) = (Vec::new(), 0);
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = stopped.changed() => return Ok((delays, length)),
        };
        let Some(frame) = frame else {
            return Ok((delays, length));
        };
        let Some(data) = frame?.into_data().ok() else { continue };
        let now = start.elapsed().as_micros();
        length += data.len() as u64;
        pending.extend_from_slice(&data);
        let whole = pending.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        for event in pending[..whole].split(|b| *b == b'\n') {
            if let Some(sent) = sent_at(event) {
                delays.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
            }
        }
        pending.drain(..whole);
    }
}

fn sent_at(event: &[u8]) -> Option<u128> {
    let at = event.windows(MARK.len()).position(|w| w == MARK)? + MARK.len();
    let digits = event[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&event[at..at + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_mark_is_found() {
        assert_eq!(super::sent_at(br#"{"data":{"bench-sent":"1234","x":""}}"#), Some(1234));
        assert_eq!(super::sent_at(b"{}"), None);
    }
}
