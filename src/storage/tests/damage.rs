//! Single bits of a store's files are turned over and their ends cut off, at many places. A start names the file that is
//! damaged; or the store serves exactly what was acknowledged, and goes on to, whatever is written to it then.

// All of this file is tests, its helpers too.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use fairlead_api::Timestamp;
use fairlead_api::time::FixedClock;
use fairlead_storage::store::{Entry, Result};
use fairlead_storage::{Embedded, EmbeddedConfig, Error, Expect, Revision, Store};
use std::path::Path;
use std::sync::Arc;

const COMPACTED: u64 = 40;

fn open(dir: &Path) -> Result<Embedded> {
    let clock = Arc::new(FixedClock(Timestamp::from_unix_seconds(0)));
    Embedded::open(dir, EmbeddedConfig::new(clock))
}

/// Everything that can be read up to a revision: the states at some, and the history.
type Everything = (Vec<Vec<Entry>>, Vec<(u64, String, Option<Bytes>)>);

async fn everything(store: &Embedded, revision: u64) -> Result<Everything> {
    let mut states = Vec::new();
    for at in [COMPACTED, COMPACTED + 7, COMPACTED + 30, revision] {
        states.push(store.range("/", "", 1000, Some(Revision(at))).await?.entries);
    }
    let mut watch = store.watch("/", Revision(COMPACTED)).await?;
    let (mut changes, mut seen) = (Vec::new(), COMPACTED);
    while seen < revision {
        let batch = watch.next().await?;
        seen = batch.revision.0;
        changes.extend(
            batch
                .changes
                .into_iter()
                .map(|change| (change.revision.0, change.key.to_string(), change.value)),
        );
    }
    changes.retain(|(at, ..)| *at <= revision);
    Ok((states, changes))
}

/// Values of many sizes, overwritten, deleted, expiring; older ones compacted.
async fn fill(store: &Embedded) -> u64 {
    let mut last = Revision(1);
    for number in 0..60_u64 {
        let key = format!("/k/{:02}", number % 23);
        let value = Bytes::from(vec![b'a' + (number % 26) as u8; (number * number * 7 % 9000) as usize]);
        let current = store.get(&key).await.unwrap().0;
        let expect = current.map_or(Expect::Absent, |entry| Expect::Unchanged(entry.mod_revision));
        let lifetime = (number % 9 == 0).then(|| std::time::Duration::from_secs(100_000));
        last = store.put(&key, value, expect, lifetime).await.unwrap();
        if number % 7 == 3 {
            last = store.delete(&key, Expect::Unchanged(last)).await.unwrap();
        }
    }
    store.compact(Revision(COMPACTED)).await.unwrap();
    last.0
}

fn names_a_file(error: &Error) -> bool {
    error.to_string().contains("store.db")
}

/// What became of a damaged store.
enum Outcome {
    /// At its start.
    Refused,
    Exact,
}

