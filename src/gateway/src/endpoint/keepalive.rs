//! Whether anybody is still at the other end of an HTTP/2 connection: it is asked when it has been quiet for a while with
//! requests under way; less often where all of them have their answer and only read on, as watches do for hours.
// PERFORMANCE: per-request path

use super::http2::State;
use crate::health::patient::PatientSleep;
use h2::{Ping, PingPong};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

pub struct KeepAlive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: PatientSleep,
    stage: Stage,
}

enum Stage {
    /// Nothing is under way, and so nothing is wanted to be known.
    Resting,
    /// Until the timer runs out, anything that is heard will do.
    Listening,
    /// The same for longer, until somebody waits for an answer.
    Reading,
    /// A ping is under way.
    Asked,
}

/// How many times longer a connection may be quiet on which nobody waits for an answer. Longer than a backend at rest is
/// not asked what it serves: so hundreds of them that are watched cost no ping at all.
const READING: u32 = 10;

impl KeepAlive {
    pub fn new(pings: PingPong, interval: Duration, timeout: Duration) -> KeepAlive {
        KeepAlive {
            pings,
            interval,
            timeout,
            timer: PatientSleep::until(Instant::now() + interval),
            stage: Stage::Resting,
        }
    }

    /// Ready when nobody is there. To be polled whenever the connection is, which a new request sees to.
    pub fn poll(&mut self, context: &mut Context, state: &State) -> Poll<()> {
        loop {
            match self.stage {
                Stage::Resting => {
                    if state.streams.load(Ordering::Relaxed) == 0 {
                        return Poll::Pending;
                    }
                    state.heard.store(false, Ordering::Relaxed);
                    match state.unanswered.load(Ordering::Relaxed) {
                        0 => self.begin(Stage::Reading, self.interval * READING),
                        _ => self.begin(Stage::Listening, self.interval),
                    }
                }
                Stage::Reading if state.unanswered.load(Ordering::Relaxed) > 0 => {
                    state.heard.store(false, Ordering::Relaxed);
                    self.begin(Stage::Listening, self.interval);
                }
                Stage::Listening | Stage::Reading => {
                    ready!(Pin::new(&mut self.timer).poll(context));
                    if state.heard.swap(false, Ordering::Relaxed) || state.streams.load(Ordering::Relaxed) == 0 {
                        self.stage = Stage::Resting;
                        continue;
                    }
                    // It fails only where the connection has ended, or a ping is under way already.
                    let _ = self.pings.send_ping(Ping::opaque());
                    self.begin(Stage::Asked, self.timeout);
                }
                Stage::Asked => {
                    if self.pings.poll_pong(context).is_ready() {
                        self.stage = Stage::Resting;
                        continue;
                    }
                    ready!(Pin::new(&mut self.timer).poll(context));
                    if !state.heard.swap(false, Ordering::Relaxed) {
                        return Poll::Ready(());
                    }
                    // Much is being read, and the answer stands at its end.
                    self.begin(Stage::Asked, self.timeout);
                }
            }
        }
    }

    fn begin(&mut self, stage: Stage, time: Duration) {
        self.stage = stage;
        self.timer.reset(Instant::now() + time);
    }
}
