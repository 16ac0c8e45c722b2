//! The clients and watchers of a random run, each of which writes down what it did and saw.

use crate::cache::{Cache, CacheConfig, CacheEvent, WatchScope};
use crate::store::{Change, Entry, Error, Expect, Result, Revision, Store};
use crate::testing::{AtRevision, bytes};
use fairlead_histories::{
    self as histories, Call, FOREVER, Held, History, Moments, Operation, Outcome, Scope, Seen, Snapshot, Watched,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Everything a run writes to lies below.
pub const PREFIX: &str = "/things/";
/// How long a watch may say nothing before its client looks whether it is still alive.
const SILENCE: Duration = Duration::from_millis(20);
/// After so many silences in a row a watch is taken for dead.
const SILENCES: u32 = 15;

/// One thing a client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes over what it last saw, or over what it sees when it looks first.
    Put {
        key: u32,
        look: bool,
    },
    Delete {
        key: u32,
        look: bool,
    },
    Create {
        key: u32,
    },
    /// Begins a write and does not wait for its end.
    Abandon {
        key: u32,
    },
    Get {
        key: u32,
    },
    List {
        limit: u8,
        from: u32,
    },
    ListAt {
        back: u8,
    },
    Compact {
        back: u8,
    },
    Pause {
        micros: u16,
    },
    Restart,
}

/// Where a client knocks.
#[derive(Clone)]
pub enum Door {
    Store(Arc<dyn Store>),
    Cache(Cache),
}

/// How somebody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habit {
    /// Rests after so many events, for so long: too slow for a busy ring.
    pub rests: Option<(usize, Duration)>,
    /// Ends the watch after so many events, and resumes where it was.
    pub hops: Option<usize>,
    /// Lists at the beginning of each watch, as who asks for initial events.
    pub lists: bool,
}

/// What a client knows of each key: the revision it was last written at, or that it has no value.
pub type Known = HashMap<u32, Option<u64>>;

/// What all participants share.
pub struct Run {
    store: Arc<dyn Store>,
    /// Through which clients and watchers come, and how often they were replaced.
    doors: RwLock<(u64, Vec<Door>)>,
    /// The revision it began at.
    base: u64,
    moments: Moments,
    values: AtomicU64,
    history: Mutex<History>,
    /// How far the log has been recorded: nothing above may be compacted.
    recorded: AtomicU64,
    /// Where watchers may end; unknown as long as clients write.
    goal: AtomicU64,
    watchers: Mutex<Vec<JoinHandle<()>>>,
}

impl Run {
    /// Begins to record the log of `store`, and to watch it through doors.
    pub async fn start(store: Arc<dyn Store>, doors: Vec<Door>, watchers: &[(usize, Scope, Habit)]) -> Arc<Run> {
        let base = store.revision().await.unwrap().0;
        let run = Arc::new(Run {
            store,
            doors: RwLock::new((0, doors)),
            base,
            moments: Moments::default(),
            values: AtomicU64::new(0),
            history: Mutex::new(History {
                base,
                ..History::default()
            }),
            recorded: AtomicU64::new(base),
            goal: AtomicU64::new(u64::MAX),
            watchers: Mutex::default(),
        });
        run.spawn(run.clone().record(base));
        for (door, scope, habit) in watchers {
            run.spawn(run.clone().watch(*door, scope.clone(), *habit));
        }
        run
    }

