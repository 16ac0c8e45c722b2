//! Histories of watches while others write: no gap, no duplicate, no reordering, progress never ahead.

use super::Bench;
use crate::cache::{Cache, CacheConfig, CacheEvent, WatchScope, Watcher};
use crate::store::{Expect, Revision, Store};
use crate::testing::{AtRevision, bytes};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

const WRITERS: u64 = 6;
const WRITES: u64 = 40;

/// Every write that was acknowledged: by revision, the key and the value, `None` for deletes.
type Truth = BTreeMap<u64, (String, Option<String>)>;

/// Each writer owns two keys, so that it knows what they hold.
async fn write_store(store: Arc<dyn Store>, writer: u64) -> Truth {
    let mut truth = Truth::new();
    let mut held: BTreeMap<String, Revision> = BTreeMap::new();
    for i in 0..WRITES {
        let key = format!("/things/{}/{writer}-{}", writer % 3, i % 2);
        let value = format!("{writer}.{i}");
        let (revision, value) = match held.get(&key) {
            None => (store.put(&key, bytes(&value), Expect::Absent, None).await, Some(value)),
            Some(at) if i % 5 == 4 => (store.delete(&key, Expect::Unchanged(*at)).await, None),
            Some(at) => (
                store.put(&key, bytes(&value), Expect::Unchanged(*at), None).await,
                Some(value),
            ),
        };
        let revision = revision.unwrap();
        match &value {
            Some(_) => held.insert(key.clone(), revision),
            None => held.remove(&key),
        };
        assert!(truth.insert(revision.0, (key, value)).is_none());
    }
    truth
}

async fn write_all(store: &Arc<dyn Store>, base: u64) -> Truth {
    let writers =
        (0..WRITERS).map(|writer| fairlead_telemetry::task::spawn("test-writer", write_store(store.clone(), writer)));
    let truth: Truth = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(truth.len() as u64, WRITERS * WRITES, "revisions are unique");
    assert_eq!(
        truth.keys().copied().collect::<Vec<_>>(),
        (base + 1..=base + WRITERS * WRITES).collect::<Vec<_>>()
    );
    truth
}

pub async fn watches_are_complete_under_load(bench: Bench) {
    let base = bench.store.revision().await.unwrap().0;
    let last = base + WRITERS * WRITES;
    let watches = [0, 39, 119].map(|after| base + after).map(|after| {
        let store = bench.store.clone();
        fairlead_telemetry::task::spawn("test-watch", async move {
            while store.revision().await.unwrap().0 < after {
                tokio::task::yield_now().await;
            }
            let mut watch = store.watch("/things/", Revision(after)).await.unwrap();
            let mut seen = Truth::new();
            let mut reached = after;
            while reached < last {
                let batch = watch.next().await.unwrap();
                for change in batch.changes {
                    assert!(change.revision.0 > reached && change.revision <= batch.revision);
                    reached = change.revision.0;
                    let value = change.value.map(|value| String::from_utf8_lossy(&value).into_owned());
                    seen.insert(reached, (change.key.to_string(), value));
                }
                reached = reached.max(batch.revision.0);
            }
            (after, seen)
        })
    });
    let truth = write_all(&bench.store, base).await;
    for watch in watches {
        let (after, seen) = watch.await.unwrap();
        assert_eq!(
            seen,
            truth
                .range(after + 1..)
                .map(|(k, v)| (*k, v.clone()))
                .collect::<Truth>()
        );
    }
}

