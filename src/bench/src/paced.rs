//! The open loop: so many requests a second, whether or not earlier ones have been answered. A latency counts from when its
//! request was meant to be sent, so that a server that falls behind shows.

use crate::Settings;
use crate::client::{Call, Connection};
use crate::load::{micros, row, samples};
use crate::report::Row;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Requests are spread over so many connections.
const CONNECTIONS: usize = 4;
/// Sleeping is not exact: the rest of a pause is waited for awake.
const AWAKE: Duration = Duration::from_micros(150);

/// Sends `rate` requests a second for as long as the settings say.
pub async fn open_loop(
    settings: &Settings,
    name: &str,
    rate: u32,
    good: &'static [u16],
    make: impl Fn(u64) -> Call,
) -> Result<Row> {
    if rate == 0 {
        bail!("the scenario {name} needs a rate above zero");
    }
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = settings.target.connect().await?;
        // Nobody waits for the first connection to a backend in what is measured.
        connection.call(&make(0)).await?;
        connections.push(connection);
    }
    let before = samples(settings)?;
    let start = Instant::now();
    let (due, mut coming) = mpsc::unbounded_channel();
    let pacing = {
        let (pause, count) = (Duration::from_secs(1) / rate, meant(settings.duration, rate));
        std::thread::spawn(move || pace(start, pause, count, |at| due.send(at).is_ok()))
    };
    let mut tasks = JoinSet::new();
    let mut sent = 0;
    while let Some(at) = coming.recv().await {
        let connection = connections[sent as usize % CONNECTIONS].clone();
        tasks.spawn(one(connection, Arc::new(make(sent)), at, good));
        sent += 1;
    }
    if pacing.join().is_err() {
        bail!("the pacing thread panicked");
    }
    let (mut latencies, mut errors, mut bytes) = (Vec::new(), 0, 0);
    while let Some(seen) = tasks.join_next().await {
        match seen? {
            Some((latency, length)) => {
                latencies.push(latency);
                bytes += length as u64;
            }
            None => errors += 1,
        }
    }
    row(settings, name, latencies, errors, bytes, start.elapsed(), &before)
}

fn meant(duration: Duration, rate: u32) -> u32 {
    (duration.as_secs_f64() * f64::from(rate)).round() as u32
}

/// Calls `due` at each of `count` times, as exactly as it goes; those that were missed follow at once.
fn pace(start: Instant, pause: Duration, count: u32, due: impl Fn(Instant) -> bool) {
    for n in 0..count {
        let at = start + pause * n;
        let left = at.saturating_duration_since(Instant::now());
        if left > AWAKE {
            std::thread::sleep(left - AWAKE);
        }
        while Instant::now() < at {
            std::hint::spin_loop();
        }
        if !due(at) {
            return;
        }
    }
}

/// The latency in microseconds and the length of the answer; `None` where that is no good one.
async fn one(mut connection: Connection, call: Arc<Call>, at: Instant, good: &[u16]) -> Option<(u32, usize)> {
    match connection.call(&call).await {
        Ok((code, length)) if good.contains(&code) => Some((micros(at.elapsed()), length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn what_was_missed_follows_with_its_own_time() {
        let start = Instant::now() - Duration::from_millis(5);
        let pause = Duration::from_millis(1);
        let seen = RefCell::new(Vec::new());
        pace(start, pause, 8, |at| {
            seen.borrow_mut().push(at - start);
            true
        });
        let expected: Vec<Duration> = (0..8).map(|n| pause * n).collect();
        assert_eq!(*seen.borrow(), expected);
        assert!(start.elapsed() >= pause * 7, "none is early");
        assert_eq!(meant(Duration::from_millis(2_500), 1_000), 2_500);
    }
}