    /// From now on these doors: those who watch through the old ones go on through them.
    pub fn replace_doors(&self, doors: Vec<Door>) {
        let mut current = self.doors.write().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, doors);
    }

    fn door(&self, at: usize) -> Door {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        doors.1[at % doors.1.len()].clone()
    }

    fn replaced(&self) -> u64 {
        self.doors.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// How far the log has been recorded.
    pub fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::SeqCst)
    }

    fn spawn(&self, watcher: impl Future<Output = ()> + Send + 'static) {
        let task = fairlead_telemetry::task::spawn("test-watcher", watcher);
        self.watchers.lock().unwrap().push(task);
    }

    /// Waits until everybody has seen everything, and answers what they saw.
    pub async fn end(self: Arc<Run>) -> History {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner).1.len();
        for door in 0..doors {
            self.list(door, "", usize::MAX).await;
        }
        let goal = self.store.revision().await.unwrap().0;
        self.goal.store(goal, Ordering::SeqCst);
        let watchers = std::mem::take(&mut *self.watchers.lock().unwrap());
        for watcher in watchers {
            watcher.await.unwrap();
        }
        let mut history = std::mem::take(&mut *self.history.lock().unwrap());
        // An abandoned write may have happened only now, which some have seen and some have not.
        history.snapshots.retain(|snapshot| snapshot.revision <= goal);
        for watched in &mut history.watches {
            watched.seen.retain(|(_, seen)| match seen {
                Seen::Change(change) => change.revision <= goal,
                Seen::Progress(revision) => *revision <= goal,
            });
        }
        history
    }

    fn is_over(&self, reached: u64) -> bool {
        reached >= self.goal.load(Ordering::SeqCst)
    }
}

/// What a write must require to replace what is known.
pub fn expected(known: &Known, key: u32) -> Expect {
    let at = known.get(&key).copied().flatten();
    at.map_or(Expect::Absent, |at| Expect::Unchanged(Revision(at)))
}

/// A key of a run, by its number; every third is in one namespace.
pub fn key(number: u32) -> Arc<str> {
    format!("{PREFIX}{}/{number}", number % 3).into()
}

// === clients ===

impl Run {
    pub async fn client<F: Future<Output = ()>>(
        self: Arc<Run>,
        number: usize,
        steps: Vec<Step>,
        restart: impl Fn() -> F,
    ) {
        let door = number;
        let mut known = Known::new();
        for step in steps {
            match step {
                Step::Get { key } => _ = self.get(door, key, &mut known).await,
                Step::Create { key } => self.write(door, key, Expect::Absent, true, &mut known).await,
                Step::Put { key, look } | Step::Delete { key, look } => {
                    if look {
                        self.get(door, key, &mut known).await;
                    }
                    let expect = expected(&known, key);
                    self.write(door, key, expect, matches!(step, Step::Put { .. }), &mut known)
                        .await;
                }
                Step::Abandon { key } => {
                    let expect = expected(&known, key);
                    self.abandon(door, key, expect).await;
                }
                Step::List { limit, from } => {
                    let limit = if limit == 0 { usize::MAX } else { usize::from(limit) };
                    let start = if from == 0 { "".into() } else { key(from) };
                    self.list(door, &start, limit).await;
                }
                Step::ListAt { back } => self.list_at(door, back).await,
                Step::Compact { back } => self.compact(back).await,
                Step::Pause { micros } => tokio::time::sleep(Duration::from_micros(micros.into())).await,
                // One restart at a time is enough.
                Step::Restart if number == 0 => restart().await,
                Step::Restart => {}
            }
        }
    }

    pub async fn get(&self, door: usize, number: u32, known: &mut Known) {
        let invoked = self.moments.now();
        let Ok((held, revision)) = self.door(door).get(&key(number)).await else {
            return;
        };
        known.insert(number, held.as_ref().map(|held| held.modified));
        self.done(number, Call::Get, Outcome::Read { held, revision }, invoked);
    }

    /// Puts, or deletes, and remembers what came of it.
    pub async fn write(&self, door: usize, number: u32, expect: Expect, put: bool, known: &mut Known) {
        let (call, value) = self.call(expect, put);
        let invoked = self.moments.now();
        let result = self.door(door).write(&key(number), value, expect).await;
        let outcome = match result {
            Ok(revision) => Outcome::Written { revision },
            Err(Error::Conflict { current }) => Outcome::Conflict {
                current: current.as_ref().map(held),
            },
            Err(Error::Unavailable(_) | Error::Full(_)) => Outcome::Refused,
            Err(Error::Indeterminate(_)) => Outcome::Unknown,
            Err(error) => panic!("a write ended with {error:?}"),
        };
        match &outcome {
            Outcome::Written { revision } => _ = known.insert(number, put.then_some(*revision)),
            Outcome::Conflict { current } => _ = known.insert(number, current.as_ref().map(|held| held.modified)),
            _ => {}
        }
        self.done(number, call, outcome, invoked);
    }

