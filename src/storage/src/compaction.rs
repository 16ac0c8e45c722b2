//! The loop that forgets history.

use crate::store::{Error, Revision, Store};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long overwritten and deleted values can still be read by default.
pub const WINDOW: Duration = Duration::from_secs(300);

/// Compacts `store` again and again to where it was `window` ago. Runs until it is dropped.
pub async fn run(store: Arc<dyn Store>, window: Duration) {
    let step = (window / 5).max(Duration::from_millis(1));
    let mut seen: VecDeque<(Instant, Revision)> = VecDeque::new();
    loop {
        if let Ok(revision) = store.revision().await {
            seen.push_back((Instant::now(), revision));
        }
        let mut due = None;
        while let Some((_, revision)) = seen.pop_front_if(|(when, _)| when.elapsed() >= window) {
            due = Some(revision);
        }
        if let Some(revision) = due {
            match store.compact(revision).await {
                Ok(()) | Err(Error::Compacted { .. }) => {}
                Err(error) => tracing::warn!(%error, revision = revision.0, "compaction failed"),
            }
        }
        tokio::time::sleep(step).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::store::Expect;
    use crate::testing::{HandClock, bytes};

    #[tokio::test(start_paused = true)]
    async fn keeps_the_window_and_no_more() {
        let store = Memory::new(HandClock::at(0));
        let mut looping = Box::pin(run(Arc::new(store.clone()), WINDOW));
        let mut pass = async |seconds| _ = tokio::time::timeout(Duration::from_secs(seconds), &mut looping).await;
        store.put("/a", bytes("1"), Expect::Absent, None).await.unwrap();
        pass(100).await;
        store
            .put("/a", bytes("2"), Expect::Unchanged(Revision(2)), None)
            .await
            .unwrap();
        pass(150).await;
        assert_eq!(
            store.range("/", "", 9, Some(Revision(2))).await.unwrap().entries.len(),
            1
        );
        pass(400).await;
        let gone = store.range("/", "", 9, Some(Revision(2))).await.unwrap_err();
        assert_eq!(gone, Error::Compacted { oldest: Revision(3) });
    }
}
