//! [`Collector`]: the end of a sink's queue. Gathers events into batches, and slows down where that is asked for.

use crate::sink::Item;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout_at};

/// How events are gathered.
#[derive(Clone, Debug)]
pub struct Batch {
    pub max_events: usize,
    pub max_bytes: usize,
    /// How long a batch waits to fill.
    pub max_wait: Duration,
    pub throttle: Option<Throttle>,
}

/// How many batches there may be: on average in a second, and at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    pub per_second: f64,
    pub burst: u32,
}

/// What is waiting goes together, up to a size that is written at once.
impl Default for Batch {
    fn default() -> Batch {
        Batch {
            max_events: 1024,
            max_bytes: 1 << 20,
            max_wait: Duration::ZERO,
            throttle: None,
        }
    }
}

pub struct Collector {
    receiver: mpsc::Receiver<Item>,
    stop: Arc<Notify>,
    stopping: bool,
    batch: Batch,
    /// Did not fit into the last batch.
    left: Option<Item>,
    bucket: Option<Bucket>,
}

impl Collector {
    pub(crate) fn new(receiver: mpsc::Receiver<Item>, stop: Arc<Notify>, batch: Batch) -> Collector {
        Collector {
            receiver,
            stop,
            stopping: false,
            bucket: batch.throttle.map(Bucket::full),
            batch,
            left: None,
        }
    }

    /// The next events, one at least; `None` when the sink has been closed and all have been taken.
    pub async fn next(&mut self) -> Option<Vec<Item>> {
        let first = match self.left.take() {
            Some(item) => item,
            None => self.receive().await?,
        };
        let until = Instant::now() + self.batch.max_wait;
        let mut bytes = first.text.len();
        let mut batch = vec![first];
        while batch.len() < self.batch.max_events {
            let item = match self.receiver.try_recv() {
                Ok(item) => item,
                Err(_) if self.batch.max_wait.is_zero() || self.stopping => break,
                Err(_) => match timeout_at(until, self.receive()).await {
                    Ok(Some(item)) => item,
                    _ => break,
                },
            };
            bytes += item.text.len();
            if bytes > self.batch.max_bytes {
                self.left = Some(item);
                break;
            }
            batch.push(item);
        }
        if let Some(bucket) = self.bucket.as_mut().filter(|_| !self.stopping) {
            bucket.take().await;
        }
        Some(batch)
    }

    async fn receive(&mut self) -> Option<Item> {
        if !self.stopping {
            tokio::select! {
                biased;
                item = self.receiver.recv() => return item,
                () = self.stop.notified() => {
                    self.stopping = true;
                    self.receiver.close();
                }
            }
        }
        self.receiver.recv().await
    }

    /// What is there now.
    #[cfg(test)]
    pub(crate) fn waiting(&mut self) -> Vec<Item> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).collect()
    }
}

/// A token for each batch.
struct Bucket {
    throttle: Throttle,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn full(throttle: Throttle) -> Bucket {
        Bucket {
            throttle,
            tokens: f64::from(throttle.burst),
            filled: Instant::now(),
        }
    }

    async fn take(&mut self) {
        let now = Instant::now();
        let gained = (now - self.filled).as_secs_f64() * self.throttle.per_second;
        self.tokens = (self.tokens + gained).min(f64::from(self.throttle.burst)) - 1.0;
        self.filled = now;
        if self.tokens < 0.0 {
            sleep_until(now + Duration::from_secs_f64(-self.tokens / self.throttle.per_second)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::sink::{Form, Mode, Sink, SinkConfig, Sinks};
    use fairlead_telemetry::Families;
    use tokio::sync::oneshot;

    fn sink(batch: Batch) -> (Sinks, Collector, oneshot::Sender<()>) {
        let config = SinkConfig {
            form: Form::Json,
            mode: Mode::Batch,
            truncation: None,
            buffer: 100,
            batch,
        };
        let (ends, ended) = oneshot::channel();
        let (sink, collector) = Sink::new(config, &Metrics::register(&Families::default()), ended);
        (Sinks::new(vec![sink]), collector, ends)
    }

    fn put(sinks: &Sinks, length: usize) {
        sinks.put_now(&crate::event::Event {
            stage: crate::Stage::ResponseComplete,
            level: crate::Level::Metadata,
            json: vec![b'x'; length].into(),
            bare: None,
            line: None,
        });
    }

    #[tokio::test(start_paused = true)]
    async fn batches_fill_by_number_by_bytes_and_by_time() {
        let (sinks, mut collector, _ends) = sink(Batch {
            max_events: 3,
            max_bytes: 100,
            max_wait: Duration::from_secs(30),
            throttle: None,
        });
        let started = Instant::now();
        for length in [10, 10, 10, 60, 60, 10] {
            put(&sinks, length);
        }
        let mut lengths = Vec::new();
        for _ in 0..3 {
            lengths.push(collector.next().await.unwrap().len());
        }
        assert_eq!(lengths, [3, 1, 2]);
        assert_eq!(started.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_throttled_until_the_end() {
        let (sinks, mut collector, ends) = sink(Batch {
            max_events: 1,
            throttle: Some(Throttle {
                per_second: 2.0,
                burst: 2,
            }),
            ..Batch::default()
        });
        let started = Instant::now();
        for _ in 0..6 {
            put(&sinks, 1);
        }
        for _ in 0..5 {
            collector.next().await.unwrap();
        }
        assert_eq!(started.elapsed(), Duration::from_millis(1500));
        let closing = async {
            let mut left = 0;
            while let Some(batch) = collector.next().await {
                left += batch.len();
            }
            ends.send(()).unwrap();
            left
        };
        let ((), left) = tokio::join!(sinks.close(Duration::from_secs(5)), closing);
        assert_eq!(left, 1);
        put(&sinks, 1);
        assert!(collector.next().await.is_none());
    }
}
