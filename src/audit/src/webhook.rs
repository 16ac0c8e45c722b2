//! The webhook: batches of events, posted as an `EventList`, again after a while where that fails.

use crate::batch::Collector;
use crate::metrics::Metrics;
use crate::sink::Item;
use bytes::Bytes;
use fairlead_telemetry::task;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Posts to the webhook.
pub trait Post: Send + Sync {
    /// # Errors
    /// There was no answer, or one that is no success.
    fn post(&self, body: Bytes) -> BoxFuture<'static, Result<(), String>>;
}

/// How many batches are under way at once. What they hold counts as the sink's.
const AT_ONCE: u32 = 64;
/// How often a batch is sent before it is lost.
const ATTEMPTS: usize = 5;
/// How much longer each pause is than the one before.
const FACTOR: f64 = 1.5;

/// Sends what `collector` gives until that was all; `ended` is told then.
pub async fn run(
    mut collector: Collector,
    client: Arc<dyn Post>,
    initial_backoff: Duration,
    metrics: Metrics,
    ended: oneshot::Sender<()>,
) {
    let slots = Arc::new(Semaphore::new(AT_ONCE as usize));
    while let Some(batch) = collector.next().await {
        let slot = slots.clone().acquire_owned().await;
        let (client, metrics) = (client.clone(), metrics.clone());
        // Nobody awaits it: the end waits for its slot.
        task::spawn("audit-webhook-batch", async move {
            let result = send(&*client, list(&batch), initial_backoff).await;
            if let Err(error) = &result {
                metrics.lost("webhook", batch.len(), error);
            }
            batch.into_iter().for_each(|item| item.done(result.is_ok()));
            drop(slot);
        });
    }
    // The semaphore is never closed.
    _ = slots.acquire_many(AT_ONCE).await;
    // Nobody may wait for the end.
    _ = ended.send(());
}

async fn send(client: &dyn Post, body: Bytes, initial_backoff: Duration) -> Result<(), String> {
    let mut pause = initial_backoff;
    for _ in 1..ATTEMPTS {
        match client.post(body.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(error, "the audit webhook does not take events"),
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(FACTOR);
    }
    client.post(body).await
}

fn list(batch: &[Item]) -> Bytes {
    const HEAD: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let length: usize = batch.iter().map(|item| item.text.len() + 2).sum();
    let mut body = Vec::with_capacity(HEAD.len() + length + 2);
    body.extend_from_slice(HEAD);
    for (i, item) in batch.iter().enumerate() {
        body.extend_from_slice(if i > 0 { b",{" } else { b"{" });
        body.extend_from_slice(&item.text);
    }
    body.extend_from_slice(b"]}\n");
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::sink::{Form, Mode, Sink, SinkConfig, Sinks};
    use crate::{Level, Stage};
    use fairlead_api::json;
    use fairlead_telemetry::Families;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// Refuses some, then takes all.
    #[derive(Default)]
    struct Hook {
        refuses: Mutex<usize>,
        taken: Mutex<Vec<Bytes>>,
    }

    impl Post for Hook {
        fn post(&self, body: Bytes) -> BoxFuture<'static, Result<(), String>> {
            let mut refuses = self.refuses.lock().unwrap();
            let refused = *refuses > 0;
            *refuses = refuses.saturating_sub(1);
            if !refused {
                self.taken.lock().unwrap().push(body);
            }
            Box::pin(std::future::ready(if refused { Err("no".into()) } else { Ok(()) }))
        }
    }

    async fn sent(mode: Mode, refuses: usize, events: usize) -> (Arc<Hook>, Vec<bool>, Duration) {
        let hook = Arc::new(Hook {
            refuses: Mutex::new(refuses),
            ..Hook::default()
        });
        let metrics = Metrics::register(&Families::default());
        let config = SinkConfig {
            form: Form::Json,
            mode,
            truncation: None,
            buffer: 10,
            batch: Default::default(),
        };
        let (ends, ended) = oneshot::channel();
        let (sink, collector) = Sink::new(config, &metrics, ended);
        let running = task::spawn(
            "test",
            run(collector, hook.clone(), Duration::from_secs(10), metrics, ends),
        );
        let sinks = Sinks::new(vec![sink]);
        let started = Instant::now();
        let mut stored = Vec::new();
        for i in 0..events {
            let event = Event {
                stage: Stage::RequestReceived,
                level: Level::Metadata,
                json: format!("\"i\":{i}}}").into(),
                bare: None,
                line: None,
            };
            stored.push(sinks.put(&event).await);
        }
        sinks.close(Duration::from_secs(1000)).await;
        running.await.unwrap();
        (hook, stored, started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn events_go_together_and_again() {
        let (hook, stored, took) = sent(Mode::Batch, 2, 3).await;
        assert_eq!((stored, took), (vec![true; 3], Duration::from_secs(25)));
        let taken = hook.taken.lock().unwrap();
        let lists: Vec<_> = taken.iter().map(|body| json::parse(body).unwrap()).collect();
        let items: usize = lists.iter().map(|list| list.list("items").len()).sum();
        assert_eq!((lists[0].str("kind"), items), ("EventList", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_times_they_are_lost() {
        let (hook, stored, took) = sent(Mode::BlockingStrict, 5, 1).await;
        assert_eq!((stored, hook.taken.lock().unwrap().len()), (vec![false], 0));
        // 10 + 15 + 22.5 + 33.75 seconds.
        assert_eq!(took, Duration::from_millis(81_250));
    }
}
