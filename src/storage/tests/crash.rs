//! The embedded store is killed in the middle of writing, again and again, and its log is cut at odd places: what was
//! acknowledged is there, and what is there is a prefix of what was written.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use fairlead_api::Timestamp;
use fairlead_api::time::FixedClock;
use fairlead_storage::store::Result;
use fairlead_storage::{Embedded, EmbeddedConfig, Error, Expect, Revision, Store};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Where the child writes. Set only by the parent.
const DIR: &str = "FAIRLEAD_CRASH_DIR";
const WRITERS: u32 = 12;
/// Kills; a thousand with `SLOW_TESTS=1`.
const KILLS: usize = 20;

fn open(dir: &Path) -> Result<Embedded> {
    Embedded::open(
        dir,
        EmbeddedConfig::new(Arc::new(FixedClock(Timestamp::from_unix_seconds(0)))),
    )
}

/// Long enough, now and then, for checkpoints to come by.
fn padded(number: u64) -> Bytes {
    let length = if number.is_multiple_of(40) {
        300_000
    } else {
        number % 17 * 100
    };
    format!("{number} {}", "x".repeat(length as usize)).into()
}

fn number(value: &Bytes) -> u64 {
    String::from_utf8_lossy(value)
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("values begin with numbers")
}

fn deletes(number: u64) -> bool {
    number.is_multiple_of(9)
}

/// Not a test of its own: the process that is killed. Prints `has key number revision` for what it finds, `ready`, and
/// then `key number revision` for each acknowledged write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = open(Path::new(&dir)).expect("the store opens after a crash");
    let range = store.range("/k/", "", 1000, None).await.expect("reads work");
    for entry in range.entries {
        println!("has {} {} {}", entry.key, number(&entry.value), entry.mod_revision.0);
    }
    println!("ready at {}", range.revision.0);
    let writers = (0..WRITERS).map(|writer| fairlead_telemetry::task::spawn("writer", write(store.clone(), writer)));
    for writer in futures_util::future::join_all(writers).await {
        writer.expect("writers end only with the process");
    }
}

async fn write(store: Embedded, writer: u32) {
    let key = format!("/k/{writer}");
    // Where nothing is there, the last write was a delete or there was none: its number is above all others.
    let (mut entry, revision) = store.get(&key).await.expect("reads work");
    let mut next = entry.as_ref().map_or(revision.0 * 9, |entry| number(&entry.value)) + 1;
    loop {
        let revision = match &entry {
            None => store.put(&key, padded(next), Expect::Absent, None).await,
            Some(entry) if deletes(next) => store.delete(&key, Expect::Unchanged(entry.mod_revision)).await,
            Some(entry) => {
                let expect = Expect::Unchanged(entry.mod_revision);
                store.put(&key, padded(next), expect, None).await
            }
        };
        let revision = revision.expect("writes work");
        let deleted = entry.is_some() && deletes(next);
        println!(
            "{} {key} {next} {}",
            if deleted { "deleted" } else { "put" },
            revision.0
        );
        if next % 50 == 0 {
            let compacted = store.compact(Revision(revision.0 - 20)).await;
            compacted.expect("compaction works");
        }
        entry = store.get(&key).await.expect("reads work").0;
        next += 1;
    }
}

/// What was acknowledged last of a key: the number, `None` for a delete, and its revision.
type Acknowledged = BTreeMap<String, (Option<u64>, u64)>;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let kills = if std::env::var_os("SLOW_TESTS").is_some() {
        1000
    } else {
        KILLS
    };
    // Each lane has a store of its own; together they keep two cores busy.
    std::thread::scope(|scope| {
        for lane in 0..2 {
            scope.spawn(move || kill_again_and_again(lane, kills / 2));
        }
    });
}

fn kill_again_and_again(lane: usize, kills: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();
    let mut writes = 0;
    for round in 0..kills {
        // Some rounds end while the store is being opened, others after a few writes, or after many.
        let when = match round % 8 {
            0 => When::After(Duration::from_millis((round / 8 * 3 + lane) as u64 % 25)),
            7 => When::Acknowledged(200 + round * 97 % 300),
            _ => When::Acknowledged(1 + (round * 31 + lane * 17) % 60),
        };
        writes += run_and_kill(dir.path(), when, &mut acknowledged);
    }
    run_and_kill(dir.path(), When::Acknowledged(1), &mut acknowledged);
    println!("{kills} kills, {writes} acknowledged writes");
}

