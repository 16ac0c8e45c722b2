//! Timers that do not blame others for our own delays.
//!
//! On a starved machine a timer fires late, and what arrived meanwhile has not been read. Whoever then says that the
//! peer was silent is wrong: so a timer that has run out lets the event loop go round once more, for longer the later
//! it fired.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Even a punctual timer waits for this long, so that what arrived together with it is read first.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(2);
const MOST_GRANTS: u8 = 3;

/// A timer that has run out only when what arrived in time has been read.
pub struct PatientSleep {
    inner: Pin<Box<tokio::time::Sleep>>,
    /// How often it has run out and been given more time.
    granted: u8,
}

impl PatientSleep {
    pub fn until(deadline: tokio::time::Instant) -> PatientSleep {
        PatientSleep {
            inner: Box::pin(tokio::time::sleep_until(deadline)),
            granted: 0,
        }
    }

    /// Starts it again.
    pub fn reset(&mut self, deadline: tokio::time::Instant) {
        self.inner.as_mut().reset(deadline);
        self.granted = 0;
    }
}

impl Future for PatientSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<()> {
        loop {
            ready!(self.inner.as_mut().poll(context));
            let now = tokio::time::Instant::now();
            let lateness = now.saturating_duration_since(self.inner.deadline());
            // Patience itself may have been starved.
            let punctual = self.granted > 0 && lateness < SHORTEST;
            if punctual || self.granted == MOST_GRANTS {
                return Poll::Ready(());
            }
            self.granted += 1;
            self.inner.as_mut().reset(now + (lateness * 2).clamp(SHORTEST, LONGEST));
        }
    }
}

/// Like tokio's, with a patient timer. `None` when the time is over.
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    let deadline = tokio::time::Instant::now() + duration;
    tokio::select! {
        biased;
        done = future => Some(done),
        () = PatientSleep::until(deadline) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// What arrived while this thread did something else was in time.
    #[tokio::test]
    async fn a_delay_of_our_own_is_not_the_peers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go, told) = std::sync::mpsc::channel();
        let answering = std::thread::spawn(move || {
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            told.recv().unwrap();
            stream.write_all(b"x").unwrap();
            stream
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        let mut reading = std::pin::pin!(timeout(Duration::from_millis(50), stream.read_exact(&mut byte)));
        assert!(futures_util::poll!(&mut reading).is_pending());
        // The peer has answered by the time it is joined; only we have not looked.
        go.send(()).unwrap();
        let _open = answering.join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(reading.await.expect("read in time").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_soon_after_its_time() {
        let started = tokio::time::Instant::now();
        assert_eq!(
            timeout(Duration::from_secs(1), std::future::pending::<()>()).await,
            None
        );
        let took = started.elapsed();
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_millis(1_100),
            "{took:?}"
        );
        assert_eq!(timeout(Duration::from_secs(1), async { 7 }).await, Some(7));
    }
}
