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

/// Where the child writes. Set only by the parent.
const DIR: &str = "FAIRLEAD_CRASH_DIR";
const WRITERS: u32 = 12;

fn open(dir: &Path) -> Result<Embedded> {
    Embedded::open(
        dir,
        EmbeddedConfig::new(Arc::new(FixedClock(Timestamp::from_unix_seconds(0)))),
    )
}

fn padded(number: u64) -> Bytes {
    format!("{number} {}", "x".repeat((number % 17 * 100) as usize)).into()
}

fn number(value: &Bytes) -> u64 {
    String::from_utf8_lossy(value)
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("values begin with numbers")
}

/// Not a test of its own: the process that is killed. Prints `key number revision` for each acknowledged write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = open(Path::new(&dir)).expect("the store opens after a crash");
    let writers = (0..WRITERS).map(|writer| fairlead_telemetry::task::spawn("writer", write(store.clone(), writer)));
    futures_util::future::join_all(writers).await;
}

async fn write(store: Embedded, writer: u32) {
    let key = format!("/k/{writer}");
    let (mut entry, _) = store.get(&key).await.expect("reads work");
    loop {
        let next = entry.as_ref().map_or(1, |entry| number(&entry.value) + 1);
        let expect = entry
            .as_ref()
            .map_or(Expect::Absent, |entry| Expect::Unchanged(entry.mod_revision));
        let revision = store.put(&key, padded(next), expect, None).await.expect("writes work");
        println!("{key} {next} {}", revision.0);
        if next % 50 == 0 {
            store
                .compact(Revision(revision.0 - 20))
                .await
                .expect("compaction works");
        }
        entry = store.get(&key).await.expect("reads work").0;
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let rounds = if std::env::var_os("SLOW_TESTS").is_some() {
        100
    } else {
        4
    };
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for round in 0..rounds {
        run_and_kill(dir.path(), 30 + (round * 97) % 400, &mut acknowledged);
        let store = open(dir.path()).unwrap();
        let range = store.range("/k/", "", 1000, None).await.unwrap();
        let found: BTreeMap<&str, (u64, u64)> = range
            .entries
            .iter()
            .map(|entry| (&*entry.key, (number(&entry.value), entry.mod_revision.0)))
            .collect();
        for (key, (value, revision)) in &acknowledged {
            let (there, at) = found.get(&**key).copied().unwrap_or_default();
            // The write under way when the process died may be there, without having been acknowledged.
            assert!(
                there == *value && at == *revision || there == value + 1 && at > *revision,
                "round {round}: {key}"
            );
        }
        store.close().await;
    }
}

/// Lets the child acknowledge `count` writes and kills it; everything it managed to print counts.
fn run_and_kill(dir: &Path, count: usize, acknowledged: &mut BTreeMap<String, (u64, u64)>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    for line in output.lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let [key, value, revision] = words[..] else { continue };
        let (Ok(value), Ok(revision)) = (value.parse(), revision.parse()) else {
            continue;
        };
        acknowledged.insert(key.to_owned(), (value, revision));
        seen += 1;
        if seen == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= count, "the child ended by itself");
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
