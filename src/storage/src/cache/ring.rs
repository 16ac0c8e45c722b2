//! [`Ring`]: the newest events of a cache, bounded in bytes, and who waits for more of them.
// PERFORMANCE: per-request path

use crate::cache::{CacheEvent, WatchScope};
use crate::cached::Cached;
use compact_str::CompactString;
use futures_util::task::AtomicWaker;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// What an event costs besides its objects.
const EVENT_BYTES: usize = 256;

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
/// Watchers of a namespace or a key have a *lane*: the sequence numbers of their events, so that they neither look at
/// other events nor are lost because of them.
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
    namespaces: HashMap<CompactString, Lane>,
    keys: HashMap<CompactString, Lane>,
    next_id: u64,
}

#[derive(Debug, Default)]
struct Lane {
    /// All of the lane's events above this revision are listed.
    floor: u64,
    /// Sequence numbers.
    events: VecDeque<u64>,
    waiters: Waiters,
}

type Waiters = BTreeMap<u64, Arc<AtomicWaker>>;

/// What follows a cursor.
pub(crate) enum Next {
    Event(u64, CacheEvent),
    /// Nothing; the revision up to which there is nothing.
    Idle(u64),
    /// Something that is no longer known; the first revision that can be watched from.
    Lost(u64),
}

impl Ring {
    pub fn new(limit: usize) -> Ring {
        Ring {
            events: VecDeque::new(),
            first: 0,
            bytes: 0,
            limit,
            floor: 0,
            revision: 0,
            all: Waiters::new(),
            namespaces: HashMap::new(),
            keys: HashMap::new(),
            next_id: 0,
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
        for lane in self.namespaces.values_mut().chain(self.keys.values_mut()) {
            lane.events.clear();
            lane.floor = floor;
        }
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
        if let Some(lane) = lane_mut(&mut self.namespaces, event.object.namespace()) {
            lane.events.push_back(sequence);
        }
        if let Some(lane) = lane_mut(&mut self.keys, &event.object.key) {
            lane.events.push_back(sequence);
        }
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
        for lane in [
            lane_mut(&mut self.namespaces, event.object.namespace()),
            lane_mut(&mut self.keys, &event.object.key),
        ]
        .into_iter()
        .flatten()
        {
            if lane.events.pop_front_if(|sequence| *sequence == self.first).is_some() {
                lane.floor = event.revision;
            }
        }
        self.first += 1;
    }

    /// The first event in `scope` above `cursor`. O(log n).
    pub fn next(&self, scope: &WatchScope, cursor: u64) -> Next {
        let event = match self.lane(scope) {
            None if cursor < self.floor => return Next::Lost(self.floor),
            None => self
                .events
                .get(self.events.partition_point(|event| event.revision <= cursor)),
            Some(lane) if cursor < lane.floor => return Next::Lost(self.floor.max(lane.floor)),
            Some(lane) => {
                let at = lane
                    .events
                    .partition_point(|sequence| self.event(*sequence).revision <= cursor);
                lane.events.get(at).map(|sequence| self.event(*sequence))
            }
        };
        match event {
            Some(event) => Next::Event(event.revision, event.to_cache_event()),
            None => Next::Idle(self.revision),
        }
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
        if self.lane(scope).is_none_or(|lane| cursor < lane.floor) {
            if cursor < self.floor {
                return Err(self.floor);
            }
            self.fill_lane(scope, cursor.min(self.revision));
        }
        if let Some(lane) = self.lane_of_mut(scope) {
            lane.waiters.insert(id, waker);
        }
        Ok(id)
    }

    pub fn unsubscribe(&mut self, scope: &WatchScope, id: u64) {
        match scope {
            WatchScope::All => _ = self.all.remove(&id),
            WatchScope::Namespace(name) => leave(&mut self.namespaces, name, id),
            WatchScope::Key(key) => leave(&mut self.keys, key, id),
        }
    }

    /// Wakes the watchers whose scope has one of the events at these keys.
    pub fn wake<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let mut keys: Vec<&str> = keys.collect();
        if keys.is_empty() {
            return;
        }
        self.all.values().for_each(|waker| waker.wake());
        if self.namespaces.is_empty() && self.keys.is_empty() {
            return;
        }
        keys.sort_unstable();
        keys.dedup();
        let mut last_namespace = None;
        for key in keys {
            let namespace = key.rsplit_once('/').map_or("", |(namespace, _)| namespace);
            if last_namespace != Some(namespace) {
                last_namespace = Some(namespace);
                wake_lane(self.namespaces.get(namespace));
            }
            wake_lane(self.keys.get(key));
        }
    }