    async fn abandon(&self, door: usize, number: u32, expect: Expect) {
        let (call, value) = self.call(expect, true);
        let invoked = self.moments.now();
        // Polled once or a little longer, then dropped.
        _ = timeout(
            Duration::from_micros(300),
            self.door(door).write(&key(number), value, expect),
        )
        .await;
        self.done(number, call, Outcome::Unknown, invoked);
    }

    fn call(&self, expect: Expect, put: bool) -> (Call, Option<String>) {
        let expected = match expect {
            Expect::Absent => histories::Expect::Absent,
            Expect::Unchanged(revision) => histories::Expect::Unchanged(revision.0),
        };
        if !put {
            return (Call::Delete { expect: expected }, None);
        }
        let value = format!("v{}", self.values.fetch_add(1, Ordering::Relaxed));
        let call = Call::Put {
            value: value.as_str().into(),
            expect: expected,
        };
        (call, Some(value))
    }

    fn done(&self, number: u32, call: Call, outcome: Outcome, invoked: u64) {
        let unknown = outcome == Outcome::Unknown;
        let operation = Operation {
            key: key(number),
            call,
            outcome,
            invoked,
            returned: if unknown { FOREVER } else { self.moments.now() },
        };
        self.history.lock().unwrap().operations.push(operation);
    }

    async fn list(&self, door: usize, start: &str, limit: usize) -> Option<u64> {
        let invoked = self.moments.now();
        let (held, more, revision) = self.door(door).list(start, limit).await.ok()?;
        self.listed(start, held, more, revision, invoked, true);
        Some(revision)
    }

    /// What is still there of an earlier state, and, from caches, whatever they have.
    async fn list_at(&self, door: usize, back: u8) {
        let at = self.past(back);
        let invoked = self.moments.now();
        if let Ok((held, revision)) = self.door(door).list_at(at).await {
            assert_eq!(revision, at);
            self.listed("", held, false, revision, invoked, false);
        }
        if let Door::Cache(cache) = self.door(door) {
            let snapshot = cache.latest();
            if snapshot.revision.0 > 0 {
                self.listed("", all(&snapshot), false, snapshot.revision.0, invoked, false);
            }
        }
    }

    fn listed(&self, start: &str, held: Vec<Held>, more: bool, revision: u64, invoked: u64, fresh: bool) {
        let snapshot = Snapshot {
            prefix: PREFIX.into(),
            start: start.into(),
            held,
            more,
            revision,
            fresh,
            invoked,
            returned: self.moments.now(),
        };
        self.history.lock().unwrap().snapshots.push(snapshot);
    }

    /// A revision not long ago, of this run, that has been recorded.
    fn past(&self, back: u8) -> u64 {
        let recorded = self.recorded.load(Ordering::SeqCst);
        recorded.saturating_sub(u64::from(back % 16)).max(self.base)
    }

    pub async fn compact(&self, back: u8) {
        let at = self.past(back);
        match self.store.compact(Revision(at)).await {
            Ok(()) | Err(Error::Unavailable(_) | Error::Indeterminate(_)) => {}
            Err(error) => panic!("a compaction ended with {error:?}"),
        }
    }
}

// === watchers ===

impl Run {
    /// Records the log, from the store below all faults.
    async fn record(self: Arc<Run>, mut reached: u64) {
        while !self.is_over(reached) {
            let Ok(mut watch) = self.store.watch(PREFIX, Revision(reached)).await else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            while !self.is_over(reached) {
                watch.hurry();
                let batch = match timeout(SILENCE, watch.next()).await {
                    Err(_) => continue,
                    Ok(Err(Error::Unavailable(_))) => break,
                    Ok(batch) => batch.expect("nothing above what is recorded is compacted"),
                };
                let changes = batch.changes.iter().map(change);
                self.history.lock().unwrap().log.extend(changes);
                reached = batch.revision.0;
                self.recorded.store(reached, Ordering::SeqCst);
            }
        }
    }

