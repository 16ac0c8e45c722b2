//! Garbage collection: dependents follow their owners, unless they shall be orphaned.
//!
//! One task owns the [`graph`] and decides what is to be looked at; [`work`] looks at objects as they are now and
//! writes, many at a time. Nothing is done while a watch is incomplete, and no owner is let go before every watch has
//! told what happened before: a dependent that is not known yet would be lost. Nothing happens at rest.
//!
//! Source of the rules: kubernetes/kubernetes pkg/controller/garbagecollector.

use crate::Context;
use crate::events::{Event, Feed, SourceId, followed, stored};
use crate::remote::{self, RemoteObjects};
use fairlead_api::Node;
use fairlead_resource::ResourceDefinition;
use fairlead_resource::client::{Cached, parse};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream::FuturesUnordered};
use graph::{Deletion, Graph, Home, Object, Uid};
use memchr::memmem;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use work::{Case, Outcome, Place, Tools};

mod graph;
mod work;

/// How many objects are worked on at a time.
const WORKERS: usize = 64;
/// After a first failure; each further one in a row waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Runs until the drain.
pub async fn run(mut context: Context, remote: Arc<dyn RemoteObjects>) {
    let (mut feed, mut events) = Feed::new(context.clone());
    let mut collector = Collector::new(Tools {
        client: context.client.clone(),
        router: context.router.clone(),
        remote,
    });
    let mut drain = context.drain.clone();
    collector.follow(&mut feed, &context);
    loop {
        collector.begin_work(&feed);
        let retry = collector.next_retry();
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => collector.take(event),
                None => return,
            },
            Some((uid, routes, outcome)) = collector.running.next() => collector.finished(uid, routes, outcome),
            changed = context.routes.changed() => {
                if changed.is_err() {
                    return;
                }
                collector.follow(&mut feed, &context);
            }
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => collector.retry(Instant::now()),
            _ = drain.changed() => return,
        }
    }
}

/// A watch, as far as it has got.
struct Source {
    home: Home,
    complete: bool,
    /// Whether it has been complete once.
    known: bool,
    flushed: u64,
    /// Objects of before a break that have not been told again.
    unseen: HashSet<Uid>,
}

struct Collector {
    tools: Tools,
    graph: Graph,
    sources: HashMap<SourceId, Source>,
    ready: VecDeque<Uid>,
    queued: HashSet<Uid>,
    /// Owners that wait, and what every watch must have told before one may go.
    behind: VecDeque<(u64, Uid)>,
    /// Being worked on; true where that has to be repeated.
    busy: HashMap<Uid, bool>,
    running: FuturesUnordered<BoxFuture<'static, (Uid, u64, Outcome)>>,
    unresolved: HashSet<Uid>,
    /// How often routes have changed.
    routes: u64,
    failures: HashMap<Uid, u32>,
    later: BTreeSet<(Instant, Uid)>,
}

impl Collector {
    fn new(tools: Tools) -> Collector {
        Collector {
            tools,
            graph: Graph::default(),
            sources: HashMap::new(),
            ready: VecDeque::new(),
            queued: HashSet::new(),
            behind: VecDeque::new(),
            busy: HashMap::new(),
            running: FuturesUnordered::new(),
            unresolved: HashSet::new(),
            routes: 0,
            failures: HashMap::new(),
            later: BTreeSet::new(),
        }
    }

    /// Follows what is served now, and looks again at objects whose owners' kinds were not known.
    fn follow(&mut self, feed: &mut Feed, context: &Context) {
        let collected = |definition: &ResourceDefinition| followed(definition) && definition.hooks.garbage_collected();
        let wanted = stored(context, collected);
        self.renew(&wanted);
        let local = feed.follow(wanted).into_iter();
        let local = local.map(|(id, definition)| (id, Home::Here(definition)));
        let followed = remote::followed(&context.router.load());
        let remote = feed.follow_remote(followed, &self.tools.remote).into_iter();
        let remote = remote.map(|(id, resource)| (id, Home::There(resource)));
        for (id, home) in local.chain(remote) {
            let unseen = self.objects_of(home.prefix());
            let known = !unseen.is_empty();
            self.sources.insert(
                id,
                Source {
                    home,
                    complete: false,
                    known,
                    flushed: 0,
                    unseen,
                },
            );
        }
        self.routes += 1;
        for uid in std::mem::take(&mut self.unresolved) {
            self.queue(uid);
        }
    }

    /// What is known already is of these definitions from now on.
    fn renew(&mut self, definitions: &HashMap<String, Arc<ResourceDefinition>>) {
        for source in self.sources.values_mut() {
            let Home::Here(old) = &source.home else { continue };
            let Some(new) = definitions.get(&old.storage.prefix) else {
                continue;
            };
            if !Arc::ptr_eq(old, new) {
                source.home = Home::Here(new.clone());
                self.graph.rehome(&source.home);
            }
        }
    }

    fn objects_of(&self, prefix: &str) -> HashSet<Uid> {
        self.graph
            .iter()
            .filter(|(_, o)| o.home.prefix() == prefix)
            .map(|(uid, _)| uid.clone())
            .collect()
    }

