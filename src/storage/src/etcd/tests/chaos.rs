//! A cluster of three whose servers die and freeze while two stores over it are written, read and watched: every answer
//! must agree with the log that etcd itself tells in the end.

use super::{connect_to, until};
use crate::cache::{Cache, CacheConfig, CacheEvent, WatchScope, Watcher};
use crate::etcd::Etcd;
use crate::etcd::server::Cluster;
use crate::store::{Error, Revision, Store};
use crate::testing::{AtRevision, bytes};
use fairlead_telemetry::task::spawn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const KEYS: u64 = 5;
const WRITERS: u64 = 3;

/// By revision: the key and the value, `None` for a delete.
type Log = BTreeMap<u64, (String, Option<String>)>;
type State = BTreeMap<String, (u64, String)>;

/// What the clients share.
#[derive(Default)]
struct Run {
    over: AtomicBool,
    /// The highest revision of an acknowledged write.
    acknowledged: AtomicU64,
}

/// What one writer was told.
#[derive(Default)]
struct Told {
    /// By revision: the key, the revision it replaced (0 for none), the value.
    acknowledged: BTreeMap<u64, (String, u64, Option<String>)>,
    /// Values of writes that certainly did not happen.
    refused: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_its_leader_loses_nothing_else() {
    let Some(mut cluster) = Cluster::start(3).unwrap() else {
        return;
    };
    let rounds = if std::env::var_os("SLOW_TESTS").is_some() { 5 } else { 1 };
    let mut urls = cluster.urls();
    let run = Arc::new(Run::default());
    let mut caches = Vec::new();
    let mut stores = Vec::new();
    for _ in 0..2 {
        let store = connect_to(urls.clone()).await;
        let config = CacheConfig {
            prefix: "/things/".into(),
            decode: Arc::new(AtRevision),
            ring_bytes: 64 << 20,
        };
        let cache = Cache::start(Arc::new(store.clone()), config);
        cache.ready().await.unwrap();
        caches.push(cache);
        stores.push(store);
        urls.rotate_left(1);
    }
    let watchers: Vec<_> = caches
        .iter()
        .map(|cache| cache.watch(Some(Revision(1)), WatchScope::All).unwrap())
        .collect();
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for (i, cache) in caches.iter().enumerate() {
        for writer in 0..WRITERS {
            let name = i as u64 * WRITERS + writer;
            writers.push(spawn("test-writer", write(cache.clone(), run.clone(), name)));
        }
        readers.push(spawn("test-reader", read(cache.clone(), run.clone())));
    }
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let leader = leader(&stores[0], &cluster.urls()).await;
        if round % 2 == 0 {
            cluster.kill(leader).unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            cluster.restart(leader).unwrap();
        } else {
            cluster.freeze(leader).unwrap();
            tokio::time::sleep(Duration::from_millis(4000)).await;
            cluster.thaw(leader).unwrap();
        }
    }
    // Everything works again before the end, or this does not end.
    let before = run.acknowledged.load(Ordering::SeqCst);
    while run.acknowledged.load(Ordering::SeqCst) < before + 50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.over.store(true, Ordering::SeqCst);
    let mut told = Told::default();
    for writer in writers {
        let mut one = writer.await.unwrap();
        told.acknowledged.append(&mut one.acknowledged);
        told.refused.append(&mut one.refused);
    }
    let last = stores[0].revision().await.unwrap();
    let log = log(&stores[1], last).await;
    println!(
        "{} writes acknowledged, {} in the log",
        told.acknowledged.len(),
        log.len()
    );
    check_writes(&told, &log);
    for watcher in watchers {
        assert_eq!(follow(watcher, last).await, log, "a watcher saw the log");
    }
    for reader in readers {
        for (revision, state) in reader.await.unwrap() {
            assert_eq!(state, state_at(&log, revision), "a read at {revision}");
        }
    }
}

