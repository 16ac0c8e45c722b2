//! What every [`Store`] must do. `suite!(name, make)` runs all of it against the stores that `make` makes, as they are
//! and behind faults.
//!
//! - here: the promises of the trait, one test each. - [`model`]: random histories against a model.
//! - [`random`]: random concurrent histories, recorded by [`clients`] and checked by `fairlead_histories`.
//! - [`watching`]: histories of watches under concurrent writes. - [`million`]: very many events.
//! - [`faulty`]: a store on a bad network; [`patient`]: a client that bears it; [`switch`]: restarts.

pub mod clients;
pub mod faulty;
pub mod million;
pub mod model;
pub mod patient;
pub mod random;
pub mod switch;
pub mod watching;

use crate::store::{Batch, Entry, Error, Expect, Result, Revision, Store, Watch};
use crate::testing::bytes;
use faulty::{Faults, Faulty};
use futures_util::future::BoxFuture;
use patient::Patient;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// A store under test, which nobody else writes to, and what the tests need to steer it. It need not be empty but for
/// the keys under `/a`, `/b`, `/c`, `/k`, `/n` and `/things`; it may stand at any revision.
pub struct Bench {
    pub store: Arc<dyn Store>,
    /// A lifetime that can be waited for.
    pub lifetime: Duration,
    /// Lets time pass, by the clock that measures lifetimes.
    pub pass: Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
    /// Ends the store and opens it again on the same data.
    pub restart: Arc<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>,
    /// Dropped after the test: directories, processes.
    pub _keep: Box<dyn Any + Send + Sync>,
}

impl Bench {
    /// The same store behind faults that a patient client need not notice.
    pub fn behind_faults(mut self) -> Bench {
        let faulty = Faulty::new(self.store, Faults::MILD, 7);
        self.store = Arc::new(Patient(Arc::new(faulty)));
        self
    }
}

/// `make` is an async function that answers a [`Bench`], or `None`, having said why, where there can be none.
macro_rules! suite {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;
            use $crate::suite::{Bench, faulty::Faults, random};

            $crate::suite::suite!(@each $make, |bench: Bench| bench);

            mod behind_faults {
                use super::*;
                $crate::suite::suite!(@each $make, Bench::behind_faults);
            }

            #[test]
            fn random_histories_match_the_model() {
                $crate::suite::model::check($make);
            }

            #[test]
            fn random_concurrent_histories_are_linearizable() {
                random::check($make, random::Through::Store, Faults::NONE, random::Time::Real, 6);
            }

            #[test]
            fn random_concurrent_histories_are_linearizable_behind_faults() {
                random::check($make, random::Through::Store, Faults::HARSH, random::Time::Real, 10);
            }

            #[test]
            fn random_concurrent_histories_are_linearizable_through_caches() {
                random::check($make, random::Through::Caches, Faults::NONE, random::Time::Real, 6);
            }

            #[test]
            fn random_concurrent_histories_are_linearizable_through_caches_behind_faults() {
                random::check($make, random::Through::Caches, Faults::HARSH, random::Time::Real, 6);
                random::check($make, random::Through::Caches, Faults::REMOTE, random::Time::Real, 8);
            }
        }
    };
    (@each $make:expr, $wrap:expr) => {
        $crate::suite::suite!(@tests $make, $wrap, "current_thread", [
            writes_are_numbered_and_checked
            ranges_are_ordered_and_limited
            the_past_can_be_read_until_it_is_compacted
            watches_deliver_the_past_and_then_the_present
            compacted_revisions_cannot_be_watched
            values_expire_by_a_delete
            one_of_many_writers_wins
            a_restart_changes_nothing
        ]);
        $crate::suite::suite!(@tests $make, $wrap, "multi_thread", [
            watches_are_complete_under_load
            the_cache_is_complete_under_load
        ]);
    };
    (@tests $make:expr, $wrap:expr, $flavor:literal, [$($test:ident)*]) => {
        $(#[tokio::test(flavor = $flavor)]
        async fn $test() {
            if let Some(bench) = $make().await {
                $crate::suite::$test($wrap(bench)).await;
            }
        })*
    };
}
pub(crate) use suite;
pub use watching::{the_cache_is_complete_under_load, watches_are_complete_under_load};

