//! Named tasks: everything that runs beside a request is spawned here.

use std::future::Future;
use tokio::task::JoinHandle;

/// Runs `future` as a task. The caller owns the handle: it awaits it, aborts it, or lets it run to its end.
/// A panic inside is reported under `name` and ends only this task.
#[allow(clippy::disallowed_methods)]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(async move {
        let _reporter = PanicReporter { name };
        future.await
    })
}

struct PanicReporter {
    name: &'static str,
}

impl Drop for PanicReporter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task panicked");
        }
    }
}
