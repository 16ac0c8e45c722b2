//! What every [`Store`] must do. `suite!(name, make)` runs all of it against the stores that `make` makes.
//!
//! - here: the promises of the trait, one test each. - [`model`]: random histories against a model.
//! - [`watching`]: histories of watches under concurrent writes.

pub mod model;
pub mod watching;

use crate::store::{Batch, Entry, Error, Expect, Result, Revision, Store, Watch};
use crate::testing::{HandClock, bytes};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// A store under test and what the tests need to steer it.
pub struct Bench {
    pub store: Arc<dyn Store>,
    pub clock: Arc<HandClock>,
    /// Lets the store look at its clock.
    pub expire: Box<dyn Fn() -> BoxFuture<'static, ()>>,
    /// Deleted after the test.
    pub _dir: Option<tempfile::TempDir>,
}

macro_rules! suite {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;
            $crate::suite::suite!(@each $make, [
                writes_are_numbered_and_checked
                ranges_are_ordered_and_limited
                the_past_can_be_read_until_it_is_compacted
                watches_deliver_the_past_and_then_the_present
                compacted_revisions_cannot_be_watched
                values_expire_by_a_delete
                one_of_many_writers_wins
            ]);

            #[test]
            fn random_histories_match_the_model() {
                $crate::suite::model::check($make);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn watches_are_complete_under_load() {
                $crate::suite::watching::store_watches($make()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn the_cache_is_complete_under_load() {
                $crate::suite::watching::cache_watches($make()).await;
            }
        }
    };
    (@each $make:expr, [$($test:ident)*]) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::suite::$test($make()).await;
        })*
    };
}
pub(crate) use suite;

const NEVER: Option<Duration> = None;

pub fn revisions(batch: &Batch) -> Vec<u64> {
    batch.changes.iter().map(|change| change.revision.0).collect()
}

/// What a watch from `after` delivers until it has reached `to`.
pub async fn until(watch: &mut Box<dyn Watch>, after: u64, to: u64) -> Batch {
    let mut all = Batch {
        changes: Vec::new(),
        revision: Revision(after),
    };
    while all.revision.0 < to {
        let batch = match watch.ready().unwrap() {
            Some(batch) => batch,
            None => watch.next().await.unwrap(),
        };
        assert!(batch.revision > all.revision || !batch.changes.is_empty());
        assert!(
            batch
                .changes
                .iter()
                .all(|change| change.revision > all.revision && change.revision <= batch.revision)
        );
        all.changes.extend(batch.changes);
        all.revision = batch.revision;
    }
    all
}

fn conflict(result: Result<Revision>) -> Option<Entry> {
    match result {
        Err(Error::Conflict { current }) => current,
        other => panic!("no conflict but {other:?}"),
    }
}

pub async fn writes_are_numbered_and_checked(bench: Bench) {
    let store = &bench.store;
    assert_eq!(store.revision().await.unwrap(), Revision(1));
    assert_eq!(store.get("/a/x").await.unwrap(), (None, Revision(1)));
    assert_eq!(
        store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap(),
        Revision(2)
    );
    let first = Entry {
        key: "/a/x".into(),
        value: bytes("1"),
        create_revision: Revision(2),
        mod_revision: Revision(2),
    };
    assert_eq!(store.get("/a/x").await.unwrap(), (Some(first.clone()), Revision(2)));
    assert_eq!(
        conflict(store.put("/a/x", bytes("2"), Expect::Absent, NEVER).await),
        Some(first.clone())
    );
    assert_eq!(
        conflict(
            store
                .put("/a/x", bytes("2"), Expect::Unchanged(Revision(1)), NEVER)
                .await
        ),
        Some(first.clone())
    );
    assert_eq!(
        conflict(
            store
                .put("/a/y", bytes("2"), Expect::Unchanged(Revision(2)), NEVER)
                .await
        ),
        None
    );
    assert_eq!(conflict(store.delete("/a/x", Expect::Absent).await), Some(first));
    assert_eq!(conflict(store.delete("/a/y", Expect::Absent).await), None);
    assert_eq!(
        store
            .put("/a/x", bytes("2"), Expect::Unchanged(Revision(2)), NEVER)
            .await
            .unwrap(),
        Revision(3)
    );
    let (entry, revision) = store.get("/a/x").await.unwrap();
    let entry = entry.unwrap();
    assert_eq!(
        (entry.create_revision, entry.mod_revision, revision),
        (Revision(2), Revision(3), Revision(3))
    );
    assert_eq!(
        conflict(store.delete("/a/x", Expect::Unchanged(Revision(2))).await)
            .unwrap()
            .value,
        bytes("2")
    );
    assert_eq!(
        store.delete("/a/x", Expect::Unchanged(Revision(3))).await.unwrap(),
        Revision(4)
    );
    assert_eq!(
        conflict(store.delete("/a/x", Expect::Unchanged(Revision(3))).await),
        None
    );
    assert_eq!(store.get("/a/x").await.unwrap(), (None, Revision(4)));
    assert_eq!(
        store.put("/a/x", bytes(""), Expect::Absent, NEVER).await.unwrap(),
        Revision(5)
    );
    let (entry, _) = store.get("/a/x").await.unwrap();
    assert_eq!(entry.unwrap().create_revision, Revision(5), "a new life");
    store.health().await.unwrap();
}

