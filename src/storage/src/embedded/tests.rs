//! The embedded store beyond what every store does: restarts, damage, full disks, crashes.

use crate::embedded::{BUMP, Backup, Embedded, EmbeddedConfig, restore, verify};
use crate::feed::lock;
use crate::store::{Error, Expect, Revision, Store};
use crate::suite::{Bench, suite, until};
use crate::testing::{HandClock, bytes};
use futures_util::future::join_all;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, EmbeddedConfig::new(HandClock::at(1_000))).unwrap()
}

async fn bench() -> Option<Bench> {
    Some(bench_in(tempfile::tempdir().unwrap()))
}

fn bench_in(dir: tempfile::TempDir) -> Bench {
    let clock = HandClock::at(1_000);
    let config = EmbeddedConfig::new(clock.clone());
    let store = Embedded::open(dir.path(), config.clone()).unwrap();
    let current = Arc::new(Mutex::new(store.clone()));
    let (expiring, path) = (current.clone(), dir.path().to_owned());
    Bench {
        store: Arc::new(store),
        lifetime: Duration::from_secs(60),
        pass: Arc::new(move |time| {
            clock.advance(time.as_secs().cast_signed());
            let store = lock(&expiring).clone();
            Box::pin(async move { store.expire().await })
        }),
        restart: Arc::new(move || {
            let (current, path, config) = (current.clone(), path.clone(), config.clone());
            Box::pin(async move {
                let old = lock(&current).clone();
                old.close().await;
                let store = Embedded::open(&path, config).unwrap();
                *lock(&current) = store.clone();
                Arc::new(store) as Arc<dyn Store>
            })
        }),
        _keep: Box::new(dir),
    }
}

suite!(conformance, bench);

/// A million with `SLOW_TESTS=1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_with_restarts_and_compactions() {
    let events = if std::env::var_os("SLOW_TESTS").is_some() {
        1_000_000
    } else {
        20_000
    };
    // What a disk does is looked at elsewhere; here it would only take its time.
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    crate::suite::million::check(bench_in(dir), events).await;
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at(1_000);
    let store = Embedded::open(dir.path(), EmbeddedConfig::new(clock.clone())).unwrap();
    store.put("/a", bytes("1"), Expect::Absent, None).await.unwrap();
    store
        .put("/b", bytes("2"), Expect::Absent, Some(Duration::from_secs(60)))
        .await
        .unwrap();
    store
        .put("/a", bytes("3"), Expect::Unchanged(Revision(2)), None)
        .await
        .unwrap();
    store.put("/c", bytes("4"), Expect::Absent, None).await.unwrap();
    store.delete("/c", Expect::Unchanged(Revision(5))).await.unwrap();
    store.compact(Revision(3)).await.unwrap();
    store.close().await;
    assert!(matches!(
        store.put("/d", bytes("5"), Expect::Absent, None).await,
        Err(Error::Unavailable(_))
    ));
    drop(store);
    let store = Embedded::open(dir.path(), EmbeddedConfig::new(clock.clone())).unwrap();
    assert_eq!(store.revision().await.unwrap(), Revision(6));
    let range = store.range("/", "", 9, None).await.unwrap();
    assert_eq!(range.entries.iter().map(|e| &*e.key).collect::<Vec<_>>(), ["/a", "/b"]);
    let past = store.range("/", "", 9, Some(Revision(3))).await.unwrap();
    assert_eq!(
        past.entries.iter().map(|e| &e.value[..]).collect::<Vec<_>>(),
        [b"1", b"2"]
    );
    assert!(matches!(
        store.range("/", "", 9, Some(Revision(2))).await,
        Err(Error::Compacted { .. })
    ));
    let mut watch = store.watch("/", Revision(3)).await.unwrap();
    let batch = until(&mut watch, Revision(3), Revision(6)).await;
    assert_eq!(
        batch.changes.iter().map(|c| c.revision.0).collect::<Vec<_>>(),
        [4, 5, 6]
    );
    clock.advance(60);
    store.expire().await;
    assert_eq!(store.get("/b").await.unwrap(), (None, Revision(7)));
    store.compact(Revision(7)).await.unwrap();
    store.close().await;
    drop(store);
    // The newest row is a tombstone that compaction takes; the revision must not fall back.
    for _ in 0..2 {
        let store = open(dir.path());
        assert_eq!(store.revision().await.unwrap(), Revision(7));
        store.close().await;
    }
}

