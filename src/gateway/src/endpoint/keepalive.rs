//! Whether anybody is still at the other end of an HTTP/2 connection: it is asked when it has been quiet for a while with
//! requests under way; less often where all of them only read on, as watches do for hours, and there are many of these.
// PERFORMANCE: per-request path

use super::http2::State;
use crate::health::patient::PatientSleep;
use h2::{Ping, PingPong};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

pub struct KeepAlive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: PatientSleep,
    stage: Stage,
    readers: Readers,
    /// While answers are only read on.
    reader: Option<Reader>,
}

enum Stage {
    /// Nothing is under way, and so nothing is wanted to be known.
    Resting,
    /// Until the timer runs out, anything that is heard will do.
    Listening,
    /// The same, for longer where there are many of these; until somebody waits for an answer.
    Reading,
    /// A ping is under way.
    Asked,
}

/// The connections on which answers are only read on. They share a budget: hundreds of backends that are watched cost no
/// more than a few. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readers(Arc<AtomicUsize>);

/// One of them, until it is dropped.
struct Reader(Readers);

/// Between two pings, of all that only read on together.
const PING_PAUSE: Duration = Duration::from_millis(10);
/// How many times longer one of them may be quiet at most. Longer than a backend at rest is not asked what it serves: so
/// hundreds of them cost no ping at all.
const LONGER: u32 = 10;

impl KeepAlive {
    pub fn new(pings: PingPong, readers: Readers, interval: Duration, timeout: Duration) -> KeepAlive {
        KeepAlive {
            pings,
            interval,
            timeout,
            timer: PatientSleep::until(Instant::now() + interval),
            stage: Stage::Resting,
            readers,
            reader: None,
        }
    }

    /// Ready when nobody is there. To be polled whenever the connection is, which a new request sees to.
    pub fn poll(&mut self, context: &mut Context, state: &State) -> Poll<()> {
        loop {
            match self.stage {
                Stage::Resting => {
                    if state.streams.load(Ordering::Relaxed) == 0 {
                        self.reader = None;
                        return Poll::Pending;
                    }
                    match state.unanswered.load(Ordering::Relaxed) {
                        0 => self.read_on(state),
                        _ => self.listen(state),
                    }
                }
                Stage::Reading if state.unanswered.load(Ordering::Relaxed) > 0 => self.listen(state),
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

    fn listen(&mut self, state: &State) {
        self.reader = None;
        state.heard.store(false, Ordering::Relaxed);
        self.begin(Stage::Listening, self.interval);
    }

    fn read_on(&mut self, state: &State) {
        self.reader.get_or_insert_with(|| self.readers.join());
        state.heard.store(false, Ordering::Relaxed);
        self.begin(Stage::Reading, self.readers.quiet(self.interval));
    }

    fn begin(&mut self, stage: Stage, time: Duration) {
        self.stage = stage;
        self.timer.reset(Instant::now() + time);
    }
}

// === impl Readers ===

impl Readers {
    fn join(&self) -> Reader {
        self.0.fetch_add(1, Ordering::Relaxed);
        Reader(self.clone())
    }

    /// How long one of them may be quiet.
    fn quiet(&self, interval: Duration) -> Duration {
        let all = u32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let fair = PING_PAUSE.saturating_mul(all);
        fair.clamp(interval, interval.saturating_mul(LONGER))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::http2::Connection;
    use super::super::{Endpoint, Release, Tuning};
    use super::*;
    use crate::body::{Body, Replay};
    use crate::layers::testing;
    use crate::resolve::Target;
    use fairlead_telemetry::task::spawn;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    /// A watch that nothing happens on.
    struct Watch {
        body: Body,
        _connection: Connection,
        /// How often the backend was sent something.
        sent: Arc<AtomicUsize>,
        vanish: oneshot::Sender<()>,
    }

    impl Watch {
        async fn begin(readers: &Readers) -> Watch {
            let ((near, here), (there, far)) = (duplex(1 << 16), duplex(1 << 16));
            let (vanish, vanished) = oneshot::channel();
            let sent = Arc::new(AtomicUsize::new(0));
            drop(spawn("test wire", wire(here, there, sent.clone(), vanished)));
            drop(spawn("test backend", serve(far)));
            let (connection, driving) = Connection::open(near, &Tuning::default(), readers).await.unwrap();
            drop(spawn("test connection", driving));
            let target = Target::Address("192.0.2.1:443".parse().unwrap());
            let endpoint = Arc::new(Endpoint::new(target, &testing::metrics()));
            let release = |stream| Release {
                endpoint: endpoint.clone(),
                http1: None,
                _stream: Some(stream),
                _load: endpoint.begin(),
                max_idle: 0,
                idle_timeout: Duration::ZERO,
            };
            let request = Request::get("https://backend/things?watch=1").body(Replay::empty().attempt());
            let answer = connection.lease().send(request.unwrap(), release).await.unwrap();
            Watch {
                body: answer.into_body(),
                _connection: connection,
                sent,
                vanish,
            }
        }

        /// How long it takes until it is known that the backend's machine is gone.
        async fn noticed(mut self) -> Duration {
            let started = Instant::now();
            self.vanish.send(()).unwrap();
            assert!(self.body.frame().await.unwrap().is_err());
            started.elapsed()
        }
    }

    /// Passes bytes on until it vanishes, and says nothing of that.
    async fn wire(here: DuplexStream, there: DuplexStream, sent: Arc<AtomicUsize>, vanished: oneshot::Receiver<()>) {
        let (mut from_client, mut to_client) = split(here);
        let (mut from_backend, mut to_backend) = split(there);
        let passing = async {
            let forth = async {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                    sent.fetch_add(1, Ordering::SeqCst);
                    to_backend.write_all(&buffer[..n]).await.unwrap();
                }
            };
            drop(tokio::join!(forth, tokio::io::copy(&mut from_backend, &mut to_client)));
        };
        let mut passing = std::pin::pin!(passing);
        tokio::select! {
            () = &mut passing => {}
            _ = vanished => std::future::pending().await,
        }
    }

    /// Answers one request, and goes on answering pings.
    async fn serve(io: DuplexStream) {
        let mut connection = h2::server::handshake(io).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let _open = respond.send_response(Response::new(()), false).unwrap();
        while connection.accept().await.is_some() {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_vanishes_behind_a_quiet_watch_is_noticed_within_a_second() {
        let watch = Watch::begin(&Readers::default()).await;
        sleep(Duration::from_secs(60)).await;
        let took = watch.noticed().await;
        // Beside the patience of timers.
        assert!(took <= Duration::from_millis(1_050), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_quiet_watches_share_a_hundred_pings_a_second() {
        let readers = Readers::default();
        let mut watches = Vec::new();
        for _ in 0..200 {
            watches.push(Watch::begin(&readers).await);
        }
        sleep(Duration::from_secs(5)).await;
        let sent = || -> usize { watches.iter().map(|w| w.sent.load(Ordering::SeqCst)).sum() };
        let before = sent();
        sleep(Duration::from_secs(10)).await;
        let pings = sent() - before;
        assert!((900..=1_100).contains(&pings), "{pings}");
        let took = watches.pop().unwrap().noticed().await;
        assert!(took <= Duration::from_millis(2_850), "{took:?}");
        // Those that are left may be asked as often as if they had always been alone.
        watches.truncate(1);
        sleep(Duration::from_secs(5)).await;
        let took = watches.pop().unwrap().noticed().await;
        assert!(took <= Duration::from_millis(1_050), "{took:?}");
    }
}
