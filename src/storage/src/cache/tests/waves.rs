//! Waves: a lone event is not held back, and a burst is one piece for everybody.

use super::{memory, start};
use crate::cache::{Cache, CacheEvent, Form, Made, Step, WatchScope};
use crate::testing::bytes;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const WATCHERS: usize = 1000;

/// When a run reached a watcher, and the keys in it.
type Told = (Duration, Vec<String>);

/// Watchers of everything that share their runs, and how many runs have been made.
fn follow(cache: &Cache) -> (mpsc::UnboundedReceiver<Told>, Arc<AtomicUsize>) {
    let (tell, told) = mpsc::unbounded_channel();
    let made = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    for _ in 0..WATCHERS {
        let mut watcher = cache.watch(None, WatchScope::All).unwrap();
        let (tell, made) = (tell.clone(), made.clone());
        fairlead_telemetry::task::spawn("watcher", async move {
            let mut form = || Form {
                name: "keys".into(),
                stamp: 0,
            };
            let mut make = |events: &[CacheEvent]| {
                made.fetch_add(1, Ordering::SeqCst);
                let keys = events.iter().map(|event| match event {
                    CacheEvent::Put { object, .. } => object.key.to_string(),
                    other => panic!("{other:?}"),
                });
                Some(Arc::new(keys.collect::<Vec<_>>()) as Made)
            };
            while let Ok(step) = poll_fn(|context| watcher.poll_run(context, &mut form, &mut make)).await {
                if let Step::Run(made, _) = step {
                    let keys: &Vec<String> = made.downcast_ref().unwrap();
                    _ = tell.send((begun.elapsed(), keys.clone()));
                }
            }
        });
    }
    (told, made)
}

/// What every watcher was told next, which has to be the same.
async fn all(told: &mut mpsc::UnboundedReceiver<Told>) -> Told {
    let first = told.recv().await.unwrap();
    for _ in 1..WATCHERS {
        assert_eq!(told.recv().await.unwrap(), first);
    }
    first
}

#[tokio::test(start_paused = true)]
async fn a_lone_event_comes_at_once_and_a_burst_together() {
    let cache = start(&memory(), 1 << 20);
    cache.ready().await.unwrap();
    let (mut told, made) = follow(&cache);
    let create = async |key: &str| drop(cache.create(key, bytes("1"), None).await.unwrap());
    create("lone").await;
    assert_eq!(all(&mut told).await, (Duration::ZERO, vec!["lone".into()]));
    for key in ["a", "b", "c"] {
        create(key).await;
    }
    let (at, keys) = all(&mut told).await;
    assert_eq!(keys, ["a", "b", "c"]);
    assert!(at > Duration::ZERO && at <= Duration::from_millis(12), "{at:?}");
    assert_eq!(made.load(Ordering::SeqCst), 2, "one for all");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let later = at + Duration::from_millis(20);
    create("later").await;
    assert_eq!(all(&mut told).await, (later, vec!["later".into()]));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_back_comes_before_the_end() {
    let cache = start(&memory(), 1 << 20);
    cache.ready().await.unwrap();
    let (mut told, _) = follow(&cache);
    for key in ["a", "b"] {
        cache.create(key, bytes("1"), None).await.unwrap();
    }
    cache.retire();
    let mut seen = 0;
    while let Some((at, keys)) = told.recv().await {
        assert_eq!(at, Duration::ZERO);
        seen += keys.len();
    }
    assert_eq!(seen, 2 * WATCHERS);
}