pub async fn ranges_are_ordered_and_limited(bench: Bench) {
    let store = &bench.store;
    for key in ["/a/z", "/a/b/2", "/b/x", "/a/b/1", "/ab", "/a/b"] {
        store.put(key, bytes(key), Expect::Absent, NEVER).await.unwrap();
    }
    store.delete("/a/z", Expect::Unchanged(Revision(2))).await.unwrap();
    let keys = async |prefix: &str, start: &str, limit| {
        let range = store.range(prefix, start, limit, None).await.unwrap();
        assert_eq!(range.revision, Revision(8));
        let keys: Vec<String> = range.entries.iter().map(|entry| entry.key.to_string()).collect();
        (keys.join(" "), range.more)
    };
    assert_eq!(keys("/a/", "", 10).await, ("/a/b /a/b/1 /a/b/2".into(), false));
    assert_eq!(keys("/a/", "", 3).await, ("/a/b /a/b/1 /a/b/2".into(), false));
    assert_eq!(keys("/a/", "", 2).await, ("/a/b /a/b/1".into(), true));
    assert_eq!(keys("/a/", "/a/b\0", 1).await, ("/a/b/1".into(), true));
    assert_eq!(keys("/a/b/", "/a/b/2", 9).await, ("/a/b/2".into(), false));
    assert_eq!(keys("", "", 9).await, ("/a/b /a/b/1 /a/b/2 /ab /b/x".into(), false));
    assert_eq!(keys("/c/", "", 9).await, (String::new(), false));
}

pub async fn the_past_can_be_read_until_it_is_compacted(bench: Bench) {
    let store = &bench.store;
    store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store
        .put("/a/x", bytes("2"), Expect::Unchanged(Revision(2)), NEVER)
        .await
        .unwrap();
    store.delete("/a/x", Expect::Unchanged(Revision(3))).await.unwrap();
    store.put("/a/y", bytes("3"), Expect::Absent, NEVER).await.unwrap();
    store.put("/a/x", bytes("4"), Expect::Absent, NEVER).await.unwrap();
    let at = async |revision| {
        let range = store.range("/a/", "", 9, Some(Revision(revision))).await?;
        assert_eq!(range.revision, Revision(revision));
        let shown = range
            .entries
            .iter()
            .map(|e| format!("{}={}", &e.key[3..], String::from_utf8_lossy(&e.value)));
        Ok::<_, Error>(shown.collect::<Vec<_>>().join(" "))
    };
    let all = ["", "x=1", "x=2", "", "y=3", "x=4 y=3"];
    for (revision, expected) in (1..).zip(all) {
        assert_eq!(at(revision).await.as_deref(), Ok(expected));
    }
    assert_eq!(at(7).await, Err(Error::Future { current: Revision(6) }));
    assert_eq!(
        store.compact(Revision(7)).await,
        Err(Error::Future { current: Revision(6) })
    );
    for compacted in [3, 4, 6] {
        store.compact(Revision(compacted)).await.unwrap();
        store.compact(Revision(2)).await.unwrap();
        for (revision, expected) in (1..).zip(all) {
            let expected = match revision < compacted {
                true => Err(Error::Compacted {
                    oldest: Revision(compacted),
                }),
                false => Ok(expected.to_owned()),
            };
            assert_eq!(at(revision).await, expected);
        }
    }
    assert_eq!(store.revision().await.unwrap(), Revision(6));
}

