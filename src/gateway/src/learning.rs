//! [`Learning`]: what backends serve, kept up to date without asking much.
//!
//! APIServices that lead to the same place share one task. Every second or so it asks for two small documents, together:
//! all of discovery, and the index of OpenAPI; both by ETag, so that at rest nothing but headers travels. Only what has
//! changed is asked for further. Where a backend speaks neither, its documents are asked for less often the larger they
//! are. One place that does not answer keeps no other waiting.

use crate::apiservice::Remote;
use crate::backend::Backend;
use crate::discovery::{Dialect, Freshness, RemoteGroup, RemoteGroups};
use crate::metrics::Metrics;
use crate::pace::Pace;
use arc_swap::ArcSwap;
use compact_str::CompactString;
use fairlead_api::{Clock, Timestamp};
use fairlead_telemetry::task::spawn;
use source::Source;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod source;

/// The backends of all APIServices, by name.
pub type Backends = HashMap<CompactString, Arc<Backend>>;

/// All that is known of remote groups.
pub struct Learning {
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    groups: ArcSwap<RemoteGroups>,
    changed: watch::Sender<u64>,
    /// How many places are asked.
    sources: AtomicUsize,
    epoch: Instant,
}

/// Who is asked again after a while is asked together with others: a process that wakes up for each of them does little
/// else.
const TICK: Duration = Duration::from_millis(50);

/// What APIServices have in common whose backends answer the same.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    remote: Remote,
    /// Where a policy leads requests instead, and what it shows.
    policy: String,
}

impl Place {
    fn of(backend: &Backend) -> Place {
        let policy = backend.policy();
        Place {
            remote: backend.remote().clone(),
            policy: format!("{:?} {:?} {:?}", policy.addresses, policy.traffic, policy.discovery),
        }
    }
}

/// One place that is asked; its task ends when this is dropped.
struct Asked {
    members: watch::Sender<Arc<Vec<Arc<Backend>>>>,
    task: JoinHandle<()>,
}

impl Asked {
    /// The APIServices that lead here now.
    fn set(&self, members: Vec<Arc<Backend>>) {
        self.members.send_if_modified(|known| {
            let same = known.len() == members.len() && known.iter().zip(&members).all(|(a, b)| Arc::ptr_eq(a, b));
            if !same {
                *known = Arc::new(members);
            }
            !same
        });
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Learning {
    pub fn new(clock: Arc<dyn Clock>, metrics: Metrics) -> Learning {
        Learning {
            clock,
            metrics,
            groups: ArcSwap::default(),
            changed: watch::Sender::new(0),
            sources: AtomicUsize::new(0),
            epoch: Instant::now(),
        }
    }

    /// What is known, for the merge.
    pub fn groups(&self) -> Arc<RemoteGroups> {
        self.groups.load_full()
    }

    /// A number that changes whenever `groups` does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Keeps up with `backends`, which is asked again whenever APIServices or policies change; until it is dropped.
    pub async fn run(
        self: Arc<Learning>,
        backends: impl Fn() -> Arc<Backends> + Send,
        mut registered: watch::Receiver<u64>,
        mut policies: watch::Receiver<u64>,
    ) {
        let mut asked: HashMap<Place, Asked> = HashMap::new();
        let mut pace = Pace::default();
        loop {
            pace.turn().await;
            registered.borrow_and_update();
            policies.borrow_and_update();
            let backends = backends();
            self.forget(&backends);
            let mut places: HashMap<Place, Vec<Arc<Backend>>> = HashMap::new();
            for backend in backends.values() {
                places.entry(Place::of(backend)).or_default().push(backend.clone());
            }
            asked.retain(|place, _| places.contains_key(place));
            self.sources.store(places.len(), Ordering::Relaxed);
            for (place, mut members) in places {
                members.sort_by(|a, b| a.name().cmp(b.name()));
                if let Some(asked) = asked.get(&place) {
                    asked.set(members);
                    continue;
                }
                let (sender, receiver) = watch::channel(Arc::new(members));
                let source = Source::new(self.clone(), receiver);
                let task = spawn("apiservice discovery", source.run());
                let members = sender;
                asked.insert(place, Asked { members, task });
            }
            pace.done();
            tokio::select! {
                changed = registered.changed() => if changed.is_err() { return },
                changed = policies.changed() => if changed.is_err() { return },
            }
        }
    }

    /// What is known of a backend's group-version, or that nothing is.
    fn known(&self, backend: &Backend) -> RemoteGroup {
        let known = self.groups.load().get(&backend.api_service.name).cloned();
        let known = known.filter(|k| k.group_version == backend.api_service.group_version);
        let known = known.map_or_else(|| RemoteGroup::unknown(backend), |k| (*k).clone());
        RemoteGroup {
            shown: backend.policy().discovery,
            ..known
        }
    }

    /// When a pause from now on is over, at the latest.
    fn due(&self, pause: Duration) -> Instant {
        let now = Instant::now();
        if pause < TICK * 2 {
            return now + pause;
        }
        let ticks = (now + pause).duration_since(self.epoch).as_micros() / TICK.as_micros();
        self.epoch + TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Whether all that is known of these is what they have just confirmed; if so, that is noted.
    fn is_confirmed(&self, backends: &[Arc<Backend>], now: Timestamp) -> bool {
        let groups = self.groups.load();
        let known = |backend: &Arc<Backend>| {
            let known = groups.get(&backend.api_service.name)?;
            let current = known.dialect == Dialect::Aggregated
                && known.freshness == Freshness::Current
                && known.problem.is_none()
                && known.shown == backend.policy().discovery
                && known.group_version == backend.api_service.group_version;
            current.then(|| known.clone())
        };
        let Some(known) = backends.iter().map(known).collect::<Option<Vec<_>>>() else {
            return false;
        };
        known.iter().for_each(|known| known.learnt.now(now));
        true
    }

    /// Takes over what was learnt; tells everybody where it shows.
    fn show(&self, learnt: Vec<RemoteGroup>) {
        let known = self.groups.load();
        let differs = |group: &RemoteGroup| !known.get(&group.api_service).is_some_and(|old| old.shows_same(group));
        let news: Vec<Arc<RemoteGroup>> = learnt.into_iter().filter(differs).map(Arc::new).collect();
        if news.is_empty() {
            return;
        }
        self.change(|groups| {
            for group in &news {
                groups.insert(group.api_service.clone(), group.clone());
            }
        });
    }

    /// Drops what is known of groups whose APIService is gone or means another group-version.
    fn forget(&self, backends: &Backends) {
        let outdated = |name: &CompactString, group: &RemoteGroup| {
            backends
                .get(name)
                .is_none_or(|b| b.api_service.group_version != group.group_version)
        };
        if self.groups.load().iter().any(|(name, group)| outdated(name, group)) {
            self.change(|groups| groups.retain(|name, group| !outdated(name, group)));
        }
    }

    fn change(&self, change: impl Fn(&mut RemoteGroups)) {
        self.groups.rcu(|groups| {
            let mut groups = RemoteGroups::clone(groups);
            change(&mut groups);
            groups
        });
        self.changed.send_modify(|n| *n += 1);
    }
}
