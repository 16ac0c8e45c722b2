//! What other servers over the same store do, where this one keeps more of it than a cache: the definitions they write,
//! and the service addresses and node ports they give out.
//!
//! Two servers that choose the same one within the milliseconds that a change takes to arrive do not notice; upstream
//! claims addresses by creating IPAddress objects.

use fairlead_api::{Node, json};
use fairlead_builtin::allocators::Allocators;
use fairlead_crd::lifecycle::Lifecycle;
use fairlead_resource::Engine;
use fairlead_storage::{Cache, CacheEvent, Cached, Snapshot, WatchScope};
use std::sync::Arc;
use std::time::Duration;

/// Before a cache that cannot be followed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves what is defined elsewhere, until it is dropped.
pub async fn definitions(stored: Cache, lifecycle: Arc<Lifecycle>, engine: Engine) {
    loop {
        let Ok(mut watcher) = stored.watch(Some(stored.latest().revision), WatchScope::All) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // What came before the watch, and before the one that was lost.
        sync(&lifecycle, &engine).await;
        while let Ok(event) = watcher.next().await {
            if !matches!(event, CacheEvent::Progress(_)) {
                sync(&lifecycle, &engine).await;
            }
        }
    }
}

async fn sync(lifecycle: &Lifecycle, engine: &Engine) {
    if let Err(error) = lifecycle.sync(engine).await {
        tracing::warn!(%error, "definitions of other servers are not served yet");
    }
}

/// Follows the services until it is dropped.
pub async fn ranges(services: Cache, allocators: Allocators) {
    loop {
        let snapshot = services.latest();
        adopt_all(&allocators, &snapshot);
        let Ok(mut watcher) = services.watch(Some(snapshot.revision), WatchScope::All) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Behind a gap everything is read anew.
        while let Ok(event) = watcher.next().await {
            match event {
                CacheEvent::Put { object, .. } => each(&object, |service| allocators.adopt(service)),
                CacheEvent::Delete { object, .. } => {
                    each(&object, |service| allocators.release(service));
                    // What it had may belong to another one by now.
                    adopt_all(&allocators, &services.latest());
                }
                CacheEvent::Progress(_) => {}
            }
        }
    }
}

fn adopt_all(allocators: &Allocators, snapshot: &Snapshot) {
    for object in snapshot.range("", "") {
        each(object, |service| allocators.adopt(service));
    }
}

fn each(object: &Cached, act: impl FnOnce(&Node)) {
    if let Ok(service) = json::parse(&object.json) {
        act(&service);
    }
}