pub async fn watches_deliver_the_past_and_then_the_present(bench: Bench) {
    let store = &bench.store;
    let mut early = store.watch("/a/", Revision(1)).await.unwrap();
    store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store.put("/b/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store.put("/ab", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store
        .put("/a/x", bytes("2"), Expect::Unchanged(Revision(2)), NEVER)
        .await
        .unwrap();
    let mut late = store.watch("/a/", Revision(2)).await.unwrap();
    let mut odd = store.watch("/a", Revision(1)).await.unwrap();
    let mut now = store.watch("", Revision(5)).await.unwrap();
    store.delete("/a/x", Expect::Unchanged(Revision(5))).await.unwrap();
    let all = until(&mut early, 1, 6).await;
    assert_eq!(revisions(&all), [2, 5, 6]);
    assert_eq!(all.changes[0].value, Some(bytes("1")));
    assert_eq!((&*all.changes[2].key, &all.changes[2].value), ("/a/x", &None));
    let previous = all.changes[2].previous.as_ref().unwrap();
    assert_eq!((&previous.value, previous.mod_revision), (&bytes("2"), Revision(5)));
    let late = until(&mut late, 2, 6).await;
    assert_eq!(revisions(&late), [5, 6]);
    assert_eq!(late.changes[1].previous, all.changes[2].previous);
    assert_eq!(revisions(&until(&mut odd, 1, 6).await), [2, 4, 5, 6]);
    assert_eq!(revisions(&until(&mut now, 5, 6).await), [6]);
}

pub async fn compacted_revisions_cannot_be_watched(bench: Bench) {
    let store = &bench.store;
    store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store
        .put("/a/x", bytes("2"), Expect::Unchanged(Revision(2)), NEVER)
        .await
        .unwrap();
    store
        .put("/a/x", bytes("3"), Expect::Unchanged(Revision(3)), NEVER)
        .await
        .unwrap();
    store.compact(Revision(3)).await.unwrap();
    let refused = match store.watch("/a/", Revision(2)).await {
        Ok(mut watch) => watch.next().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(refused, Err(Error::Compacted { oldest: Revision(3) }));
    let mut watch = store.watch("/a/", Revision(3)).await.unwrap();
    assert_eq!(revisions(&until(&mut watch, 3, 4).await), [4]);
}

pub async fn values_expire_by_a_delete(bench: Bench) {
    let store = &bench.store;
    let minute = Some(Duration::from_secs(60));
    store.put("/a/x", bytes("1"), Expect::Absent, minute).await.unwrap();
    store.put("/a/y", bytes("1"), Expect::Absent, minute).await.unwrap();
    store
        .put("/a/y", bytes("2"), Expect::Unchanged(Revision(3)), NEVER)
        .await
        .unwrap();
    let mut watch = store.watch("/a/", Revision(4)).await.unwrap();
    bench.clock.advance(59);
    (bench.expire)().await;
    assert!(store.get("/a/x").await.unwrap().0.is_some(), "before its time");
    bench.clock.advance(1);
    (bench.expire)().await;
    assert_eq!(store.get("/a/x").await.unwrap(), (None, Revision(5)));
    let batch = until(&mut watch, 4, 5).await;
    assert_eq!((&*batch.changes[0].key, &batch.changes[0].value), ("/a/x", &None));
    bench.clock.advance(600);
    (bench.expire)().await;
    assert!(store.get("/a/y").await.unwrap().0.is_some());
    assert_eq!(store.revision().await.unwrap(), Revision(5));
}

pub async fn one_of_many_writers_wins(bench: Bench) {
    store_put(&bench.store, "/n", "0", Expect::Absent).await.unwrap();
    let writers = (0..8).map(|_| async {
        let mut lost = 0;
        for _ in 0..6 {
            loop {
                let (entry, _) = bench.store.get("/n").await.unwrap();
                let entry = entry.unwrap();
                let next = String::from_utf8_lossy(&entry.value).parse::<u32>().unwrap() + 1;
                match store_put(
                    &bench.store,
                    "/n",
                    &next.to_string(),
                    Expect::Unchanged(entry.mod_revision),
                )
                .await
                {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => lost += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        lost
    });
    futures_util::future::join_all(writers).await;
    let (entry, revision) = bench.store.get("/n").await.unwrap();
    assert_eq!((entry.unwrap().value, revision), (bytes("48"), Revision(50)));
}

async fn store_put(store: &Arc<dyn Store>, key: &str, value: &str, expect: Expect) -> Result<Revision> {
    store.put(key, bytes(value), expect, NEVER).await
}
