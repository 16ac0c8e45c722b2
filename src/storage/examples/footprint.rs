//! What objects cost in memory and at start: 10,000 × 1.5 KB below one prefix, and 500 empty caches beside it.
//! `cargo run --release -p fairlead-storage --example footprint [DIR]`

use bytes::Bytes;
use fairlead_storage::{
    Cache, CacheConfig, Cached, Decode, Embedded, EmbeddedConfig, Error, Expect, Forms, Header, Revision, Store,
};
use fairlead_telemetry::SystemClock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const OBJECTS: usize = 10_000;
const CACHES: usize = 500;

struct AsIs;

impl Decode for AsIs {
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Cached, String> {
        let (header, forms) = (Header::default(), Forms::default());
        // A copy, as a real decoder makes one to add the resourceVersion.
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
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("fairlead-footprint"), PathBuf::from);
    let config = EmbeddedConfig::new(Arc::new(SystemClock));
    let cache_of = |store: &Embedded, prefix: String| {
        Cache::start(
            Arc::new(store.clone()),
            CacheConfig {
                prefix,
                decode: Arc::new(AsIs),
                ring_bytes: 4 << 20,
            },
        )
    };
    let store = Embedded::open(&dir, config.clone())?;
    let value = Bytes::from(vec![b'x'; 1500]);
    let keys: Vec<String> = (0..OBJECTS).map(|i| format!("/things/default/object-{i}")).collect();
    futures_util::future::join_all(
        keys.iter()
            .map(|key| store.put(key, value.clone(), Expect::Absent, None)),
    )
    .await;
    store.close().await;
    drop(store);

    println!("{:>7} KiB before", resident());
    let started = Instant::now();
    let store = Embedded::open(&dir, config)?;
    println!(
        "{:>7} KiB with the store open, after {:.1?}",
        resident(),
        started.elapsed()
    );
    let things = cache_of(&store, "/things/".into());
    things.ready().await?;
    println!(
        "{:>7} KiB with {} objects loaded, after {:.1?}",
        resident(),
        things.latest().len(),
        started.elapsed()
    );
    let caches: Vec<Cache> = (0..CACHES).map(|i| cache_of(&store, format!("/others/{i}/"))).collect();
    for cache in &caches {
        cache.ready().await?;
    }
    println!(
        "{:>7} KiB with {CACHES} empty caches, after {:.1?}",
        resident(),
        started.elapsed()
    );

    let started = Instant::now();
    for _ in 0..1_000_000 {
        std::hint::black_box(things.fresh().await?.get("default/object-777"));
    }
    println!("{:?} for a fresh read of one object", started.elapsed() / 1_000_000);
    for i in 0..2_000 {
        things.create(&format!("default/more-{i}"), value.clone(), None).await?;
        things.fresh().await?;
    }
    println!("{:>7} KiB after 2,000 more objects", resident());
    store.close().await;
    for name in ["store.db", "store.db-wal", "store.db-shm", "lock"] {
        _ = std::fs::remove_file(dir.join(name));
    }
    _ = std::fs::remove_dir(&dir);
    Ok(())
}

/// Resident memory in KiB; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}
