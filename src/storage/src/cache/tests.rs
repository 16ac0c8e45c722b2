//! The cache over a memory store, as its users see it.

use crate::cache::{Cache, CacheConfig, CacheEvent, Snapshot, WatchScope, Watcher};
use crate::memory::Memory;
use crate::store::{Error, Expect, Revision, Store};
use crate::testing::{AtRevision, HandClock, bytes};
use std::sync::Arc;

mod waves;

fn start(store: &Memory, ring_bytes: usize) -> Cache {
    let config = CacheConfig {
        prefix: "/things/".into(),
        decode: Arc::new(AtRevision),
        ring_bytes,
    };
    Cache::start(Arc::new(store.clone()), config)
}

fn memory() -> Memory {
    Memory::new(HandClock::at(1_000))
}

fn shown(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .range("", "")
        .map(|object| format!("{}={}", object.key, String::from_utf8_lossy(&object.json.text())))
        .collect()
}

async fn seen(watcher: &mut Watcher) -> String {
    match watcher.next().await.unwrap() {
        CacheEvent::Put { object, previous } => {
            let from = previous.map_or(String::new(), |previous| format!(" was {}", previous.revision.0));
            format!(
                "put {} {}{from}",
                object.key,
                String::from_utf8_lossy(&object.json.text())
            )
        }
        CacheEvent::Delete { object, previous } => {
            format!(
                "delete {} {} was {}",
                object.key,
                String::from_utf8_lossy(&object.json.text()),
                previous.revision.0
            )
        }
        CacheEvent::Progress(revision) => format!("progress {}", revision.0),
    }
}

#[tokio::test(start_paused = true)]
async fn reads_follow_writes() {
    let store = memory();
    store
        .put("/things/a/old", bytes("0"), Expect::Absent, None)
        .await
        .unwrap();
    let cache = start(&store, 1 << 20);
    assert_eq!(cache.latest().revision, Revision(0));
    cache.ready().await.unwrap();
    let created = cache.create("a/x", bytes("1"), None).await.unwrap();
    assert_eq!(&created.json.text()[..], b"1@3");
    assert!(Arc::ptr_eq(&created, cache.latest().get("a/x").unwrap()));
    let updated = cache.update("a/x", bytes("2"), created.revision, None).await.unwrap();
    cache.create("b/y", bytes("3"), None).await.unwrap();
    let deleted = cache.delete("a/x", updated.revision).await.unwrap();
    assert_eq!((&deleted.json.text()[..], deleted.revision), (&b"2@6"[..], Revision(6)));
    assert_eq!(shown(&cache.latest()), ["a/old=0@2", "b/y=3@5"]);
    store.put("/others/z", bytes("4"), Expect::Absent, None).await.unwrap();
    store
        .put("/things/c/q", bytes("5"), Expect::Absent, None)
        .await
        .unwrap();
    let fresh = cache.fresh().await.unwrap();
    assert_eq!(fresh.revision, Revision(8));
    assert_eq!((fresh.len(), fresh.count("b/"), fresh.count("")), (3, 1, 3));
    let from: Vec<_> = fresh.range("", "b/y").map(|object| object.name().to_owned()).collect();
    assert_eq!(from, ["y", "q"]);
}

#[tokio::test(start_paused = true)]
async fn conflicts_tell_what_is_there() {
    let store = memory();
    let cache = start(&store, 1 << 20);
    let created = cache.create("a/x", bytes("1"), None).await.unwrap();
    let Err(Error::Conflict { current: Some(current) }) = cache.create("a/x", bytes("2"), None).await else {
        panic!("created twice")
    };
    assert_eq!(
        (&current.value[..], current.mod_revision),
        (&b"1"[..], created.revision)
    );
    let stale = cache.update("a/x", bytes("2"), Revision(1), None).await;
    assert_eq!(stale.unwrap_err(), Error::Conflict { current: Some(current) });
    assert_eq!(
        cache.delete("a/none", Revision(2)).await.unwrap_err(),
        Error::Conflict { current: None }
    );
}

#[tokio::test(start_paused = true)]
async fn the_past_is_undone_from_the_ring_or_read_from_the_store() {
    for ring_bytes in [1 << 20, 600] {
        let store = memory();
        let cache = start(&store, ring_bytes);
        let a = cache.create("a", bytes("1"), None).await.unwrap();
        let b = cache.create("b", bytes("2"), None).await.unwrap();
        let a2 = cache.update("a", bytes("3"), a.revision, None).await.unwrap();
        cache.delete("b", b.revision).await.unwrap();
        cache.create("c", bytes("4"), None).await.unwrap();
        let at = async |revision| shown(&cache.exact(Revision(revision)).await.unwrap());
        assert_eq!(at(4).await, ["a=3@4", "b=2@3"]);
        assert_eq!(at(1).await, [""; 0]);
        assert_eq!(at(3).await, ["a=1@2", "b=2@3"]);
        assert_eq!(at(5).await, ["a=3@4"]);
        assert_eq!(at(6).await, ["a=3@4", "c=4@6"]);
        assert_eq!(
            cache.exact(Revision(9)).await.unwrap_err(),
            Error::Future { current: Revision(6) }
        );
        store.compact(Revision(5)).await.unwrap();
        if ring_bytes == 600 {
            assert_eq!(
                cache.exact(Revision(2)).await.unwrap_err(),
                Error::Compacted { oldest: Revision(5) }
            );
        }
        assert_eq!(a2.revision, Revision(4));
    }
}

