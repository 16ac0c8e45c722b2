//! [`Streams`]: who drives the answers of an HTTP/2 connection.
//!
//! A request is a task of its own, so that a slow one keeps nobody. One that turns out to be a watch moves in with its
//! connection: an event for all watches of a connection wakes one task, which puts their frames into one write.
// PERFORMANCE: per-request path

use crate::cork::Cork;
use fairlead_telemetry::task;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, future::CatchUnwind};
use hyper::rt::Executor;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

tokio::task_local! {
    /// Whether the answer that is being polled wants to move in with its connection.
    static MOVES: Cell<bool>;
}

/// Asks for the answer that is being polled to be driven by its connection from now on, where it can be.
pub fn move_in() {
    _ = MOVES.try_with(|moves| moves.set(true));
}

/// Starts answers as tasks and takes back those that move in.
#[derive(Clone, Default)]
pub struct Streams(Arc<Door>);

#[derive(Default)]
struct Door {
    arrived: Mutex<Arrived>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Arrived {
    answers: Vec<Answer>,
    /// Whether there is nobody to drive them any more.
    closed: bool,
}

type Answer = Pin<Box<dyn Future<Output = ()> + Send>>;
/// A panic ends one answer, as where it is a task.
type Lodger = CatchUnwind<AssertUnwindSafe<Answer>>;

/// Drives a connection and the answers that have moved in, and sends what they have written.
pub struct Driver<S> {
    streams: Streams,
    lodgers: FuturesUnordered<Lodger>,
    cork: Cork<S>,
}

// === impl Streams ===

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, answer: F) {
        task::spawn(
            "stream",
            Own {
                answer: Some(Box::pin(answer)),
                door: Arc::downgrade(&self.0),
            },
        );
    }
}

impl Door {
    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, answer: Answer) {
        let mut arrived = self.arrived();
        if !arrived.closed {
            arrived.answers.push(answer);
            drop(arrived);
            self.waker.wake();
        }
    }
}

/// An answer that is a task of its own.
struct Own {
    answer: Option<Answer>,
    door: Weak<Door>,
}

impl Future for Own {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(());
        };
        let (polled, moves) = MOVES.sync_scope(Cell::new(false), || {
            let polled = answer.as_mut().poll(context);
            (polled, MOVES.with(Cell::get))
        });
        if polled.is_pending() && !moves {
            return Poll::Pending;
        }
        if polled.is_pending()
            && let (Some(answer), Some(door)) = (self.answer.take(), self.door.upgrade())
        {
            door.enter(answer);
        }
        Poll::Ready(())
    }
}

// === impl Driver ===

impl<S: AsyncWrite + Unpin> Driver<S> {
    pub fn new(streams: Streams, cork: Cork<S>) -> Driver<S> {
        Driver {
            streams,
            lodgers: FuturesUnordered::new(),
            cork,
        }
    }

    /// Polls a connection until it is over. Cancel-safe.
    pub async fn drive<C: Future>(&mut self, mut connection: Pin<&mut C>) -> C::Output {
        poll_fn(|context| {
            self.poll_lodgers(context);
            let polled = connection.as_mut().poll(context);
            // What goes wrong here the connection meets on its next write.
            _ = self.cork.poll_send(context);
            polled
        })
        .await
    }

    fn poll_lodgers(&mut self, context: &mut Context<'_>) {
        self.streams.0.waker.register(context.waker());
        let arrived = std::mem::take(&mut self.streams.0.arrived().answers);
        let lodgers = arrived
            .into_iter()
            .map(|answer| AssertUnwindSafe(answer).catch_unwind());
        self.lodgers.extend(lodgers);
        while let Poll::Ready(Some(_)) = self.lodgers.poll_next_unpin(context) {}
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        let mut arrived = self.streams.0.arrived();
        arrived.closed = true;
        let answers = std::mem::take(&mut arrived.answers);
        drop(arrived);
        drop(answers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cork::cork;
    use std::pin::pin;
    use tokio::sync::mpsc;
    use tokio::task::Id;

    /// Tells which task polls it, and moves in the first time; panics the second time where `panics`.
    fn answer(streams: &Streams, panics: bool) -> mpsc::UnboundedReceiver<Option<Id>> {
        let (tell, told) = mpsc::unbounded_channel();
        let mut polls = 0;
        streams.execute(poll_fn(move |_| {
            polls += 1;
            move_in();
            _ = tell.send(tokio::task::try_id());
            assert!(!panics || polls == 1, "as told");
            if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
        }));
        told
    }

    #[tokio::test]
    async fn an_answer_moves_in_with_its_connection() {
        let streams = Streams::default();
        let (_corked, cork) = cork(tokio::io::sink());
        let mut driver = Driver::new(streams.clone(), cork);
        let mut broken = answer(&streams, true);
        let mut whole = answer(&streams, false);
        let connection = pin!(async {
            let mut seen = Vec::new();
            for told in [&mut broken, &mut whole] {
                while let Some(id) = told.recv().await {
                    seen.push(id.is_some());
                }
            }
            seen
        });
        let seen = driver.drive(connection).await;
        assert_eq!(
            seen,
            [true, false, true, false],
            "first its own task, then the test, which is none"
        );
        drop(driver);
        let mut late = answer(&streams, false);
        assert!(late.recv().await.is_some());
        assert_eq!(late.recv().await, None, "nobody drives it any more");
    }
}