    // === what watches say ===

    fn take(&mut self, event: Event) {
        match event {
            Event::Change {
                source,
                deleted,
                object,
            } => self.change(source, deleted, &object),
            Event::RemoteChange {
                source,
                deleted,
                object,
            } => self.remote_change(source, deleted, &object),
            Event::Broken(id) => {
                let Some(prefix) = self.sources.get(&id).map(|s| s.home.prefix().to_owned()) else {
                    return;
                };
                let unseen = self.objects_of(&prefix);
                if let Some(source) = self.sources.get_mut(&id) {
                    source.complete = false;
                    source.unseen = unseen;
                }
            }
            Event::Complete(id) => self.complete(id),
            Event::Flushed(id, number) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.flushed = number;
                }
            }
            Event::Ended(id) => self.ended(id),
        }
    }

    fn complete(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        source.complete = true;
        let again = std::mem::replace(&mut source.known, true);
        let (kind, prefix) = (source.home.kind(), source.home.prefix().to_owned());
        for uid in std::mem::take(&mut source.unseen) {
            let namespace = self
                .graph
                .get(&uid)
                .map(|o| o.namespace().to_owned())
                .unwrap_or_default();
            self.gone(&uid, &namespace);
        }
        if again {
            // Owners of this kind may have gone unnoticed.
            let owned = |o: &Object| o.owners.iter().any(|owner| owner.kind == kind);
            let doubtful: Vec<Uid> = self
                .graph
                .iter()
                .filter(|(_, o)| owned(o))
                .map(|(uid, _)| uid.clone())
                .collect();
            doubtful.into_iter().for_each(|uid| self.queue(uid));
        }
        // What could not be done while they could not be reached is due now.
        let due: Vec<(Instant, Uid)> = self
            .later
            .iter()
            .filter(|(_, uid)| self.graph.get(uid).is_some_and(|o| o.home.prefix() == prefix))
            .cloned()
            .collect();
        for waiting in due {
            self.later.remove(&waiting);
            self.failures.remove(&waiting.1);
            self.queue(waiting.1);
        }
    }

    /// Forgets objects that are no longer served; that says nothing about what they own.
    fn ended(&mut self, id: SourceId) {
        let Some(source) = self.sources.remove(&id) else { return };
        let prefix = source.home.prefix();
        if self.sources.values().any(|s| s.home.prefix() == prefix) {
            return;
        }
        for uid in self.objects_of(prefix) {
            self.graph.remove(&uid);
        }
    }

    fn change(&mut self, id: SourceId, deleted: bool, cached: &Cached) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let uid: Uid = cached.header.uid.to_string().into();
        source.unseen.remove(&uid);
        if deleted {
            self.gone(&uid, cached.namespace());
            return;
        }
        let concerned = concerns(&cached.json.text());
        if !concerned && self.graph.get(&uid).is_none() {
            return;
        }
        let node = concerned.then(|| parse(&cached.json.text()).ok()).flatten();
        let object = Object::read(&source.home, &cached.key, node.as_ref());
        self.put(uid, object);
    }

    fn remote_change(&mut self, id: SourceId, deleted: bool, metadata: &Node) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        let uid: Uid = metadata.uid().into();
        if uid.is_empty() {
            return;
        }
        source.unseen.remove(&uid);
        if deleted {
            self.gone(&uid, metadata.namespace());
            return;
        }
        let key: Arc<str> = match metadata.namespace() {
            "" => metadata.name().into(),
            namespace => format!("{namespace}/{}", metadata.name()).into(),
        };
        let object = Object::read(&source.home, &key, Some(metadata));
        // A backend cannot pass its objects off as somebody else's.
        let foreign = |known: &Object| known.home.prefix() != object.home.prefix();
        if !self.graph.get(&uid).is_some_and(foreign) {
            self.put(uid, object);
        }
    }

    fn put(&mut self, uid: Uid, object: Object) {
        let (owners, deletion) = (object.owners.clone(), object.deletion);
        let before = self.graph.put(&uid, object);
        let (owners_before, deletion_before) = match before {
            Some(object) => (object.owners, object.deletion),
            None => (Vec::new(), Deletion::No),
        };
        if owners != owners_before && !owners.is_empty() {
            self.queue(uid.clone());
        }
        for owner in owners_before.iter().filter(|o| o.blocks) {
            if !owners.iter().any(|o| o.uid == owner.uid && o.blocks) {
                self.unblocked(&owner.uid);
            }
        }
        if deletion != deletion_before {
            if deletion == Deletion::Foreground {
                self.queue_dependents(&uid);
            }
            if matches!(deletion, Deletion::Foreground | Deletion::Orphan) {
                self.queue(uid);
            }
        }
    }

    fn gone(&mut self, uid: &Uid, namespace: &str) {
        if self.graph.dependents(uid).next().is_some() {
            self.graph.note_absent(uid, namespace);
            self.queue_dependents(uid);
        }
        if let Some(object) = self.graph.remove(uid) {
            object.owners.iter().for_each(|owner| self.unblocked(&owner.uid));
        }
        self.failures.remove(uid);
        self.unresolved.remove(uid);
    }

    /// An owner that waits has one dependent less.
    fn unblocked(&mut self, owner: &Uid) {
        let waits = self
            .graph
            .get(owner)
            .is_some_and(|o| o.deletion == Deletion::Foreground);
        if waits && !self.graph.is_blocked(owner) {
            self.queue(owner.clone());
        }
    }

    fn queue_dependents(&mut self, uid: &Uid) {
        let dependents: Vec<Uid> = self.graph.dependents(uid).cloned().collect();
        dependents.into_iter().for_each(|d| self.queue(d));
    }

    fn queue(&mut self, uid: Uid) {
        if self.queued.insert(uid.clone()) {
            self.ready.push_back(uid);
        }
    }

    // === work ===

    fn begin_work(&mut self, feed: &Feed) {
        // Other API servers are not waited for: one that does not answer would keep everybody's garbage.
        let here = || self.sources.values().filter(|s| matches!(s.home, Home::Here(_)));
        if here().any(|s| !s.complete) {
            return;
        }
        let told = here().map(|s| s.flushed).min().unwrap_or(u64::MAX);
        while self.behind.front().is_some_and(|(number, _)| *number <= told)
            && let Some((_, uid)) = self.behind.pop_front()
        {
            let work = self.let_go(&uid);
            self.start(uid, work);
        }
        let mut number = None;
        while self.running.len() < WORKERS
            && let Some(uid) = self.ready.pop_front()
        {
            self.queued.remove(&uid);
            if let Some(again) = self.busy.get_mut(&uid) {
                *again = true;
                continue;
            }
            match self.graph.get(&uid).map(|o| o.deletion) {
                None | Some(Deletion::Plain) => {}
                Some(Deletion::No) => {
                    let work = self.judge(&uid);
                    self.start(uid, work);
                }
                Some(Deletion::Foreground | Deletion::Orphan) => {
                    // What happened before its deletion may still be on its way here.
                    let number = *number.get_or_insert_with(|| feed.flush());
                    self.behind.push_back((number, uid));
                }
            }
        }
    }

    fn start(&mut self, uid: Uid, work: Option<BoxFuture<'static, Outcome>>) {
        let Some(work) = work else { return };
        if let Some(again) = self.busy.get_mut(&uid) {
            *again = true;
            return;
        }
        self.busy.insert(uid.clone(), false);
        let routes = self.routes;
        self.running.push(Box::pin(async move { (uid, routes, work.await) }));
    }

    fn judge(&self, uid: &Uid) -> Option<BoxFuture<'static, Outcome>> {
        let object = self.graph.get(uid)?;
        let absent = |owner: &&graph::Owner| self.graph.is_absent(&owner.uid, object.namespace());
        let case = Case {
            place: Place::of(uid, object),
            has_dependents: self.graph.dependents(uid).next().is_some(),
            has_waiting_dependent: self.graph.has_waiting_dependent(uid),
            absent: object.owners.iter().filter(absent).map(|o| o.uid.clone()).collect(),
        };
        Some(Box::pin(work::judge(self.tools.clone(), case)))
    }

    /// Lets an owner go that nothing keeps; `None` where something does.
    fn let_go(&self, uid: &Uid) -> Option<BoxFuture<'static, Outcome>> {
        let object = self.graph.get(uid)?;
        let (tools, place) = (self.tools.clone(), Place::of(uid, object));
        match object.deletion {
            Deletion::No | Deletion::Plain => None,
            Deletion::Orphan => {
                let places = |d: &Uid| self.graph.get(d).map(|o| Place::of(d, o));
                let dependents = self.graph.dependents(uid).filter_map(places).collect();
                Some(Box::pin(work::orphan(tools, place, dependents)))
            }
            Deletion::Foreground if self.graph.is_blocked(uid) => None,
            Deletion::Foreground => Some(Box::pin(work::release(tools, place, "foregroundDeletion"))),
        }
    }

    fn finished(&mut self, uid: Uid, routes: u64, outcome: Outcome) {
        if self.busy.remove(&uid) == Some(true) {
            self.queue(uid.clone());
        }
        match outcome {
            Outcome::Done => drop(self.failures.remove(&uid)),
            Outcome::Unresolved if routes != self.routes => self.queue(uid),
            Outcome::Unresolved => drop(self.unresolved.insert(uid)),
            Outcome::Failed => {
                let failures = self.failures.entry(uid.clone()).or_default();
                let pause = (FIRST_PAUSE * (1 << (*failures).min(10))).min(MAX_PAUSE);
                *failures += 1;
                self.later.insert((Instant::now() + pause, uid));
            }
        }
    }

    fn next_retry(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    fn retry(&mut self, now: Instant) {
        while self.next_retry().is_some_and(|at| at <= now)
            && let Some((_, uid)) = self.later.pop_first()
        {
            self.queue(uid);
        }
    }
}

/// Whether an object may have owners or wait for its dependents. Costs a scan of its bytes.
// PERFORMANCE: once for every write there is
fn concerns(json: &[u8]) -> bool {
    memmem::find(json, b"\"ownerReferences\"").is_some() || memmem::find(json, b"\"deletionTimestamp\"").is_some()
}