async fn look(dir: &Path, expected: &Everything, revision: u64, what: &str) -> Outcome {
    let store = match open(dir) {
        Ok(store) => store,
        Err(error) => {
            assert!(names_a_file(&error), "{what}: {error}");
            return Outcome::Refused;
        }
    };
    check(&store, expected, revision, what).await;
    // What a start has let through must not come to harm what is written later.
    let mut last = Revision(revision);
    for number in 0..3_u64 {
        let value = Bytes::from(vec![b'n'; (number * 3000) as usize]);
        let written = store.put(&format!("/n/{number}"), value, Expect::Absent, None).await;
        last = written.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let all = store.range("/n/", "", 10, None).await.unwrap();
    store.close().await;
    drop(store);
    let store = open(dir).unwrap_or_else(|error| panic!("{what}: a write has spoilt it: {error}"));
    assert_eq!(store.revision().await.unwrap(), last, "{what}");
    check(&store, expected, revision, what).await;
    assert_eq!(
        store.range("/n/", "", 10, None).await.unwrap().entries,
        all.entries,
        "{what}"
    );
    store.close().await;
    Outcome::Exact
}

async fn check(store: &Embedded, expected: &Everything, revision: u64, what: &str) {
    let there = store.revision().await.unwrap().0;
    assert!(there >= revision, "{what}: acknowledged writes after {there} are gone");
    let found = everything(store, revision).await;
    let found = found.unwrap_or_else(|error| panic!("{what}: found only when it was read: {error}"));
    assert_eq!(&found, expected, "{what}");
}

/// A store's files, those that damage does not hit as they were.
struct Files {
    table: Vec<u8>,
    log: Vec<u8>,
    mark: Vec<u8>,
}

impl Files {
    fn read(dir: &Path) -> Files {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
        Files {
            table: read("store.db"),
            log: read("store.db-wal"),
            mark: read("acknowledged"),
        }
    }

    fn write(&self, dir: &Path, table: &[u8], log: &[u8]) {
        for (name, bytes) in [("store.db", table), ("store.db-wal", log), ("acknowledged", &self.mark)] {
            if !bytes.is_empty() {
                std::fs::write(dir.join(name), bytes).unwrap();
            }
        }
    }
}

fn places(length: usize) -> impl Iterator<Item = (usize, u8)> {
    let count = if std::env::var_os("SLOW_TESTS").is_some() {
        1500
    } else {
        60
    };
    let step = (length / count).max(1) | 1;
    (0..length).step_by(step).zip((0..8).cycle())
}

#[tokio::test]
async fn a_damaged_file_is_named_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let revision = fill(&store).await;
    let expected = everything(&store, revision).await.unwrap();
    store.close().await;
    drop(store);
    let good = Files::read(dir.path());
    let (mut refused, mut exact) = (0, 0);
    for (at, bit) in places(good.table.len()) {
        let mut bad = good.table.clone();
        bad[at] ^= 1 << bit;
        let dir = tempfile::tempdir().unwrap();
        good.write(dir.path(), &bad, &[]);
        match look(dir.path(), &expected, revision, &format!("byte {at}, bit {bit}")).await {
            Outcome::Refused => refused += 1,
            Outcome::Exact => exact += 1,
        }
    }
    println!("{refused} refused, {exact} harmless");
    assert!(refused > 10);
    for part in 0..40 {
        let length = good.table.len() * part / 40;
        let dir = tempfile::tempdir().unwrap();
        good.write(dir.path(), &good.table[..length], &[]);
        let outcome = look(dir.path(), &expected, revision, &format!("cut at {length}")).await;
        assert!(matches!(outcome, Outcome::Refused), "cut at {length}");
    }
}

/// The log of a process that was killed: all of it was acknowledged.
#[tokio::test]
async fn a_damaged_log_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let revision = fill(&store).await;
    let expected = everything(&store, revision).await.unwrap();
    let good = Files::read(dir.path());
    let (mut refused, mut exact) = (0, 0);
    for (at, bit) in places(good.log.len()) {
        let mut bad = good.log.clone();
        bad[at] ^= 1 << bit;
        let dir = tempfile::tempdir().unwrap();
        good.write(dir.path(), &good.table, &bad);
        match look(dir.path(), &expected, revision, &format!("byte {at}, bit {bit}")).await {
            Outcome::Refused => refused += 1,
            Outcome::Exact => exact += 1,
        }
    }
    println!("{refused} refused, {exact} harmless");
    assert!(refused > exact);
    for part in 0..40 {
        let length = good.log.len() * part / 40;
        let dir = tempfile::tempdir().unwrap();
        good.write(dir.path(), &good.table, &good.log[..length]);
        let outcome = look(dir.path(), &expected, revision, &format!("log cut at {length}")).await;
        assert!(matches!(outcome, Outcome::Refused), "log cut at {length}");
    }
    store.close().await;
}

/// Without the mark, a log that is damaged in its last commit is taken for one that a power cut has torn: no less.
#[tokio::test]
async fn without_a_mark_only_the_last_commit_can_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let revision = fill(&store).await;
    let good = Files::read(dir.path());
    let unmarked = Files {
        mark: Vec::new(),
        ..Files::read(dir.path())
    };
    for (at, bit) in places(good.log.len()) {
        let mut bad = good.log.clone();
        bad[at] ^= 1 << bit;
        let dir = tempfile::tempdir().unwrap();
        unmarked.write(dir.path(), &good.table, &bad);
        match open(dir.path()) {
            Ok(store) => {
                let there = store.revision().await.unwrap().0;
                assert!(there + 1 >= revision, "byte {at}, bit {bit}: {there} of {revision}");
                store.close().await;
            }
            Err(error) => assert!(names_a_file(&error), "byte {at}, bit {bit}: {error}"),
        }
    }
    store.close().await;
}
