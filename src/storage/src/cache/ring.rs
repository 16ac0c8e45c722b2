//! [`Ring`]: the newest events of a cache, bounded in bytes, and who waits for more of them.
// PERFORMANCE: per-request path

use crate::cache::lanes::Lanes;
use crate::cache::waves::{Moment, Waiters};
use crate::cache::{CacheEvent, WatchScope};
use crate::cached::Cached;
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::Arc;

/// What an event costs besides its objects.
const EVENT_BYTES: usize = 256;
/// The sequence number of the first event to come; earlier ones may be put in front.
const MIDDLE: u64 = 1 << 62;

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Event {
    pub revision: u64,
    pub object: Arc<Cached>,
    pub previous: Option<Arc<Cached>>,
    pub deleted: bool,
}

/// Events in the order of their revisions. Watchers hold a revision as their cursor and look for what follows it.
///
/// Watchers of a namespace, a key or a field's value have a *lane*: the sequence numbers of their events, so that they
/// neither look at other events nor are lost because of them.
#[derive(Debug)]
pub(crate) struct Ring {
    events: VecDeque<Event>,
    /// The sequence number of the first event.
    first: u64,
    bytes: usize,
    limit: usize,
    /// All events above this revision are here.
    floor: u64,
    /// Everything up to here has been applied.
    pub revision: u64,
    all: Waiters,
    lanes: Lanes,
    next_id: u64,
    /// How often everything was forgotten.
    resets: u64,
}

/// Where a ring begins: what may be put in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    pub floor: u64,
    /// Bytes there is room for.
    pub room: usize,
    resets: u64,
}

/// How far a watcher is: it has seen everything up to `revision`, or a part of that revision's events. etcd makes several
/// changes in one revision, when a lease ends for instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    revision: u64,
    /// Of the events of `revision`, those with lower sequence numbers have been seen.
    seen: u64,
}

/// What follows a cursor.
pub(crate) enum Next {
    /// An event, and the cursor behind it.
    Event(Cursor, CacheEvent),
    /// Nothing; the revision up to which there is nothing.
    Idle(u64),
    /// Something that is no longer known; the first revision that can be watched from.
    Lost(u64),
}

impl Ring {
    pub fn new(limit: usize) -> Ring {
        Ring {
            events: VecDeque::new(),
            first: MIDDLE,
            bytes: 0,
            limit,
            floor: 0,
            revision: 0,
            all: Waiters::default(),
            lanes: Lanes::default(),
            next_id: 0,
            resets: 0,
        }
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Forgets everything: the state at `revision` did not come from events. Nothing has happened since `floor`.
    pub fn reset(&mut self, revision: u64, floor: u64) {
        self.first += self.events.len() as u64;
        self.events.clear();
        self.bytes = 0;
        self.floor = floor;
        self.revision = revision;
        self.resets += 1;
        self.lanes.each(|lane| {
            lane.events.clear();
            lane.floor = floor;
        });
    }

    /// Events, the bytes they take, and the bytes they may take.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.events.len(), self.bytes, self.limit)
    }

    pub fn watchers(&self) -> usize {
        self.all.len() + self.lanes.watchers()
    }

    /// What may be put in front of the first event.
    pub fn front(&self) -> Front {
        Front {
            floor: self.floor,
            room: self.limit.saturating_sub(self.bytes),
            resets: self.resets,
        }
    }

    /// Puts events that were before the first one in front, as many as fit; all of those above `after` are there.
    /// Does nothing where the ring no longer begins at `front`. Lanes that exist need none of them: their watchers are
    /// past them.
    pub fn prepend(&mut self, front: Front, events: Vec<Event>, after: u64) {
        if (front.floor, front.resets) != (self.floor, self.resets) {
            return;
        }
        for event in events.into_iter().rev() {
            if self.bytes + event.bytes() > self.limit {
                self.floor = event.revision;
                return;
            }
            self.bytes += event.bytes();
            self.first -= 1;
            self.events.push_front(event);
        }
        self.floor = self.floor.min(after);
    }