    /// Watches through a door: resumes where a watch ends, lists again where that is no longer possible.
    async fn watch(self: Arc<Run>, door: usize, scope: Scope, habit: Habit) {
        let mut after = self.base;
        while !self.is_over(after) {
            if habit.lists {
                after = self.list(door, "", usize::MAX).await.unwrap_or(after);
            }
            let mut watched = Watched {
                scope: scope.clone(),
                after,
                seen: Vec::new(),
            };
            let end = match self.door(door) {
                Door::Store(store) => self.watch_store(&*store, habit, &mut watched).await,
                Door::Cache(cache) => self.watch_cache(&cache, habit, &mut watched).await,
            };
            after = watched.seen.last().map_or(after, |(_, seen)| match seen {
                Seen::Change(change) => change.revision,
                Seen::Progress(revision) => *revision,
            });
            self.history.lock().unwrap().watches.push(watched);
            match end {
                Ok(()) => {}
                Err(Error::Compacted { .. }) => after = self.list(door, "", usize::MAX).await.unwrap_or(after),
                Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_micros(500)).await,
                Err(error) => panic!("a watch ended with {error:?}"),
            }
        }
    }

    async fn watch_store(&self, store: &dyn Store, habit: Habit, watched: &mut Watched) -> Result<()> {
        let prefix = match &watched.scope {
            Scope::Prefix(prefix) | Scope::Key(prefix) => prefix.clone(),
        };
        let mut watch = store.watch(&prefix, Revision(watched.after)).await?;
        let mut silences = 0;
        while silences < SILENCES {
            watch.hurry();
            let Ok(batch) = timeout(SILENCE, watch.next()).await else {
                silences += 1;
                continue;
            };
            let batch = batch?;
            silences = 0;
            let now = self.moments.now();
            watched
                .seen
                .extend(batch.changes.iter().map(|new| (now, Seen::Change(change(new)))));
            watched.seen.push((now, Seen::Progress(batch.revision.0)));
            if self.is_over(batch.revision.0) || habit.ends(watched.seen.len()).await {
                break;
            }
        }
        Ok(())
    }

    async fn watch_cache(&self, cache: &Cache, habit: Habit, watched: &mut Watched) -> Result<()> {
        cache.ready().await?;
        let replaced = self.replaced();
        let scope = match &watched.scope {
            Scope::Key(key) => WatchScope::Key(relative(key).into()),
            Scope::Prefix(prefix) => match relative(prefix).strip_suffix('/') {
                Some(namespace) => WatchScope::Namespace(namespace.into()),
                None => WatchScope::All,
            },
        };
        let mut watcher = cache.watch(Some(Revision(watched.after)), scope)?;
        loop {
            // A watcher that has nothing to say when the cache is there says: that was all up to there.
            let there = cache.latest().revision.0;
            let seen = match timeout(SILENCE, watcher.next()).await {
                Ok(event) => seen(event?),
                Err(_) if self.is_over(there) => Seen::Progress(there),
                Err(_) if self.replaced() != replaced => return Ok(()),
                Err(_) => continue,
            };
            let over = matches!(&seen, Seen::Progress(revision) if self.is_over(*revision));
            watched.seen.push((self.moments.now(), seen));
            if over || self.replaced() != replaced || habit.ends(watched.seen.len()).await {
                return Ok(());
            }
        }
    }
}

impl Habit {
    /// Whether to end a watch that has seen so much, after a rest where one is due.
    async fn ends(&self, seen: usize) -> bool {
        if let Some((_, rest)) = self.rests.filter(|(after, _)| seen.is_multiple_of(*after)) {
            tokio::time::sleep(rest).await;
        }
        self.hops.is_some_and(|hops| seen >= hops)
    }
}

// === doors ===

impl Door {
    pub fn cache(store: Arc<dyn Store>, ring_bytes: usize) -> Door {
        let config = CacheConfig {
            prefix: PREFIX.into(),
            decode: Arc::new(AtRevision),
            ring_bytes,
        };
        Door::Cache(Cache::start(store, config))
    }

    async fn get(&self, key: &str) -> Result<(Option<Held>, u64)> {
        match self {
            Door::Store(store) => {
                let (entry, revision) = store.get(key).await?;
                Ok((entry.as_ref().map(held), revision.0))
            }
            Door::Cache(cache) => {
                let snapshot = cache.fresh().await?;
                Ok((
                    snapshot.get(relative(key)).map(|object| cached(object)),
                    snapshot.revision.0,
                ))
            }
        }
    }