/// Writes keys that others write, too.
async fn write(cache: Cache, run: Arc<Run>, name: u64) -> Told {
    let mut told = Told::default();
    for i in 0_u64.. {
        if run.over.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("k{}", (name * 7 + i) % KEYS);
        let value = format!("{name}.{i}");
        let Ok(snapshot) = cache.fresh().await else { continue };
        let held = snapshot.get(&key).map_or(0, |object| object.revision.0);
        let (result, value) = match held {
            0 => (cache.create(&key, bytes(&value), None).await, Some(value)),
            held if i % 9 == 8 => (cache.delete(&key, Revision(held)).await, None),
            held => (
                cache.update(&key, bytes(&value), Revision(held), None).await,
                Some(value),
            ),
        };
        match result {
            Ok(object) => {
                run.acknowledged.fetch_max(object.revision.0, Ordering::SeqCst);
                told.acknowledged.insert(object.revision.0, (key, held, value));
            }
            Err(Error::Indeterminate(_)) => {}
            Err(Error::Conflict { .. } | Error::Unavailable(_)) => told.refused.extend(value),
            Err(error) => panic!("{error}"),
        }
    }
    told
}

/// Reads that must be fresh, and what they found.
async fn read(cache: Cache, run: Arc<Run>) -> Vec<(u64, State)> {
    let mut found = Vec::new();
    let mut last = 0;
    while !run.over.load(Ordering::SeqCst) {
        let acknowledged = run.acknowledged.load(Ordering::SeqCst);
        if let Ok(snapshot) = cache.fresh().await {
            let revision = snapshot.revision.0;
            assert!(
                revision >= acknowledged,
                "read at {revision} after {acknowledged} was acknowledged"
            );
            assert!(revision >= last);
            last = revision;
            let state = snapshot
                .range("", "")
                .map(|object| (object.key.to_string(), (object.revision.0, text(&object.json.text()))));
            found.push((revision, state.collect()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    found
}

async fn follow(mut watcher: Watcher, to: Revision) -> Log {
    let mut seen = Log::new();
    loop {
        let (revision, key, value) = match watcher.next().await.unwrap() {
            CacheEvent::Progress(revision) if revision >= to => return seen,
            CacheEvent::Progress(_) => continue,
            CacheEvent::Put { object, .. } => (
                object.revision.0,
                object.key.to_string(),
                Some(text(&object.json.text())),
            ),
            CacheEvent::Delete { object, .. } => (object.revision.0, object.key.to_string(), None),
        };
        assert!(
            seen.insert(revision, (key, value)).is_none(),
            "{revision} was seen twice"
        );
    }
}

/// What etcd says has happened.
async fn log(store: &Etcd, to: Revision) -> Log {
    let mut watch = store.watch("/things/", Revision(1)).await.unwrap();
    let batch = until(&mut watch, Revision(1), to).await;
    let row = |change: crate::store::Change| {
        let key = change.key.strip_prefix("/things/").unwrap().to_owned();
        (
            change.revision.0,
            (
                key,
                change.value.map(|value| String::from_utf8(value.to_vec()).unwrap()),
            ),
        )
    };
    batch.changes.into_iter().map(row).collect()
}

fn check_writes(told: &Told, log: &Log) {
    assert!(told.acknowledged.len() >= 50);
    for (revision, (key, replaced, value)) in &told.acknowledged {
        assert_eq!(
            log.get(revision),
            Some(&(key.clone(), value.clone())),
            "{revision} was acknowledged"
        );
        let before = log.range(..revision).rev().find(|(_, (changed, _))| changed == key);
        let held = before.map_or(0, |(at, (_, value))| if value.is_some() { *at } else { 0 });
        assert_eq!(held, *replaced, "{revision} replaced what it expected");
    }
    for value in &told.refused {
        let happened = log.values().any(|(_, written)| written.as_ref() == Some(value));
        assert!(!happened, "{value} was refused and is there");
    }
}

fn state_at(log: &Log, revision: u64) -> State {
    let mut state = State::new();
    for (at, (key, value)) in log.range(..=revision) {
        match value {
            Some(value) => _ = state.insert(key.clone(), (*at, value.clone())),
            None => _ = state.remove(key),
        }
    }
    state
}

fn text(json: &[u8]) -> String {
    String::from_utf8_lossy(json).split('@').next().unwrap().to_owned()
}

/// The index of the server that leads.
async fn leader(store: &Etcd, urls: &[String]) -> usize {
    loop {
        for (i, url) in urls.iter().enumerate() {
            let clients = crate::etcd::members::clients(url, None).await.unwrap();
            if let Ok(status) = clients.maintenance.clone().status().await
                && status.leader() != 0
                && status
                    .header()
                    .is_some_and(|header| header.member_id() == status.leader())
            {
                return i;
            }
        }
        _ = store.revision().await;
    }
}