    /// Takes in what happened up to `revision`.
    pub fn append(&mut self, events: Vec<Event>, revision: u64) {
        for event in events {
            self.push(event);
        }
        self.revision = self.revision.max(revision);
    }

    fn push(&mut self, event: Event) {
        let sequence = self.first + self.events.len() as u64;
        self.lanes.each_of(&event, |lane| lane.events.push_back(sequence));
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.bytes > self.limit && self.events.len() > 1 {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        self.bytes -= event.bytes();
        self.floor = event.revision;
        let first = self.first;
        self.lanes.each_of(&event, |lane| {
            if lane.events.pop_front_if(|sequence| *sequence == first).is_some() {
                lane.floor = event.revision;
            }
        });
        self.first += 1;
    }

    /// Those who wait for the events of a scope; none where it has no watchers.
    pub fn waiters(&self, scope: &WatchScope) -> Option<&Waiters> {
        match scope {
            WatchScope::All => Some(&self.all),
            scope => self.lanes.get(scope).map(|lane| &lane.waiters),
        }
    }

    /// As [`Ring::next`], as far as the scope's watchers have been told.
    pub fn next_shown(&self, scope: &WatchScope, cursor: Cursor) -> Next {
        let shown = self.waiters(scope).map_or(u64::MAX, Waiters::shown);
        match self.next(scope, cursor) {
            Next::Event(behind, _) if behind.revision > shown => Next::Idle(shown),
            next => next,
        }
    }

    /// The first event in `scope` above `cursor`. O(log n).
    pub fn next(&self, scope: &WatchScope, cursor: Cursor) -> Next {
        let lane = self.lanes.get(scope);
        let floor = lane.map_or(self.floor, |lane| lane.floor);
        // The rest of the revision that was being read may have gone, too.
        let cut = cursor.is_inside() && cursor.revision == floor && cursor.seen < self.first;
        if cursor.revision < floor || cut {
            return Next::Lost(self.floor.max(floor));
        }
        let (sequence, following) = match lane {
            None => {
                let at = self.events.partition_point(|event| event.revision < cursor.revision);
                let inside = self
                    .events
                    .range(at..)
                    .take_while(|event| event.revision == cursor.revision);
                let seen = (self.first + at as u64..).zip(inside);
                let seen = seen
                    .take_while(|(sequence, event)| cursor.has_seen(event.revision, *sequence))
                    .count();
                let place = |at: usize| (at < self.events.len()).then_some(self.first + at as u64);
                (place(at + seen), place(at + seen + 1))
            }
            Some(lane) => {
                let seen = |sequence: &u64| cursor.has_seen(self.event(*sequence).revision, *sequence);
                let at = lane.events.partition_point(seen);
                (lane.events.get(at).copied(), lane.events.get(at + 1).copied())
            }
        };
        let Some(sequence) = sequence else {
            return Next::Idle(self.revision);
        };
        let event = self.event(sequence);
        let inside = following.is_some_and(|following| self.event(following).revision == event.revision);
        let behind = Cursor {
            revision: event.revision,
            seen: if inside { sequence + 1 } else { u64::MAX },
        };
        Next::Event(behind, event.to_cache_event())
    }

    /// The event of exactly this revision.
    pub fn at(&self, revision: u64) -> Option<&Event> {
        let at = self.events.partition_point(|event| event.revision < revision);
        self.events.get(at).filter(|event| event.revision == revision)
    }

    /// Events above `after` and not above `to`, newest first; `None` where some are gone.
    pub fn undo(&self, after: u64, to: u64) -> Option<impl Iterator<Item = &Event>> {
        let from = self.events.partition_point(|event| event.revision <= after);
        let end = self.events.partition_point(|event| event.revision <= to);
        (after >= self.floor).then(|| self.events.range(from..end).rev())
    }

    /// Registers a watcher that has seen everything up to `cursor`; `Err` where what follows is no longer known.
    pub fn subscribe(&mut self, scope: &WatchScope, cursor: u64, waker: Arc<AtomicWaker>) -> Result<u64, u64> {
        self.next_id += 1;
        let id = self.next_id;
        if *scope == WatchScope::All {
            if cursor < self.floor {
                return Err(self.floor);
            }
            self.all.insert(id, waker);
            return Ok(id);
        }
        if self.lanes.get(scope).is_none_or(|lane| cursor < lane.floor) {
            if cursor < self.floor {
                return Err(self.floor);
            }
            self.fill_lane(scope, cursor.min(self.revision));
        }
        if let Some(lane) = self.lanes.entry(scope) {
            lane.waiters.insert(id, waker);
        }
        Ok(id)
    }

    pub fn unsubscribe(&mut self, scope: &WatchScope, id: u64) {
        match scope {
            WatchScope::All => self.all.remove(id),
            scope => self.lanes.leave(scope, id),
        }
    }

    /// Tells the watchers whose scope has one of the changes: wakes them, or answers whom to wake when.
    pub fn tell(&self, changed: &[(Arc<Cached>, Option<Arc<Cached>>)], at: Moment) -> Vec<(u64, WatchScope)> {
        let mut owed = Vec::new();
        if !changed.is_empty() {
            owed.extend(self.all.tell(at).map(|due| (due, WatchScope::All)));
            self.lanes.tell(changed, at, &mut owed);
        }
        owed
    }

    /// Wakes the watchers of these scopes, whose waves are due.
    pub fn wake(&self, scopes: &[WatchScope], at: Moment) {
        let waiters = scopes.iter().filter_map(|scope| self.waiters(scope));
        waiters.for_each(|waiters| waiters.wake(at));
    }

    pub fn wake_everyone(&self) {
        self.all.wake_for_all();
        self.lanes.iter().for_each(|lane| lane.waiters.wake_for_all());
    }

    fn fill_lane(&mut self, scope: &WatchScope, floor: u64) {
        let from = self.events.partition_point(|event| event.revision <= floor);
        let first = self.first;
        let wanted = self
            .events
            .range(from..)
            .enumerate()
            .filter(|(_, event)| scope.wants(event));
        let events: VecDeque<u64> = wanted.map(|(at, _)| first + (from + at) as u64).collect();
        if let Some(lane) = self.lanes.entry(scope) {
            lane.floor = floor;
            lane.events = events;
        }
    }

    fn event(&self, sequence: u64) -> &Event {
        let at = usize::try_from(sequence - self.first).expect("lanes list events that are here");
        &self.events[at]
    }
}

impl Cursor {
    /// Behind everything up to `revision`.
    pub fn after(revision: u64) -> Cursor {
        Cursor {
            revision,
            seen: u64::MAX,
        }
    }