/// When a child is killed.
#[derive(Clone, Copy)]
enum When {
    After(Duration),
    Acknowledged(usize),
}

/// Lets the child find everything that was acknowledged and write more, and kills it; everything it managed to print
/// counts.
fn run_and_kill(dir: &Path, when: When, acknowledged: &mut Acknowledged) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let count = match when {
        When::Acknowledged(count) => count,
        When::After(time) => {
            std::thread::sleep(time);
            child.kill().unwrap();
            0
        }
    };
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut seen = 0;
    for line in output.lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["has", key, value, revision] => {
                found.insert(key.to_owned(), (value.parse().unwrap(), revision.parse().unwrap()));
            }
            ["ready", "at", revision] => compare(acknowledged, &found, revision.parse().unwrap()),
            [what @ ("put" | "deleted"), key, value, revision] => {
                // The last line may have been cut off by the kill.
                let (Ok(value), Ok(revision)) = (value.parse(), revision.parse()) else {
                    continue;
                };
                acknowledged.insert(key.to_owned(), (Some(value).filter(|_| what == "put"), revision));
                seen += 1;
                if seen == count {
                    child.kill().unwrap();
                }
            }
            _ => {}
        }
    }
    child.wait().unwrap();
    assert!(seen >= count, "the child ended by itself");
    seen
}

/// Each key has what was acknowledged last, or what was under way when the process died. Takes down what is there.
fn compare(acknowledged: &mut Acknowledged, found: &BTreeMap<String, (u64, u64)>, revision: u64) {
    for (key, (value, at)) in &*acknowledged {
        assert!(revision >= *at, "{key}: the store has gone back to revision {revision}");
        let fine = match (found.get(key), value) {
            (Some((there, there_at)), Some(value)) => {
                (there, there_at) == (value, at) || (*there == value + 1 && there_at > at)
            }
            (Some((_, there_at)), None) => there_at > at,
            (None, Some(value)) => deletes(value + 1),
            (None, None) => true,
        };
        assert!(
            fine,
            "{key} is {:?}, acknowledged was {value:?} at {at}",
            found.get(key)
        );
    }
    for (key, known) in acknowledged.iter_mut() {
        known.0 = found.get(key).map(|(value, _)| *value);
    }
    for (key, (value, at)) in found {
        acknowledged.insert(key.clone(), (Some(*value), *at));
    }
}

/// A power cut leaves any part of the log's tail unwritten or torn.
#[tokio::test]
async fn any_beginning_of_the_log_is_a_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut last = None;
    for i in 1..=60 {
        let expect = last.map_or(Expect::Absent, Expect::Unchanged);
        last = Some(store.put("/k/one", padded(i), expect, None).await.unwrap());
        store
            .put(&format!("/k/{i}"), padded(i), Expect::Absent, None)
            .await
            .unwrap();
    }
    let table = std::fs::read(dir.path().join("store.db")).unwrap();
    let log = std::fs::read(dir.path().join("store.db-wal")).unwrap();
    store.close().await;
    let mut last = 0;
    for cut in (0..24).map(|i| log.len() * i / 23) {
        for damage in [false, true] {
            let mut log = log[..cut].to_vec();
            if damage && cut > 100 {
                log[cut - 100] ^= 0x10;
            }
            let revision = check_state(&table, &log).await;
            assert!(damage || revision >= last);
            last = last.max(revision);
        }
    }
    assert_eq!(last, 121);
}

async fn check_state(table: &[u8], log: &[u8]) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.db"), table).unwrap();
    std::fs::write(dir.path().join("store.db-wal"), log).unwrap();
    let store = open(dir.path()).unwrap();
    let revision = store.revision().await.unwrap();
    let range = store.range("/k/", "", 1000, None).await.unwrap();
    let keys = range.entries.len() as u64;
    // Even revisions write `/k/one`, odd ones add a key.
    assert_eq!(keys, if revision.0 == 1 { 0 } else { 1 + (revision.0 - 1) / 2 });
    for entry in &range.entries {
        assert!(entry.mod_revision <= revision);
    }
    // It goes on from there.
    store
        .put("/k/next", Bytes::from_static(b"1"), Expect::Absent, None)
        .await
        .unwrap();
    let again = store
        .put("/k/next", Bytes::from_static(b"1"), Expect::Absent, None)
        .await;
    assert!(matches!(again, Err(Error::Conflict { .. })));
    store.close().await;
    revision.0
}