const NEVER: Option<Duration> = None;

/// Numbers revisions as if the store had stood at revision 1 when the test began.
#[derive(Clone, Copy)]
pub struct Numbers {
    before: u64,
}

impl Numbers {
    pub async fn of(store: &Arc<dyn Store>) -> Numbers {
        Numbers {
            before: store.revision().await.unwrap().0 - 1,
        }
    }

    pub fn at(self, number: u64) -> Revision {
        Revision(number + self.before)
    }

    fn in_batch(self, batch: &Batch) -> Vec<u64> {
        batch
            .changes
            .iter()
            .map(|change| change.revision.0 - self.before)
            .collect()
    }
}

/// What a watch from `after` delivers until it has reached `to`.
pub async fn until(watch: &mut Box<dyn Watch>, after: Revision, to: Revision) -> Batch {
    let mut all = Batch {
        changes: Vec::new(),
        revision: after,
    };
    while all.revision < to {
        watch.hurry();
        let batch = match watch.ready().unwrap() {
            Some(batch) => batch,
            None => match tokio::time::timeout(Duration::from_millis(100), watch.next()).await {
                Ok(batch) => batch.unwrap(),
                // Asked again for a batch without changes.
                Err(_) => continue,
            },
        };
        assert!(batch.revision >= all.revision);
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
    let numbers = Numbers::of(store).await;
    let r = |number| numbers.at(number);
    assert_eq!(store.revision().await.unwrap(), r(1));
    assert_eq!(store.get("/a/x").await.unwrap(), (None, r(1)));
    assert_eq!(
        store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap(),
        r(2)
    );
    let first = Entry {
        key: "/a/x".into(),
        value: bytes("1"),
        create_revision: r(2),
        mod_revision: r(2),
    };
    assert_eq!(store.get("/a/x").await.unwrap(), (Some(first.clone()), r(2)));
    assert_eq!(
        conflict(store.put("/a/x", bytes("2"), Expect::Absent, NEVER).await),
        Some(first.clone())
    );
    assert_eq!(
        conflict(store.put("/a/x", bytes("2"), Expect::Unchanged(r(1)), NEVER).await),
        Some(first.clone())
    );
    assert_eq!(
        conflict(store.put("/a/y", bytes("2"), Expect::Unchanged(r(2)), NEVER).await),
        None
    );
    assert_eq!(conflict(store.delete("/a/x", Expect::Absent).await), Some(first));
    assert_eq!(conflict(store.delete("/a/y", Expect::Absent).await), None);
    assert_eq!(
        store
            .put("/a/x", bytes("2"), Expect::Unchanged(r(2)), NEVER)
            .await
            .unwrap(),
        r(3)
    );
    let (entry, revision) = store.get("/a/x").await.unwrap();
    let entry = entry.unwrap();
    assert_eq!(
        (entry.create_revision, entry.mod_revision, revision),
        (r(2), r(3), r(3))
    );
    assert_eq!(
        conflict(store.delete("/a/x", Expect::Unchanged(r(2))).await)
            .unwrap()
            .value,
        bytes("2")
    );
    assert_eq!(store.delete("/a/x", Expect::Unchanged(r(3))).await.unwrap(), r(4));
    assert_eq!(conflict(store.delete("/a/x", Expect::Unchanged(r(3))).await), None);
    assert_eq!(store.get("/a/x").await.unwrap(), (None, r(4)));
    assert_eq!(store.put("/a/x", bytes(""), Expect::Absent, NEVER).await.unwrap(), r(5));
    let (entry, _) = store.get("/a/x").await.unwrap();
    assert_eq!(entry.unwrap().create_revision, r(5), "a new life");
    store.health().await.unwrap();
}

pub async fn ranges_are_ordered_and_limited(bench: Bench) {
    let store = &bench.store;
    let numbers = Numbers::of(store).await;
    let r = |number| numbers.at(number);
    for key in ["/a/z", "/a/b/2", "/b/x", "/a/b/1", "/ab", "/a/b"] {
        store.put(key, bytes(key), Expect::Absent, NEVER).await.unwrap();
    }
    store.delete("/a/z", Expect::Unchanged(r(2))).await.unwrap();
    let keys = async |prefix: &str, start: &str, limit| {
        let range = store.range(prefix, start, limit, None).await.unwrap();
        assert_eq!(range.revision, r(8));
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
    let numbers = Numbers::of(store).await;
    let r = |number| numbers.at(number);
    store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store
        .put("/a/x", bytes("2"), Expect::Unchanged(r(2)), NEVER)
        .await
        .unwrap();
    store.delete("/a/x", Expect::Unchanged(r(3))).await.unwrap();
    store.put("/a/y", bytes("3"), Expect::Absent, NEVER).await.unwrap();
    store.put("/a/x", bytes("4"), Expect::Absent, NEVER).await.unwrap();
    let at = async |revision| {
        let range = store.range("/a/", "", 9, Some(r(revision))).await?;
        assert_eq!(range.revision, r(revision));
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
    assert_eq!(at(7).await, Err(Error::Future { current: r(6) }));
    assert_eq!(store.compact(r(7)).await, Err(Error::Future { current: r(6) }));
    for compacted in [3, 4, 6] {
        store.compact(r(compacted)).await.unwrap();
        store.compact(r(2)).await.unwrap();
        for (revision, expected) in (1..).zip(all) {
            match at(revision).await {
                Err(Error::Compacted { oldest }) => {
                    assert!(revision < compacted && r(revision) < oldest && oldest <= r(compacted));
                }
                answer => assert_eq!(answer.as_deref(), Ok(expected)),
            }
        }
    }
    assert_eq!(store.revision().await.unwrap(), r(6));
}

pub async fn watches_deliver_the_past_and_then_the_present(bench: Bench) {
    let store = &bench.store;
    let numbers = Numbers::of(store).await;
    let r = |number| numbers.at(number);
    let mut early = store.watch("/a/", r(1)).await.unwrap();
    store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store.put("/b/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store.put("/ab", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store
        .put("/a/x", bytes("2"), Expect::Unchanged(r(2)), NEVER)
        .await
        .unwrap();
    let mut late = store.watch("/a/", r(2)).await.unwrap();
    let mut odd = store.watch("/a", r(1)).await.unwrap();
    let mut now = store.watch("", r(5)).await.unwrap();
    store.delete("/a/x", Expect::Unchanged(r(5))).await.unwrap();
    let all = until(&mut early, r(1), r(6)).await;
    assert_eq!(numbers.in_batch(&all), [2, 5, 6]);
    assert_eq!(all.changes[0].value, Some(bytes("1")));
    assert_eq!((&*all.changes[2].key, &all.changes[2].value), ("/a/x", &None));
    let previous = all.changes[2].previous.as_ref().unwrap();
    assert_eq!((&previous.value, previous.mod_revision), (&bytes("2"), r(5)));
    let late = until(&mut late, r(2), r(6)).await;
    assert_eq!(numbers.in_batch(&late), [5, 6]);
    assert_eq!(late.changes[1].previous, all.changes[2].previous);
    assert_eq!(numbers.in_batch(&until(&mut odd, r(1), r(6)).await), [2, 4, 5, 6]);
    assert_eq!(numbers.in_batch(&until(&mut now, r(5), r(6)).await), [6]);
}

pub async fn compacted_revisions_cannot_be_watched(bench: Bench) {
    let store = &bench.store;
    let numbers = Numbers::of(store).await;
    let r = |number| numbers.at(number);
    store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store
        .put("/a/x", bytes("2"), Expect::Unchanged(r(2)), NEVER)
        .await
        .unwrap();
    store
        .put("/a/x", bytes("3"), Expect::Unchanged(r(3)), NEVER)
        .await
        .unwrap();
    store.compact(r(3)).await.unwrap();
    let refused = match store.watch("/a/", r(2)).await {
        Ok(mut watch) => watch.next().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(Error::Compacted { oldest }) if oldest == r(3)));
    let mut watch = store.watch("/a/", r(3)).await.unwrap();
    assert_eq!(numbers.in_batch(&until(&mut watch, r(3), r(4)).await), [4]);
}

pub async fn values_expire_by_a_delete(bench: Bench) {
    let store = &bench.store;
    let numbers = Numbers::of(store).await;
    let r = |number| numbers.at(number);
    let lifetime = Some(bench.lifetime);
    let second = Duration::from_secs(1);
    store.put("/a/x", bytes("1"), Expect::Absent, lifetime).await.unwrap();
    store.put("/a/y", bytes("1"), Expect::Absent, lifetime).await.unwrap();
    store
        .put("/a/y", bytes("2"), Expect::Unchanged(r(3)), NEVER)
        .await
        .unwrap();
    let mut watch = store.watch("/a/", r(4)).await.unwrap();
    (bench.pass)(bench.lifetime - second).await;
    assert!(store.get("/a/x").await.unwrap().0.is_some(), "before its time");
    (bench.pass)(second).await;
    // Lifetimes may be longer by a few seconds where another machine's clock measures them.
    for _ in 0..100 {
        if store.get("/a/x").await.unwrap().0.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(store.get("/a/x").await.unwrap(), (None, r(5)));
    let batch = until(&mut watch, r(4), r(5)).await;
    assert_eq!((&*batch.changes[0].key, &batch.changes[0].value), ("/a/x", &None));
    (bench.pass)(bench.lifetime * 2).await;
    assert!(store.get("/a/y").await.unwrap().0.is_some());
    assert_eq!(store.revision().await.unwrap(), r(5));
}

pub async fn a_restart_changes_nothing(bench: Bench) {
    let store = &bench.store;
    let numbers = Numbers::of(store).await;
    let r = |number| numbers.at(number);
    store.put("/a/x", bytes("1"), Expect::Absent, NEVER).await.unwrap();
    store.put("/a/y", bytes("2"), Expect::Absent, NEVER).await.unwrap();
    store
        .put("/a/x", bytes("3"), Expect::Unchanged(r(2)), NEVER)
        .await
        .unwrap();
    store.delete("/a/y", Expect::Unchanged(r(3))).await.unwrap();
    let again = (bench.restart)().await;
    assert_eq!(again.revision().await.unwrap(), r(5));
    let (entry, revision) = again.get("/a/x").await.unwrap();
    let entry = entry.unwrap();
    assert_eq!(
        (&entry.value, entry.create_revision, entry.mod_revision, revision),
        (&bytes("3"), r(2), r(4), r(5))
    );
    let past = again.range("/a/", "", 9, Some(r(3))).await.unwrap();
    assert_eq!(
        past.entries.iter().map(|e| &*e.key).collect::<Vec<_>>(),
        ["/a/x", "/a/y"]
    );
    let mut watch = again.watch("/a/", r(2)).await.unwrap();
    assert_eq!(numbers.in_batch(&until(&mut watch, r(2), r(5)).await), [3, 4, 5]);
    assert_eq!(
        again.put("/a/y", bytes("4"), Expect::Absent, NEVER).await.unwrap(),
        r(6)
    );
}

pub async fn one_of_many_writers_wins(bench: Bench) {
    let numbers = Numbers::of(&bench.store).await;
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
    assert_eq!((entry.unwrap().value, revision), (bytes("48"), numbers.at(50)));
}

async fn store_put(store: &Arc<dyn Store>, key: &str, value: &str, expect: Expect) -> Result<Revision> {
    store.put(key, bytes(value), expect, NEVER).await
}
