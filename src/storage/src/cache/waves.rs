//! [`Waiters`]: those who wait for a lane's events, and when they are woken.
//!
//! Where few wait, or nothing has happened for a while, every event wakes them at once. Where many wait and events follow
//! each other closely, they are woken in waves: the events between two waves are one wake, one piece and one write for
//! each watcher. Nobody has a timer of its own; [`Pace`] is one for the whole cache.
// PERFORMANCE: per-request path

use crate::cache::WatchScope;
use crate::feed::lock;
use futures_util::task::AtomicWaker;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Fewer than this are woken by every event, as soon as it is there.
pub(super) const FEW: usize = 32;
/// What one waiter adds to the time between two waves: a little more than it takes to serve one.
const EACH: Duration = Duration::from_micros(10);
/// No event is held back for longer.
const LONGEST: Duration = Duration::from_millis(20);
/// Revisions are below this: whoever may see it may see all.
const ALL: u64 = u64::MAX;

/// Those who wait for events of one scope.
#[derive(Debug)]
pub(super) struct Waiters {
    wakers: BTreeMap<u64, Arc<AtomicWaker>>,
    /// Up to which revision they may read: as far as the last wave, so that all read the same pieces.
    shown: AtomicU64,
    /// When the last wave was, in microseconds of [`Moment`].
    last: AtomicU64,
    /// Whether a wave is still to come for what has happened since.
    owed: AtomicBool,
}

/// When something happened, and up to which revision it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub revision: u64,
    pub micros: u64,
}

/// Lanes that are owed a wave, and when.
#[derive(Debug)]
pub(super) struct Pace {
    owed: Mutex<Vec<(u64, WatchScope)>>,
    told: Notify,
    epoch: Instant,
}

// === impl Waiters ===

impl Default for Waiters {
    fn default() -> Waiters {
        Waiters {
            wakers: BTreeMap::new(),
            shown: AtomicU64::new(ALL),
            last: AtomicU64::new(0),
            owed: AtomicBool::new(false),
        }
    }
}

impl Waiters {
    pub fn insert(&mut self, id: u64, waker: Arc<AtomicWaker>) {
        self.wakers.insert(id, waker);
    }

    pub fn remove(&mut self, id: u64) {
        self.wakers.remove(&id);
    }

    pub fn len(&self) -> usize {
        self.wakers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }

    pub fn are_many(&self) -> bool {
        self.len() >= FEW
    }

    /// Up to which revision events may be read.
    pub fn shown(&self) -> u64 {
        self.shown.load(Ordering::Acquire)
    }

    /// Something has happened for them: wakes them, or answers when they are to be, where nobody has been told yet.
    pub fn tell(&self, at: Moment) -> Option<u64> {
        let due = self.last.load(Ordering::Relaxed) + self.interval();
        if at.micros >= due {
            self.wake(at);
            return None;
        }
        (!self.owed.swap(true, Ordering::Relaxed)).then_some(due)
    }

    /// Wakes them for everything there is.
    pub fn wake(&self, at: Moment) {
        self.owed.store(false, Ordering::Relaxed);
        self.last.store(at.micros, Ordering::Relaxed);
        let shown = if self.are_many() { at.revision } else { ALL };
        self.shown.store(shown, Ordering::Release);
        self.wakers.values().for_each(|waker| waker.wake());
    }

    /// Wakes them, and hides nothing until the next event.
    pub fn wake_for_all(&self) {
        self.shown.store(ALL, Ordering::Release);
        self.wakers.values().for_each(|waker| waker.wake());
    }

    /// The least time between two waves, in microseconds.
    fn interval(&self) -> u64 {
        if !self.are_many() {
            return 0;
        }
        let waiters = u32::try_from(self.len()).unwrap_or(u32::MAX);
        micros(EACH.saturating_mul(waiters).min(LONGEST))
    }
}

// === impl Pace ===

impl Pace {
    pub fn new() -> Pace {
        Pace {
            owed: Mutex::default(),
            told: Notify::new(),
            epoch: Instant::now(),
        }
    }

    /// Now. The first moment is late enough for nobody to have been woken shortly before.
    pub fn moment(&self, revision: u64) -> Moment {
        Moment {
            revision,
            micros: micros(LONGEST + self.epoch.elapsed()),
        }
    }