    /// The revision up to which everything has been seen.
    pub fn reached(self) -> u64 {
        self.revision - u64::from(self.is_inside())
    }

    /// Whether a part of its revision is still to come.
    fn is_inside(self) -> bool {
        self.seen != u64::MAX
    }

    fn has_seen(self, revision: u64, sequence: u64) -> bool {
        revision < self.revision || revision == self.revision && sequence < self.seen
    }
}

impl Event {
    /// Counts the previous object too, since the event may be the last to hold it.
    fn bytes(&self) -> usize {
        EVENT_BYTES + self.object.json.len() + self.previous.as_ref().map_or(0, |previous| previous.json.len())
    }

    fn to_cache_event(&self) -> CacheEvent {
        let object = self.object.clone();
        match (&self.previous, self.deleted) {
            (Some(previous), true) => CacheEvent::Delete {
                object,
                previous: previous.clone(),
            },
            (previous, _) => CacheEvent::Put {
                object,
                previous: previous.clone(),
            },
        }
    }
}

impl WatchScope {
    /// Whether an event lies in this scope. One that takes an object out of it does.
    pub(super) fn wants(&self, event: &Event) -> bool {
        let object = &event.object;
        match self {
            WatchScope::All => true,
            WatchScope::Namespace(name) => object.namespace() == name,
            WatchScope::Key(key) => *object.key == **key,
            WatchScope::Field {
                namespace,
                field,
                value,
            } => {
                let has = |object: &Arc<Cached>| object.field(field) == value;
                (namespace.is_empty() || object.namespace() == namespace)
                    && (has(object) || event.previous.as_ref().is_some_and(has))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cached::{Forms, Header};
    use crate::store::Revision;
    use proptest::prelude::*;

    fn event(key: &str, revision: u64) -> Event {
        let object = Arc::new(Cached {
            key: key.into(),
            revision: Revision(revision),
            json: vec![b'x'; 100].into(),
            header: Header {
                fields: [("f".into(), (revision % 3).to_string().into())].into(),
                ..Header::default()
            },
            forms: Forms::default(),
        });
        Event {
            revision,
            object,
            previous: None,
            deleted: false,
        }
    }

    fn follow(ring: &Ring, scope: &WatchScope, cursor: u64) -> Result<Vec<u64>, u64> {
        let mut cursor = Cursor::after(cursor);
        let mut seen = Vec::new();
        loop {
            match ring.next(scope, cursor) {
                Next::Event(behind, _) => cursor = behind,
                Next::Idle(_) => return Ok(seen),
                Next::Lost(floor) => return Err(floor),
            }
            seen.push(cursor.revision);
        }
    }

    #[test]
    fn all_changes_of_a_revision_are_seen() {
        let mut ring = Ring::new(5 * 356);
        ring.reset(1, 1);
        let scope = WatchScope::Namespace("a".into());
        ring.subscribe(&scope, 1, Arc::default()).unwrap();
        ring.append(
            vec![event("a/1", 2), event("b/1", 2), event("a/2", 2), event("a/3", 3)],
            3,
        );
        assert_eq!(follow(&ring, &WatchScope::All, 1), Ok(vec![2, 2, 2, 3]));
        assert_eq!(follow(&ring, &scope, 1), Ok(vec![2, 2, 3]));
        assert_eq!(follow(&ring, &scope, 2), Ok(vec![3]));
        let inside = |scope: &WatchScope| match ring.next(scope, Cursor::after(1)) {
            Next::Event(behind, _) => behind,
            _ => panic!("there is an event"),
        };
        let (all, lane) = (inside(&WatchScope::All), inside(&scope));
        assert_eq!((all.reached(), lane.reached()), (1, 1), "the revision is not over");
        assert!(matches!(ring.next(&scope, lane), Next::Event(behind, _) if behind.reached() == 2));
        ring.append(vec![event("b/2", 4), event("b/3", 4), event("b/4", 4)], 4);
        assert!(
            matches!(ring.next(&WatchScope::All, all), Next::Lost(2)),
            "b/1 has gone"
        );
    }

    #[test]
    fn a_watcher_of_one_key_outlives_other_keys_events() {
        let mut ring = Ring::new(4 * 356);
        ring.reset(1, 1);
        let quiet = WatchScope::Key("a/quiet".into());
        ring.append(vec![event("a/quiet", 2)], 2);
        assert!(ring.subscribe(&quiet, 2, Arc::default()).is_ok());
        assert!(ring.subscribe(&WatchScope::All, 2, Arc::default()).is_ok());
        for revision in 3..20 {
            ring.append(vec![event("b/busy", revision)], revision);
        }
        assert_eq!(follow(&ring, &WatchScope::All, 2), Err(15));
        assert_eq!(follow(&ring, &quiet, 2), Ok(vec![]));
        assert_eq!(
            follow(&ring, &quiet, 1),
            Err(15),
            "the ring had something for this cursor and lost it"
        );
        ring.append(vec![event("a/quiet", 20)], 20);
        assert_eq!(follow(&ring, &quiet, 2), Ok(vec![20]));
        for revision in 21..30 {
            ring.append(vec![event("b/busy", revision)], revision);
        }
        assert_eq!(follow(&ring, &quiet, 2), Err(25));
    }

    fn field(namespace: &str, value: u64) -> WatchScope {
        WatchScope::Field {
            namespace: namespace.into(),
            field: "f".into(),
            value: value.to_string().into(),
        }
    }

    #[test]
    fn an_event_wakes_those_whose_field_it_is_or_was() {
        #[derive(Default)]
        struct Woken(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let mut ring = Ring::new(1 << 20);
        ring.reset(1, 1);
        let scopes = [field("", 0), field("", 1), field("", 2), field("a", 2), field("b", 2)];
        let woken: Vec<Arc<Woken>> = scopes.iter().map(|_| Arc::default()).collect();
        let ids = scopes.iter().zip(&woken).map(|(scope, woken)| {
            let waker = Arc::new(AtomicWaker::new());
            waker.register(&woken.clone().into());
            ring.subscribe(scope, 1, waker).unwrap()
        });
        let ids: Vec<u64> = ids.collect();
        let moved = Event {
            previous: Some(event("a/x", 2).object),
            ..event("a/x", 3)
        };
        let at = Moment { revision: 3, micros: 0 };
        assert!(
            ring.tell(&[(moved.object.clone(), moved.previous.clone())], at)
                .is_empty()
        );
        ring.append(vec![moved], 3);
        let told: Vec<bool> = woken
            .iter()
            .map(|woken| woken.0.load(std::sync::atomic::Ordering::SeqCst))
            .collect();
        assert_eq!(told, [true, false, true, true, false]);
        for (scope, seen) in scopes.iter().zip([1, 0, 1, 1, 0]) {
            assert_eq!(follow(&ring, scope, 1).unwrap().len(), seen, "{scope:?}");
        }
        for (scope, id) in scopes.iter().zip(ids) {
            ring.unsubscribe(scope, id);
            assert!(ring.lanes.get(scope).is_none());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn a_scope_sees_its_events_or_learns_that_it_lost_some(
            keys in proptest::collection::vec(0u8..9, 1..80), joins in proptest::collection::vec((0usize..80, 0u8..12, 0u64..90), 1..8)
        ) {
            let mut ring = Ring::new(20 * 356);
            ring.reset(1, 1);
            let name = |key: u8| format!("{}/{key}", key % 3);
            let mut watchers = Vec::new();
            for (at, key) in keys.iter().enumerate() {
                for (_, scope, cursor) in joins.iter().filter(|join| join.0 == at) {
                    let scope = match scope % 3 {
                        _ if *scope > 8 => field(if *scope == 9 { "" } else { "1" }, u64::from(scope % 3)),
                        0 => WatchScope::All,
                        1 => WatchScope::Namespace((scope % 3).to_string().into()),
                        _ => WatchScope::Key(name(*scope).into()),
                    };
                    if ring.subscribe(&scope, *cursor, Arc::default()).is_ok() {
                        watchers.push((scope, *cursor));
                    }
                }
                let revision = at as u64 + 2;
                ring.append(vec![event(&name(*key), revision)], revision);
                for (scope, cursor) in &watchers {
                    let wanted: Vec<u64> = (2..=revision)
                        .filter(|r| *r > *cursor && scope.wants(&event(&name(keys[*r as usize - 2]), *r)))
                        .collect();
                    let gone = wanted.first().is_some_and(|first| *first <= ring.floor());
                    match follow(&ring, scope, *cursor) {
                        Ok(seen) => assert_eq!(seen, wanted),
                        Err(_) => assert!(gone || (*scope == WatchScope::All && *cursor < ring.floor())),
                    }
                }
            }
        }
    }
}
