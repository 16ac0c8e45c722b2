//! What watchers cost: one writer, N watchers of everything, then N watchers of one key each.
//! `cargo run --release -p fairlead-storage --example fanout`

use bytes::Bytes;
use fairlead_storage::{
    Cache, CacheConfig, CacheEvent, Cached, Decode, Error, Forms, Header, Memory, Revision, WatchScope,
};
use fairlead_telemetry::SystemClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const WRITES: u64 = 400;

struct AsIs;

impl Decode for AsIs {
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Cached, String> {
        let (header, forms) = (Header::default(), Forms::default());
        Ok(Cached {
            key: key.into(),
            revision,
            json: value.to_vec().into(),
            header,
            forms,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    for watchers in [500, 5_000] {
        let everything = |_| WatchScope::All;
        run("everything", watchers, everything).await?;
        run("one key each", watchers, |i: u64| {
            WatchScope::Key(format!("default/{i}").into())
        })
        .await?;
    }
    Ok(())
}

async fn run(what: &str, watchers: u64, scope: impl Fn(u64) -> WatchScope) -> Result<(), Error> {
    let store = Arc::new(Memory::new(Arc::new(SystemClock)));
    let config = CacheConfig {
        prefix: "/things/".into(),
        decode: Arc::new(AsIs),
        ring_bytes: 16 << 20,
    };
    let cache = Cache::start(store, config);
    cache.ready().await?;
    let delivered = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..watchers)
        .map(|i| {
            let mut watcher = cache.watch(None, scope(i))?;
            let delivered = delivered.clone();
            Ok(fairlead_telemetry::task::spawn("watcher", async move {
                loop {
                    match watcher.next().await {
                        Ok(CacheEvent::Put { object, .. }) => {
                            delivered.fetch_add(1, Ordering::Relaxed);
                            if object.revision.0 > WRITES {
                                return;
                            }
                        }
                        // Those that do not want the last write hear of it within a second.
                        Ok(CacheEvent::Progress(revision)) if revision.0 > WRITES => return,
                        Ok(_) => {}
                        Err(_) => return,
                    }
                }
            }))
        })
        .collect::<Result<_, Error>>()?;
    let value = Bytes::from(vec![b'x'; 1000]);
    let started = Instant::now();
    for i in 0..WRITES {
        cache.create(&format!("default/{i}"), value.clone(), None).await?;
    }
    let written = started.elapsed();
    for task in tasks {
        _ = task.await;
    }
    let (count, all) = (delivered.load(Ordering::Relaxed), started.elapsed());
    println!(
        "{watchers:>5} watchers of {what}: {count:>8} deliveries; written in {written:.1?}, all done in {all:.1?}"
    );
    Ok(())
}