    pub fn owe(&self, lanes: Vec<(u64, WatchScope)>) {
        if !lanes.is_empty() {
            lock(&self.owed).extend(lanes);
            self.told.notify_one();
        }
    }

    /// Waits until a wave is due. Answers whose.
    pub async fn due(&self) -> Vec<WatchScope> {
        loop {
            let first = lock(&self.owed).iter().map(|(due, _)| *due).min();
            let Some(first) = first else {
                self.told.notified().await;
                continue;
            };
            let moment = self.epoch + Duration::from_micros(first).saturating_sub(LONGEST);
            tokio::select! {
                () = sleep_until(moment) => {}
                () = self.told.notified() => continue,
            }
            let due = lock(&self.owed)
                .extract_if(.., |(due, _)| *due <= first)
                .map(|(_, scope)| scope)
                .collect();
            return due;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waiting(count: u64) -> (Waiters, Vec<(Arc<AtomicWaker>, Arc<Woken>)>) {
        let mut waiters = Waiters::default();
        let told: Vec<(Arc<AtomicWaker>, Arc<Woken>)> = (0..count).map(|_| Default::default()).collect();
        for (id, (waker, _)) in (0..).zip(&told) {
            waiters.insert(id, waker.clone());
        }
        (waiters, told)
    }

    /// How often each has been woken since they were last asked.
    fn woken(told: &[(Arc<AtomicWaker>, Arc<Woken>)]) -> u32 {
        let counts: Vec<u32> = told
            .iter()
            .map(|(_, woken)| woken.0.swap(0, Ordering::SeqCst))
            .collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "all or nobody");
        told.iter()
            .for_each(|(waker, woken)| waker.register(&woken.clone().into()));
        counts[0]
    }

    fn at(micros: u64) -> Moment {
        Moment {
            revision: micros,
            micros,
        }
    }

    #[test]
    fn one_event_wakes_many_at_once_and_what_follows_closely_waits_for_the_next_wave() {
        let (waiters, told) = waiting(1000);
        woken(&told);
        assert_eq!(waiters.tell(at(50_000)), None);
        assert_eq!(
            (woken(&told), waiters.shown()),
            (1, 50_000),
            "nothing had happened for a while"
        );
        assert_eq!(waiters.tell(at(51_000)), Some(60_000), "10 ms for 1000");
        assert_eq!(waiters.tell(at(52_000)), None, "somebody has been told");
        assert_eq!(
            (woken(&told), waiters.shown()),
            (0, 50_000),
            "and it cannot be read before"
        );
        waiters.wake(at(60_100));
        assert_eq!((woken(&told), waiters.shown()), (1, 60_100));
        assert_eq!(waiters.tell(at(70_100)), None);
        assert_eq!(woken(&told), 1, "far enough from the last wave");
    }

    #[test]
    fn few_are_never_held_back() {
        let (waiters, told) = waiting(FEW as u64 - 1);
        woken(&told);
        for moment in 50_000..50_005 {
            assert_eq!(waiters.tell(at(moment)), None);
            assert_eq!((woken(&told), waiters.shown()), (1, ALL));
        }
    }

    #[test]
    fn no_wave_is_later_than_the_longest() {
        let (waiters, _) = waiting(50_000);
        waiters.wake(at(100_000));
        assert_eq!(waiters.tell(at(100_001)), Some(120_000));
    }

    #[tokio::test(start_paused = true)]
    async fn waves_come_when_they_are_due() {
        let pace = Pace::new();
        let start = Instant::now();
        let first = pace.moment(1).micros;
        let key = |name: &str| WatchScope::Key(name.into());
        pace.owe(vec![
            (first + 9_000, key("b")),
            (first + 5_000, key("a")),
            (first + 5_000, WatchScope::All),
        ]);
        assert_eq!(pace.due().await, [key("a"), WatchScope::All]);
        assert_eq!(start.elapsed(), Duration::from_millis(5));
        assert_eq!(pace.due().await, [key("b")]);
        assert_eq!(start.elapsed(), Duration::from_millis(9));
    }
}