#[tokio::test(start_paused = true)]
async fn watchers_see_their_scope_in_order_and_progress_when_idle() {
    let store = memory();
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    let mut all = cache.watch(None, WatchScope::All).unwrap();
    let mut namespace = cache.watch(None, WatchScope::Namespace("b".into())).unwrap();
    let x = cache.create("a/x", bytes("1"), None).await.unwrap();
    store
        .put("/things/b/y", bytes("2"), Expect::Absent, None)
        .await
        .unwrap();
    cache.delete("a/x", x.revision).await.unwrap();
    let mut key = cache.watch(Some(Revision(1)), WatchScope::Key("a/x".into())).unwrap();
    assert_eq!(seen(&mut all).await, "put a/x 1@2");
    assert_eq!(seen(&mut all).await, "put b/y 2@3");
    assert_eq!(seen(&mut all).await, "delete a/x 1@4 was 2");
    assert_eq!(seen(&mut namespace).await, "put b/y 2@3");
    assert_eq!(seen(&mut key).await, "put a/x 1@2");
    assert_eq!(seen(&mut key).await, "delete a/x 1@4 was 2");
    store.put("/others/z", bytes("4"), Expect::Absent, None).await.unwrap();
    assert_eq!(seen(&mut all).await, "progress 5");
    assert_eq!(seen(&mut all).await, "progress 5");
    assert_eq!(seen(&mut namespace).await, "progress 5");
    assert_eq!(seen(&mut key).await, "progress 5");
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_is_told_and_others_are_not_disturbed() {
    let store = memory();
    let cache = start(&store, 2_000);
    cache.ready().await.unwrap();
    let mut slow = cache.watch(None, WatchScope::All).unwrap();
    let mut quick = cache.watch(None, WatchScope::All).unwrap();
    for i in 0..50 {
        cache.create(&format!("a/{i}"), bytes("x"), None).await.unwrap();
        assert!(seen(&mut quick).await.starts_with("put"));
    }
    assert!(matches!(slow.next().await, Err(Error::Compacted { .. })));
    assert!(matches!(
        cache.watch(Some(Revision(3)), WatchScope::All),
        Err(Error::Compacted { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn unreadable_objects_are_left_out_and_reported() {
    let store = memory();
    store
        .put("/things/bad", bytes("!"), Expect::Absent, None)
        .await
        .unwrap();
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    assert_eq!(cache.latest().len(), 0);
    assert_eq!(
        cache.health().unwrap_err(),
        Error::Corrupt("/things/bad: not an object".into())
    );
    let mut watcher = cache.watch(None, WatchScope::All).unwrap();
    cache.update("bad", bytes("good"), Revision(2), None).await.unwrap();
    cache.health().unwrap();
    assert!(matches!(
        cache.update("bad", bytes("!"), Revision(3), None).await,
        Err(Error::Corrupt(_))
    ));
    assert_eq!(seen(&mut watcher).await, "put bad good@3");
    assert!(seen(&mut watcher).await.starts_with("delete bad"));
    assert_eq!(cache.latest().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn waits_for_revisions_of_other_prefixes() {
    let store = memory();
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    let (snapshot, _) = tokio::join!(cache.at_least(Revision(2)), async {
        tokio::task::yield_now().await;
        store.put("/others/z", bytes("4"), Expect::Absent, None).await
    });
    assert_eq!(snapshot.unwrap().revision, Revision(2));
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_watches_of_quiet_objects() {
    let store = memory();
    store.put("/things/a", bytes("1"), Expect::Absent, None).await.unwrap();
    store.put("/things/b", bytes("1"), Expect::Absent, None).await.unwrap();
    store.delete("/things/b", Expect::Unchanged(Revision(3))).await.unwrap();
    for i in 0..5 {
        store
            .put(&format!("/others/{i}"), bytes("1"), Expect::Absent, None)
            .await
            .unwrap();
    }
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    let lost = cache.watch(Some(Revision(3)), WatchScope::All);
    assert_eq!(lost.unwrap_err(), Error::Compacted { oldest: Revision(4) });
    let mut watcher = cache.watch(Some(Revision(4)), WatchScope::All).unwrap();
    cache.create("c", bytes("1"), None).await.unwrap();
    assert_eq!(seen(&mut watcher).await, "put c 1@10");
    assert_eq!(shown(&cache.exact(Revision(5)).await.unwrap()), ["a=1@2"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_resumes_from_history() {
    let store = memory();
    let put = async |key: &str, value, expect| store.put(key, bytes(value), expect, None).await.unwrap();
    put("/things/a", "1", Expect::Absent).await;
    put("/things/b", "2", Expect::Absent).await;
    put("/things/a", "3", Expect::Unchanged(Revision(2))).await;
    put("/others/z", "0", Expect::Absent).await;
    store.delete("/things/b", Expect::Unchanged(Revision(3))).await.unwrap();
    put("/things/b", "!", Expect::Absent).await;
    put("/things/b", "4", Expect::Unchanged(Revision(7))).await;
    let events = [
        "put a 1@2",
        "put b 2@3",
        "put a 3@4 was 2",
        "delete b 2@6 was 3",
        "put b 4@8",
    ];
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    let (mut all, mut key) = tokio::try_join!(
        cache.watch_from(Revision(1), WatchScope::All),
        cache.watch_from(Revision(2), WatchScope::Key("b".into())),
    )
    .unwrap();
    for event in events {
        assert_eq!(seen(&mut all).await, event);
    }
    for event in [events[1], events[3], events[4]] {
        assert_eq!(seen(&mut key).await, event);
    }
    cache.create("c", bytes("5"), None).await.unwrap();
    assert_eq!(seen(&mut all).await, "put c 5@9");
    assert_eq!(shown(&cache.exact(Revision(3)).await.unwrap()), ["a=1@2", "b=2@3"]);

    // Two events fit.
    let small = start(&store, 700);
    small.ready().await.unwrap();
    let lost = small.watch_from(Revision(3), WatchScope::All).await.unwrap_err();
    assert_eq!(lost, Error::Compacted { oldest: Revision(7) });
    let mut all = small.watch_from(Revision(7), WatchScope::All).await.unwrap();
    assert_eq!(seen(&mut all).await, "put b 4@8");
    assert_eq!(seen(&mut all).await, "put c 5@9");

    store.compact(Revision(3)).await.unwrap();
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    let lost = cache.watch_from(Revision(2), WatchScope::All).await.unwrap_err();
    assert_eq!(lost, Error::Compacted { oldest: Revision(3) });
    let mut all = cache.watch_from(Revision(3), WatchScope::All).await.unwrap();
    assert_eq!(seen(&mut all).await, events[2]);
}

#[tokio::test(start_paused = true)]
async fn a_retired_cache_ends_its_watches_behind_what_happened() {
    let store = memory();
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    let mut watcher = cache.watch(None, WatchScope::Namespace("a".into())).unwrap();
    store
        .put("/things/a/x", bytes("1"), Expect::Absent, None)
        .await
        .unwrap();
    let waiting = async {
        assert_eq!(seen(&mut watcher).await, "put a/x 1@2");
        watcher.next().await.unwrap_err()
    };
    let (end, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        cache.retire();
    });
    assert!(matches!(end, Error::Unavailable(_)));
    assert!(cache.create("a/y", bytes("2"), None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_clone() {
    let store = memory();
    let cache = start(&store, 1 << 20);
    cache.ready().await.unwrap();
    let weak = Arc::downgrade(&cache.0);
    drop(cache);
    assert!(weak.upgrade().is_none());
    store.put("/things/a", bytes("4"), Expect::Absent, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_given_up_for_another() {
    use crate::suite::faulty::{Faults, Faulty};
    let store = memory();
    let faults = Faults {
        watch_stalls: 1000,
        remote: true,
        ..Faults::NONE
    };
    let faulty = Faulty::new(Arc::new(store.clone()), faults, 1);
    let config = CacheConfig {
        prefix: "/things/".into(),
        decode: Arc::new(AtRevision),
        ring_bytes: 1 << 20,
    };
    let cache = Cache::start(Arc::new(faulty.clone()), config);
    cache.ready().await.unwrap();
    let mut watcher = cache.watch(None, WatchScope::All).unwrap();
    assert_eq!(seen(&mut watcher).await, "progress 1");
    faulty.calm().await;
    // Nobody reads, but somebody watches.
    store
        .put("/things/a/x", bytes("1"), Expect::Absent, None)
        .await
        .unwrap();
    let next = async {
        loop {
            match seen(&mut watcher).await {
                progress if progress.starts_with("progress") => {}
                event => return event,
            }
        }
    };
    let next = tokio::time::timeout(std::time::Duration::from_secs(60), next).await;
    assert_eq!(next.as_deref(), Ok("put a/x 1@2"));
}

#[tokio::test(start_paused = true)]
async fn a_delete_whose_event_is_lost_is_answered_all_the_same() {
    use crate::suite::faulty::{Faults, Faulty};
    let store = memory();
    let faults = Faults {
        watch_compactions: 1000,
        remote: true,
        ..Faults::NONE
    };
    let config = CacheConfig {
        prefix: "/things/".into(),
        decode: Arc::new(AtRevision),
        ring_bytes: 1 << 20,
    };
    let cache = Cache::start(Arc::new(Faulty::new(Arc::new(store.clone()), faults, 1)), config);
    cache.ready().await.unwrap();
    let created = cache.create("a/x", bytes("1"), None).await.unwrap();
    assert_eq!(&created.json.text()[..], b"1@2");
    let updated = cache.update("a/x", bytes("2"), created.revision, None).await.unwrap();
    let deleted = cache.delete("a/x", updated.revision).await.unwrap();
    assert_eq!((&*deleted.key, deleted.revision), ("a/x", Revision(4)));
    assert!(cache.latest().is_empty());
}
