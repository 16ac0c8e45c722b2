//! What other servers over the same store do, where this one keeps more of it than a cache: the definitions they write.

use fairlead_crd::lifecycle::Lifecycle;
use fairlead_resource::Engine;
use fairlead_storage::{Cache, CacheEvent, WatchScope};
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