    pub fn wake_everyone(&self) {
        self.all.values().for_each(|waker| waker.wake());
        self.namespaces
            .values()
            .chain(self.keys.values())
            .for_each(|lane| wake_lane(Some(lane)));
    }

    fn fill_lane(&mut self, scope: &WatchScope, floor: u64) {
        let from = self.events.partition_point(|event| event.revision <= floor);
        let first = self.first;
        let wanted = self
            .events
            .range(from..)
            .enumerate()
            .filter(|(_, event)| scope.wants(&event.object));
        let events = wanted.map(|(at, _)| first + (from + at) as u64).collect();
        let lane = match scope {
            WatchScope::All => return,
            WatchScope::Namespace(name) => self.namespaces.entry(name.clone()).or_default(),
            WatchScope::Key(key) => self.keys.entry(key.clone()).or_default(),
        };
        lane.floor = floor;
        lane.events = events;
    }

    fn lane(&self, scope: &WatchScope) -> Option<&Lane> {
        match scope {
            WatchScope::All => None,
            WatchScope::Namespace(name) => self.namespaces.get(name),
            WatchScope::Key(key) => self.keys.get(key),
        }
    }

    fn lane_of_mut(&mut self, scope: &WatchScope) -> Option<&mut Lane> {
        match scope {
            WatchScope::All => None,
            WatchScope::Namespace(name) => self.namespaces.get_mut(name),
            WatchScope::Key(key) => self.keys.get_mut(key),
        }
    }

    fn event(&self, sequence: u64) -> &Event {
        let at = usize::try_from(sequence - self.first).expect("lanes list events that are here");
        &self.events[at]
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
    /// Whether an object lies in this scope.
    pub fn wants(&self, object: &Cached) -> bool {
        match self {
            WatchScope::All => true,
            WatchScope::Namespace(name) => object.namespace() == name,
            WatchScope::Key(key) => *object.key == **key,
        }
    }
}

fn lane_mut<'a>(lanes: &'a mut HashMap<CompactString, Lane>, name: &str) -> Option<&'a mut Lane> {
    // Most caches have no lanes: spare them the hash.
    if lanes.is_empty() { None } else { lanes.get_mut(name) }
}

fn leave(lanes: &mut HashMap<CompactString, Lane>, name: &str, id: u64) {
    let Some(lane) = lanes.get_mut(name) else { return };
    lane.waiters.remove(&id);
    if lane.waiters.is_empty() {
        lanes.remove(name);
    }
}

fn wake_lane(lane: Option<&Lane>) {
    for waker in lane.into_iter().flat_map(|lane| lane.waiters.values()) {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cached::{Forms, Header};
    use crate::store::Revision;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn event(key: &str, revision: u64) -> Event {
        let object = Arc::new(Cached {
            key: key.into(),
            revision: Revision(revision),
            json: Bytes::from(vec![b'x'; 100]),
            header: Header::default(),
            forms: Forms::default(),
        });
        Event {
            revision,
            object,
            previous: None,
            deleted: false,
        }
    }

    fn follow(ring: &Ring, scope: &WatchScope, mut cursor: u64) -> Result<Vec<u64>, u64> {
        let mut seen = Vec::new();
        loop {
            match ring.next(scope, cursor) {
                Next::Event(revision, _) => cursor = revision,
                Next::Idle(_) => return Ok(seen),
                Next::Lost(floor) => return Err(floor),
            }
            seen.push(cursor);
        }
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn a_scope_sees_its_events_or_learns_that_it_lost_some(
            keys in proptest::collection::vec(0u8..9, 1..80), joins in proptest::collection::vec((0usize..80, 0u8..9, 0u64..90), 1..8)
        ) {
            let mut ring = Ring::new(20 * 356);
            ring.reset(1, 1);
            let name = |key: u8| format!("{}/{key}", key % 3);
            let mut watchers = Vec::new();
            for (at, key) in keys.iter().enumerate() {
                for (_, scope, cursor) in joins.iter().filter(|join| join.0 == at) {
                    let scope = match scope % 3 {
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
                        .filter(|r| *r > *cursor && scope.wants(&event(&name(keys[*r as usize - 2]), *r).object))
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