pub async fn the_cache_is_complete_under_load(bench: Bench) {
    let base = bench.store.revision().await.unwrap().0;
    let last = base + WRITERS * WRITES;
    let config = CacheConfig {
        prefix: "/things/".into(),
        decode: Arc::new(AtRevision),
        ring_bytes: 1 << 20,
    };
    let cache = Cache::start(bench.store.clone(), config);
    cache.ready().await.unwrap();
    let scopes = [
        WatchScope::All,
        WatchScope::Namespace("1".into()),
        WatchScope::Key("2/2-0".into()),
        WatchScope::Key("2/none".into()),
        named("", "2-0"),
        named("1", "1-1"),
        named("1", "2-0"),
    ];
    let watchers = scopes.map(|scope| {
        let watcher = cache.watch(Some(Revision(base)), scope.clone()).unwrap();
        fairlead_telemetry::task::spawn("test-watcher", follow(watcher, scope, base, last))
    });
    let reader = {
        let cache = cache.clone();
        let store = bench.store.clone();
        fairlead_telemetry::task::spawn("test-reader", read_fresh(cache, store, last))
    };
    let truth = write_all(&bench.store, base).await;
    let relative = |key: &String| key.strip_prefix("/things/").unwrap().to_owned();
    for watcher in watchers {
        let (scope, seen) = watcher.await.unwrap();
        let wanted = |key: &str| match &scope {
            WatchScope::All => true,
            WatchScope::Namespace(namespace) => key.split('/').next() == Some(namespace),
            WatchScope::Key(wanted) => key == *wanted,
            WatchScope::Field { namespace, value, .. } => {
                let (found, name) = key.split_once('/').unwrap();
                name == *value && (namespace.is_empty() || found == *namespace)
            }
        };
        let expected: Truth = truth
            .iter()
            .map(|(revision, (key, value))| (*revision, (relative(key), value.clone())))
            .filter(|(_, (key, _))| wanted(key))
            .collect();
        assert_eq!(seen, expected, "{scope:?}");
    }
    reader.await.unwrap();
    for at in [0, 16, 99, WRITERS * WRITES - 1].map(|at| base + at) {
        let mut state = BTreeMap::new();
        for (key, value) in truth.range(..=at).map(|(_, write)| write) {
            match value {
                Some(value) => _ = state.insert(relative(key), value.clone()),
                None => _ = state.remove(&relative(key)),
            }
        }
        let snapshot = cache.exact(Revision(at)).await.unwrap();
        let shown: BTreeMap<String, String> = snapshot
            .range("", "")
            .map(|object| {
                (
                    object.key.to_string(),
                    String::from_utf8_lossy(&object.json.text())
                        .split('@')
                        .next()
                        .unwrap()
                        .into(),
                )
            })
            .collect();
        assert_eq!(shown, state, "at {at}");
    }
}

fn named(namespace: &str, name: &str) -> WatchScope {
    WatchScope::Field {
        namespace: namespace.into(),
        field: "metadata.name".into(),
        value: name.into(),
    }
}

/// Everything a watcher sees up to the last write.
async fn follow(mut watcher: Watcher, scope: WatchScope, base: u64, last: u64) -> (WatchScope, Truth) {
    let mut seen = Truth::new();
    let mut reached = base;
    while reached < last {
        let (object, value) = match watcher.next().await.unwrap() {
            CacheEvent::Progress(revision) => {
                assert!(revision.0 >= reached);
                reached = revision.0;
                continue;
            }
            CacheEvent::Put { object, previous } => {
                assert!(
                    previous.is_none_or(|previous| previous.key == object.key && previous.revision < object.revision)
                );
                let value = String::from_utf8_lossy(&object.json.text())
                    .split('@')
                    .next()
                    .unwrap()
                    .to_owned();
                (object, Some(value))
            }
            CacheEvent::Delete { object, .. } => (object, None),
        };
        assert!(object.revision.0 > reached, "behind what was already reported");
        reached = object.revision.0;
        seen.insert(reached, (object.key.to_string(), value));
    }
    (scope, seen)
}

/// Fresh reads never go back and never miss what had been acknowledged.
async fn read_fresh(cache: Cache, store: Arc<dyn Store>, end: u64) {
    let mut last = Revision(0);
    while last.0 < end {
        let acknowledged = store.revision().await.unwrap();
        let snapshot = cache.fresh().await.unwrap();
        assert!(snapshot.revision >= acknowledged && snapshot.revision >= last);
        last = snapshot.revision;
        tokio::task::yield_now().await;
    }
}