    /// Puts a value, or deletes without one. Answers the revision.
    async fn write(&self, key: &str, value: Option<String>, expect: Expect) -> Result<u64> {
        let object = match (self, value, expect) {
            (Door::Store(store), Some(value), _) => return Ok(store.put(key, bytes(&value), expect, None).await?.0),
            (Door::Store(store), None, _) => return Ok(store.delete(key, expect).await?.0),
            (Door::Cache(cache), Some(value), Expect::Absent) => {
                let object = cache.create(relative(key), bytes(&value), None).await?;
                assert_eq!(&*cached(&object).value, value);
                object
            }
            (Door::Cache(cache), Some(value), Expect::Unchanged(at)) => {
                let object = cache.update(relative(key), bytes(&value), at, None).await?;
                assert_eq!(&*cached(&object).value, value);
                object
            }
            // Nobody deletes what is not there through a cache.
            (Door::Cache(cache), None, Expect::Absent) => cache.delete(relative(key), Revision(0)).await?,
            (Door::Cache(cache), None, Expect::Unchanged(at)) => cache.delete(relative(key), at).await?,
        };
        Ok(object.revision.0)
    }

    async fn list(&self, start: &str, limit: usize) -> Result<(Vec<Held>, bool, u64)> {
        match self {
            Door::Store(store) => {
                let range = store.range(PREFIX, start, limit, None).await?;
                Ok((range.entries.iter().map(held).collect(), range.more, range.revision.0))
            }
            Door::Cache(cache) => {
                let snapshot = cache.fresh().await?;
                let start = if start.is_empty() { "" } else { relative(start) };
                let mut held: Vec<Held> = snapshot.range("", start).map(|object| cached(object)).collect();
                let more = held.len() > limit;
                held.truncate(limit);
                Ok((held, more, snapshot.revision.0))
            }
        }
    }

    async fn list_at(&self, at: u64) -> Result<(Vec<Held>, u64)> {
        match self {
            Door::Store(store) => {
                let range = store.range(PREFIX, "", usize::MAX, Some(Revision(at))).await?;
                Ok((range.entries.iter().map(held).collect(), range.revision.0))
            }
            Door::Cache(cache) => {
                let snapshot = cache.exact(Revision(at)).await?;
                Ok((all(&snapshot), snapshot.revision.0))
            }
        }
    }
}

// === what is written down ===

fn relative(key: &str) -> &str {
    key.strip_prefix(PREFIX).expect("all keys lie below the prefix")
}

fn held(entry: &Entry) -> Held {
    Held {
        key: entry.key.clone(),
        value: text(&entry.value),
        modified: entry.mod_revision.0,
        created: Some(entry.create_revision.0),
    }
}

fn cached(object: &crate::Cached) -> Held {
    let json = text(&object.json.text());
    let (value, modified) = json.split_once('@').expect("objects are served with their revision");
    assert_eq!(modified, object.revision.0.to_string());
    Held {
        key: format!("{PREFIX}{}", object.key).into(),
        value: value.into(),
        modified: object.revision.0,
        created: None,
    }
}

fn all(snapshot: &crate::Snapshot) -> Vec<Held> {
    snapshot.range("", "").map(|object| cached(object)).collect()
}

fn change(change: &Change) -> histories::Change {
    histories::Change {
        revision: change.revision.0,
        key: change.key.clone(),
        value: change.value.as_ref().map(|value| text(value)),
    }
}

fn seen(event: CacheEvent) -> Seen {
    match event {
        CacheEvent::Progress(revision) => Seen::Progress(revision.0),
        CacheEvent::Put { object, .. } => {
            let held = cached(&object);
            Seen::Change(histories::Change {
                revision: held.modified,
                key: held.key,
                value: Some(held.value),
            })
        }
        CacheEvent::Delete { object, .. } => Seen::Change(histories::Change {
            revision: object.revision.0,
            key: cached(&object).key,
            value: None,
        }),
    }
}

fn text(value: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(value).into()
}
