//! Single bits of a store's files are turned over and their ends cut off, at many places. The store says which file is
//! damaged, at once or when what was hit is read, or it serves exactly what was acknowledged. Never anything else.

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

/// Everything that can be read: the states at some revisions, and the history.
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
    Refused,
    Exact,
    /// The state before the last commit.
    Shorter,
}

async fn look(dir: &Path, expected: &Everything, revision: u64, what: &str) -> Outcome {
    let store = match open(dir) {
        Ok(store) => store,
        Err(error) => {
            assert!(names_a_file(&error), "{what}: {error}");
            return Outcome::Refused;
        }
    };
    let at = store.revision().await.unwrap().0;
    if at != revision {
        assert_eq!(at + 1, revision, "{what}: more than one commit is gone");
        store.close().await;
        return Outcome::Shorter;
    }
    let outcome = match everything(&store, revision).await {
        Ok(found) => {
            assert_eq!(&found, expected, "{what}");
            Outcome::Exact
        }
        Err(error) => {
            assert!(names_a_file(&error), "{what}: {error}");
            Outcome::Refused
        }
    };
    // Writing on top of it must not make it worse without a word.
    let put = store.put("/new", Bytes::from_static(b"1"), Expect::Absent, None).await;
    store.close().await;
    drop(store);
    if let (Ok(written), Outcome::Exact) = (put, &outcome) {
        assert_eq!(written.0, revision + 1, "{what}");
        // A flipped bit that no reader has met may be met by the writer: that has to be told, too.
        let again = match open(dir) {
            Ok(store) => {
                let found = everything(&store, revision).await;
                store.close().await;
                found
            }
            Err(error) => Err(error),
        };
        match again {
            Ok((mut states, _)) => assert_eq!(states.pop(), expected.0.last().cloned(), "{what}"),
            Err(error) => {
                assert!(names_a_file(&error), "{what}: {error}");
                return Outcome::Refused;
            }
        }
    }
    outcome
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
    let good = std::fs::read(dir.path().join("store.db")).unwrap();
    let (mut refused, mut exact) = (0, 0);
    for (at, bit) in places(good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("store.db"), bad).unwrap();
        match look(dir.path(), &expected, revision, &format!("byte {at}, bit {bit}")).await {
            Outcome::Refused => refused += 1,
            Outcome::Exact => exact += 1,
            Outcome::Shorter => panic!("byte {at}, bit {bit}: an acknowledged write is gone"),
        }
    }
    println!("{refused} refused, {exact} harmless");
    assert!(refused > 10);
    for part in 0..40 {
        let length = good.len() * part / 40;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("store.db"), &good[..length]).unwrap();
        let outcome = if length == 0 {
            // Nothing is left that could say what there was.
            Outcome::Refused
        } else {
            look(dir.path(), &expected, revision, &format!("cut at {length}")).await
        };
        assert!(matches!(outcome, Outcome::Refused), "cut at {length}");
    }
}

#[tokio::test]
async fn a_damaged_log_is_named_or_loses_what_may_have_been_torn() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let revision = fill(&store).await;
    let expected = everything(&store, revision).await.unwrap();
    let table = std::fs::read(dir.path().join("store.db")).unwrap();
    let log = std::fs::read(dir.path().join("store.db-wal")).unwrap();
    // A commit's last frame says how many pages there are.
    let commits: Vec<usize> = (32..log.len() - 24)
        .step_by(24 + 4096)
        .filter(|at| log[at + 4..at + 8] != [0; 4])
        .collect();
    let last = commits[commits.len() - 2] + 24 + 4096;
    let (mut refused, mut shorter) = (0, 0);
    for (at, bit) in places(log.len()) {
        let mut bad = log.clone();
        bad[at] ^= 1 << bit;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("store.db"), &table).unwrap();
        std::fs::write(dir.path().join("store.db-wal"), bad).unwrap();
        match look(dir.path(), &expected, revision, &format!("byte {at}, bit {bit}")).await {
            Outcome::Refused => refused += 1,
            Outcome::Exact => {}
            Outcome::Shorter => {
                assert!(at >= last, "byte {at}, bit {bit}: a commit before the last is gone");
                shorter += 1;
            }
        }
    }
    println!("{refused} refused, {shorter} without the last commit");
    assert!(refused > shorter);
    store.close().await;
}
