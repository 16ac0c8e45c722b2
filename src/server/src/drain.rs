//! [`Drain`]: the one signal that the server is going away.

use tokio::sync::watch;

/// Tells everyone who waits that the server drains. Cheap to clone.
#[derive(Clone)]
pub struct Drain(watch::Sender<bool>);

impl Default for Drain {
    fn default() -> Drain {
        Drain(watch::Sender::new(false))
    }
}

impl Drain {
    /// Begins to drain. Cannot be taken back.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    pub fn begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Turns true when draining begins.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Resolves when draining begins, at once where it has begun.
    pub async fn wait(&self) {
        let mut receiver = self.0.subscribe();
        // The sender is part of `self`, so it cannot go away while this waits.
        let _ = receiver.wait_for(|begun| *begun).await;
    }
}
