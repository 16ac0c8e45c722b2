//! W3C trace context, and what is measured of one request on its way: ambient for the request's own task.
//!
//! This server exports no spans, so it adds none: the caller's parent id is passed on as it is, and the trace stays in one
//! piece. Where sampling is configured, a request that belongs to no trace starts one. See <https://www.w3.org/TR/trace-context>.
// PERFORMANCE: per-request path

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The identity of a trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// What a `traceparent` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub id: TraceId,
    parent: u64,
    flags: u8,
}

/// One request, as long as it is under way.
#[derive(Debug, Default)]
pub struct Scope {
    trace: Option<TraceContext>,
    /// The client wants the trace recorded, and may.
    sampled: AtomicBool,
    /// Microseconds.
    spent: [AtomicU64; 4],
    attempts: AtomicU32,
    user: OnceLock<String>,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A place among the requests under way.
    Queue,
    /// An extension API server's answer, retries included.
    Backend,
    /// Mutating and validating webhooks.
    Webhook,
    /// A connection to a backend.
    Connect,
}

const SAMPLED: u8 = 1;

tokio::task_local! {
    static CURRENT: Arc<Scope>;
}

/// Runs `future` as the handling of `scope`'s request.
pub async fn within<F: Future>(scope: Arc<Scope>, future: F) -> F::Output {
    CURRENT.scope(scope, future).await
}

/// The request this task handles, where it is one that is followed.
pub fn current() -> Option<Arc<Scope>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// The trace of the request this task handles, if it is recorded.
pub fn sampled() -> Option<TraceId> {
    CURRENT.try_with(|scope| scope.sampled()).ok().flatten()
}

/// Adds to what the request of this task has waited for.
pub fn spent(wait: Wait, time: Duration) {
    let _not_followed = CURRENT.try_with(|scope| {
        scope.spent[wait as usize].fetch_add(micros(time), Ordering::Relaxed);
    });
}

/// Counts an attempt to send the request of this task to a backend.
pub fn attempted() {
    let _not_followed = CURRENT.try_with(|scope| scope.attempts.fetch_add(1, Ordering::Relaxed));
}

/// The `traceparent` to send along with what the request of this task makes necessary.
pub fn header() -> Option<String> {
    CURRENT
        .try_with(|scope| scope.trace.map(|trace| trace.to_string()))
        .ok()
        .flatten()
}

// === impl Scope ===

impl Scope {
    pub fn new(trace: Option<TraceContext>) -> Scope {
        let sampled = trace.is_some_and(|t| t.flags & SAMPLED != 0);
        Scope {
            trace,
            sampled: AtomicBool::new(sampled),
            ..Scope::default()
        }
    }

    /// The trace, if it is recorded.
    pub fn sampled(&self) -> Option<TraceId> {
        self.trace
            .filter(|_| self.sampled.load(Ordering::Relaxed))
            .map(|trace| trace.id)
    }

    /// The trace, recorded or not.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.trace.map(|trace| trace.id)
    }

    /// Who makes the request. `trusted` is false for strangers, who do not get to say what is recorded.
    pub fn identify(&self, user: &str, trusted: bool) {
        let _only_once = self.user.set(user.to_owned());
        if !trusted {
            self.sampled.store(false, Ordering::Relaxed);
        }
    }

    /// Empty before the request is authenticated, and where it is not.
    pub fn user(&self) -> &str {
        self.user.get().map_or("", String::as_str)
    }

    pub fn spent(&self, wait: Wait) -> Duration {
        Duration::from_micros(self.spent[wait as usize].load(Ordering::Relaxed))
    }

    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }
}

// === impl TraceContext ===

impl TraceContext {
    /// Reads a `traceparent`; `None` for one that must be ignored.
    pub fn parse(header: &str) -> Option<TraceContext> {
        let mut parts = header.split('-');
        let version = hex(parts.next()?, 2)?;
        let id = hex(parts.next()?, 32)?;
        let parent = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        let more = parts.next().is_some();
        // Later versions may say more behind what this one says.
        if version == 0xff || (version == 0 && more) || id == 0 || parent == 0 {
            return None;
        }
        Some(TraceContext {
            id: TraceId(id),
            parent: u64::try_from(parent).ok()?,
            flags: u8::try_from(flags).ok()?,
        })
    }

    /// A recorded trace that begins here, of three random numbers.
    pub fn start(random: [u64; 3]) -> TraceContext {
        let id = (u128::from(random[0]) << 64) | u128::from(random[1]);
        TraceContext {
            id: TraceId(id.max(1)),
            parent: random[2].max(1),
            flags: SAMPLED,
        }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.id, self.parent, self.flags & SAMPLED)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let plain = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(plain))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn headers_are_read_as_the_standard_says() {
        let read = TraceContext::parse(GOOD).unwrap();
        assert_eq!(read.to_string(), GOOD);
        assert_eq!(read.id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        let later = GOOD.replacen("00", "cc", 1) + "-what-the-future-says";
        assert_eq!(TraceContext::parse(&later), Some(read));
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333+-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_spent_is_the_requests_own() {
        let scope = Arc::new(Scope::new(TraceContext::parse(GOOD)));
        spent(Wait::Queue, Duration::from_secs(9));
        within(scope.clone(), async {
            spent(Wait::Backend, Duration::from_millis(2));
            spent(Wait::Backend, Duration::from_millis(3));
            attempted();
            assert_eq!(header().unwrap(), GOOD);
            assert!(sampled().is_some());
        })
        .await;
        assert_eq!(scope.spent(Wait::Backend), Duration::from_millis(5));
        assert_eq!((scope.spent(Wait::Queue), scope.attempts()), (Duration::ZERO, 1));
        assert_eq!((header(), sampled()), (None, None));
    }

    #[test]
    fn strangers_do_not_choose_what_is_recorded() {
        let scope = Scope::new(TraceContext::parse(GOOD));
        scope.identify("system:anonymous", false);
        assert_eq!(scope.sampled(), None);
        assert!(scope.trace_id().is_some());
    }

    #[test]
    fn a_trace_that_begins_here_is_recorded() {
        let started = TraceContext::start([0, 0, 0]);
        assert_eq!(TraceContext::parse(&started.to_string()), Some(started));
        assert!(Scope::new(Some(started)).sampled().is_some());
    }
}