#[tokio::test]
async fn a_directory_belongs_to_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let second = Embedded::open(dir.path(), EmbeddedConfig::new(HandClock::at(0)));
    assert!(matches!(second, Err(Error::Unavailable(text)) if text.contains("in use by another process")));
    first.close().await;
    open(dir.path()).close().await;
}

#[tokio::test]
async fn damage_is_told_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    std::fs::write(
        &path,
        "not a database, but long enough to be taken for the header of one: ".repeat(40),
    )
    .unwrap();
    let foreign = Embedded::open(dir.path(), EmbeddedConfig::new(HandClock::at(0)));
    assert!(matches!(foreign, Err(Error::Corrupt(text)) if text.contains("store.db")));
    std::fs::remove_file(&path).unwrap();
    let store = open(dir.path());
    for i in 0..200 {
        store
            .put(
                &format!("/k/{i:03}"),
                bytes(&format!("value {i} {}", "x".repeat(200))),
                Expect::Absent,
                None,
            )
            .await
            .unwrap();
    }
    store.close().await;
    drop(store);
    let good = std::fs::read(&path).unwrap();

    let mut flipped = good.clone();
    let at = good.windows(9).position(|window| window == b"value 77 ").unwrap();
    flipped[at + 20] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let flipped = Embedded::open(dir.path(), EmbeddedConfig::new(HandClock::at(0)));
    assert!(matches!(flipped, Err(Error::Corrupt(text)) if text.contains("/k/077") && text.contains("store.db")));

    let mut torn = good.clone();
    let page = (at / 4096) * 4096;
    torn[page..page + 4096].fill(0xa5);
    std::fs::write(&path, &torn).unwrap();
    let torn = Embedded::open(dir.path(), EmbeddedConfig::new(HandClock::at(0)));
    assert!(matches!(torn, Err(Error::Corrupt(_))));

    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    let short = Embedded::open(dir.path(), EmbeddedConfig::new(HandClock::at(0)));
    assert!(matches!(short, Err(Error::Corrupt(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig {
        max_bytes: Some(400 << 10),
        ..EmbeddedConfig::new(HandClock::at(0))
    };
    let store = Embedded::open(dir.path(), config).unwrap();
    let value = bytes(&"x".repeat(10_000));
    let mut written = 0;
    let refused = loop {
        match store
            .put(&format!("/k/{written}"), value.clone(), Expect::Absent, None)
            .await
        {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Full(_)), "{refused:?}");
    store.health().await.unwrap();
    let revision = store.revision().await.unwrap();
    assert_eq!(revision.0, written + 1);
    assert_eq!(
        store.range("/k/", "", 900, None).await.unwrap().entries.len() as u64,
        written
    );
    // A tombstone still finds room; compaction then makes more.
    let deleted = store.delete("/k/0", Expect::Unchanged(Revision(2))).await.unwrap();
    store.compact(deleted).await.unwrap();
    let again = async {
        for i in 0.. {
            let put = store
                .put(&format!("/k/again-{i}"), bytes("small"), Expect::Absent, None)
                .await;
            if put.is_ok() || i > 10 {
                return put;
            }
        }
        unreachable!()
    };
    again.await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_gone_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().await;
    let path = dir.path().join("store.db");
    let gone = || {
        Embedded::open(dir.path(), EmbeddedConfig::new(HandClock::at(0)))
            .unwrap_err()
            .to_string()
    };
    std::fs::write(&path, "").unwrap();
    assert!(gone().contains("store.db\" is missing or empty"));
    std::fs::remove_file(&path).unwrap();
    assert!(gone().contains("store.db\" is missing or empty"));
    assert!(!path.exists());
}

fn saved(backup: &mut Backup, dir: &Path) -> std::path::PathBuf {
    let path = dir.join("backup.db");
    std::io::copy(&mut backup.file, &mut std::fs::File::create(&path).unwrap()).unwrap();
    path
}

#[tokio::test]
async fn a_backup_is_one_revision_and_restores_above_it() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    for i in 0..20 {
        store.put_owned(format!("/before/{i}")).await;
    }
    store.compact(Revision(5)).await.unwrap();
    let writes = (0..50).map(|i| store.put_owned(format!("/k/{i}")));
    let (backup, _) = tokio::join!(store.backup(), join_all(writes));
    let mut backup = backup.unwrap();
    let file = saved(&mut backup, copy.path());
    assert_eq!(verify(&file).unwrap(), backup.summary);
    assert_eq!(
        dir.path()
            .read_dir()
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().starts_with("backup") })
            .count(),
        0
    );

    let target = copy.path().join("new");
    let restored = restore(&file, &target).unwrap();
    let last = backup.summary.revision.0;
    assert_eq!(restored.revision, Revision(last + BUMP));
    let again = restore(&file, &target).unwrap_err();
    assert!(again.to_string().contains("is not empty"), "{again}");
    let copied = open(&target);
    let range = copied.range("/", "", 100, None).await.unwrap();
    assert_eq!(range.revision, Revision(last + BUMP));
    // Revision-consistent: as many objects as revisions, all from before the backup's.
    assert_eq!(range.entries.len() as u64 + 1, last);
    assert!(range.entries.iter().all(|entry| entry.mod_revision.0 <= last));
    assert!(matches!(
        copied.watch("/", Revision(last)).await,
        Err(Error::Compacted { .. })
    ));
    let put = copied.put("/k/new", bytes("1"), Expect::Absent, None).await.unwrap();
    assert_eq!(put, Revision(last + BUMP + 1));
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_nothing_is_made() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    for i in 0..40 {
        store
            .put(&format!("/k/{i}"), bytes(&"v".repeat(i * 40)), Expect::Absent, None)
            .await
            .unwrap();
    }
    let file = saved(&mut store.backup().await.unwrap(), copy.path());
    let good = std::fs::read(&file).unwrap();
    let target = copy.path().join("new");
    for cut in [0, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&file, &good[..cut]).unwrap();
        let error = restore(&file, &target).unwrap_err().to_string();
        assert!(error.contains("backup.db") && !target.exists(), "{error}");
    }
    for (at, bit) in (0..good.len()).step_by(431).zip((0..8).cycle()) {
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        std::fs::write(&file, &bad).unwrap();
        match restore(&file, &target) {
            Err(error) => assert!(error.to_string().contains("backup.db") && !target.exists(), "{error}"),
            // What SQLite does not use says nothing.
            Ok(_) => {
                let copied = open(&target);
                let range = copied.range("/k/", "", 100, None).await.unwrap();
                assert!(range.entries.iter().all(|e| e.value.iter().all(|byte| *byte == b'v')));
                assert_eq!(range.entries.len(), 40);
                copied.close().await;
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn close_ends_watches() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut watch = store.watch("/", Revision(1)).await.unwrap();
    store.close().await;
    assert!(matches!(watch.next().await, Err(Error::Unavailable(_))));
    assert!(store.watch("/", Revision(1)).await.unwrap().next().await.is_err());
}

impl Embedded {
    async fn put_owned(&self, key: String) -> Revision {
        self.put(&key, bytes("1"), Expect::Absent, None).await.unwrap()
    }
}

#[tokio::test]
async fn the_file_shrinks_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let value = bytes(&"x".repeat(16_000));
    let keys: Vec<String> = (0..1200).map(|i| format!("/k/{i}")).collect();
    let puts = keys
        .iter()
        .map(|key| store.put(key, value.clone(), Expect::Absent, None));
    let revisions: Vec<Revision> = join_all(puts).await.into_iter().map(Result::unwrap).collect();
    let full = store.size();
    assert!(full > 16 << 20);
    let deletes = keys
        .iter()
        .zip(revisions)
        .map(|(key, revision)| store.delete(key, Expect::Unchanged(revision)));
    join_all(deletes).await;
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let begun = std::time::Instant::now();
    let table = || dir.path().join("store.db").metadata().unwrap().len();
    // What is kept for reuse, and a bit.
    while table() > 10 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{} of {full}", table());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.put("/k/new", bytes("1"), Expect::Absent, None).await.unwrap();
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.range("/", "", 9, None).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn damage_under_a_running_store_is_named_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for i in 0..40 {
        let value = format!("value {i:02} {}", "x".repeat(6_000));
        store
            .put(&format!("/k/{i:02}"), bytes(&value), Expect::Absent, None)
            .await
            .unwrap();
    }
    store.close().await;
    drop(store);
    let store = open(dir.path());
    let path = dir.path().join("store.db");
    let mut file = std::fs::read(&path).unwrap();
    let at = file.windows(8).position(|window| window == b"value 17").unwrap();
    file[at + 20] ^= 4;
    std::fs::write(&path, file).unwrap();
    let error = store.get("/k/17").await.unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt(text) if text.contains("store.db") && text.contains("/k/17")),
        "{error}"
    );
    let mut watch = store.watch("/", Revision(1)).await.unwrap();
    assert!(matches!(watch.next().await, Err(Error::Corrupt(_))));
    assert!(store.get("/k/16").await.unwrap().0.is_some());
    assert!(matches!(store.backup().await, Err(Error::Corrupt(_))));
}
