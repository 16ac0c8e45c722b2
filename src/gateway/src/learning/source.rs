//! [`Source`]: one place, its members (the APIServices that lead there), and what they were last told.

use super::Learning;
use crate::backend::Backend;
use crate::discovery::{Dialect, DiscoveryError, Everything, Freshness, RemoteGroup, documents, everything, legacy};
use crate::fetch::Seen;
use crate::pool::Pool;
use fairlead_api::{GroupVersion, Node};
use futures_util::{StreamExt, stream};
use openapis::OpenApis;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

mod openapis;

pub(super) struct Source {
    learning: Arc<Learning>,
    members: watch::Receiver<Arc<Vec<Arc<Backend>>>>,
    discovery: Seen,
    /// Rounds until a backend that did not speak aggregated discovery is asked for it again.
    unspoken: u32,
    openapis: OpenApis,
    /// Whether OpenAPI comes next.
    openapi_turn: bool,
    failures: u32,
}

/// Between two questions: discovery and OpenAPI take turns, so that either is seen within twice as long.
const TURN: Duration = Duration::from_millis(900);
/// All places together are asked at most every so often.
const SPACING: Duration = Duration::from_millis(5);
/// What one group-version that has to be asked for alone adds to the time between two turns.
const LEGACY_SPACING: Duration = Duration::from_millis(20);
/// How many of these are asked for at once.
const LEGACY_AT_ONCE: usize = 8;
/// How long aggregated discovery is not asked for again, in rounds.
const UNSPOKEN: u32 = 30;
/// Failed questions in a row that are put down to chance. A backend that is dead is told by its probe.
const TOLERATED: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// More claims than this are not told.
const MAX_CLAIMS: usize = 50;

impl Source {
    pub(super) fn new(learning: Arc<Learning>, members: watch::Receiver<Arc<Vec<Arc<Backend>>>>) -> Source {
        Source {
            learning,
            members,
            discovery: Seen::default(),
            unspoken: 0,
            openapis: OpenApis::default(),
            openapi_turn: false,
            failures: 0,
        }
    }

    /// Asks until it is dropped.
    pub(super) async fn run(mut self) {
        let mut verdicts = self.learning.verdicts.subscribe();
        let mut known_up: Vec<bool> = Vec::new();
        let mut known_members = Arc::default();
        loop {
            verdicts.borrow_and_update();
            let members = self.members.borrow_and_update().clone();
            let same_members = std::mem::replace(&mut known_members, members.clone());
            let same_members = Arc::ptr_eq(&same_members, &members);
            let available = |members: &[Arc<Backend>]| members.iter().map(|b| b.is_available()).collect::<Vec<_>>();
            let up_now = available(&members);
            let fell = same_members && known_up.iter().zip(&up_now).any(|(was, is)| *was && !is);
            if fell {
                // They are in the same place: what has happened to one has happened to all, most likely.
                members.iter().filter(|b| b.is_available()).for_each(|b| b.suspect());
            }
            if up_now != known_up || !same_members {
                // Somebody is new or back: what the others know is no news to them.
                self.discovery = Seen::default();
                self.openapis.forget();
                (self.unspoken, self.openapi_turn, self.failures) = (0, false, 0);
                known_up.clone_from(&up_now);
            }
            let (up, down): (Vec<_>, Vec<_>) = members.iter().cloned().zip(&up_now).partition(|(_, up)| **up);
            let up: Vec<Arc<Backend>> = up.into_iter().map(|(backend, _)| backend).collect();
            self.show_unavailable(down.iter().map(|(backend, _)| backend));
            let mut changed = self.members.clone();
            let altered = async {
                loop {
                    tokio::select! {
                        told = changed.changed() => return told.is_ok(),
                        told = verdicts.changed() => match told {
                            Ok(()) if available(&members) == up_now => {}
                            told => return told.is_ok(),
                        },
                    }
                }
            };
            let asking = async {
                if up.is_empty() {
                    // Nobody to ask until a verdict or the members change.
                    return std::future::pending().await;
                }
                let pause = self.round(&up).await;
                sleep(pause).await;
                true
            };
            // A question that is under way to a place that has died may never be answered.
            let goes_on = tokio::select! {
                goes_on = altered => goes_on,
                goes_on = asking => goes_on,
            };
            if !goes_on {
                return;
            }
        }
    }

    fn show_unavailable<'a>(&self, down: impl Iterator<Item = &'a Arc<Backend>>) {
        let stale = down.map(|backend| {
            let known = self.learning.known(backend);
            let verdict = backend.verdicts().borrow().clone();
            known.stale(&verdict.message)
        });
        self.learning.show(stale.collect());
    }

    /// One question and what follows from it. Answers when the next is due.
    async fn round(&mut self, up: &[Arc<Backend>]) -> Duration {
        let Some(pool) = up.iter().find_map(|backend| backend.pool().ok()) else {
            return self.failed(up, "no endpoints available");
        };
        let spread = self.learning.sources.load(Ordering::Relaxed);
        let turn = TURN.max(SPACING * u32::try_from(spread).unwrap_or(u32::MAX));
        if self.openapi_turn {
            self.openapi_turn = false;
            let bytes = self.openapis.round(&self.learning, &pool, up).await;
            if self.openapis.has_more() {
                return Duration::ZERO;
            }
            return turn + self.jitter(up, turn) + Duration::from_secs(bytes as u64 >> 18);
        }
        match self.discover(&pool, up).await {
            Ok((asked_alone, failed)) => {
                self.openapi_turn = true;
                match failed.first() {
                    None => self.failures = 0,
                    Some((_, why)) => {
                        let why = why.to_string();
                        let failed: Vec<Arc<Backend>> = failed.into_iter().map(|(backend, _)| backend).collect();
                        return self.failed(&failed, &why);
                    }
                }
                if !self.openapis.is_known() || self.openapis.has_more() {
                    return Duration::ZERO;
                }
                let alone = LEGACY_SPACING * u32::try_from(asked_alone).unwrap_or(u32::MAX);
                turn.max(alone) + self.jitter(up, turn)
            }
            Err(error) => self.failed(up, &error.to_string()),
        }
    }

    /// Places are not asked in step: up to a tenth, the same each time.
    fn jitter(&self, up: &[Arc<Backend>], turn: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        up.first().map(|b| b.name()).hash(&mut hasher);
        turn * u32::try_from(hasher.finish() % 100).unwrap_or(0) / 1000
    }

    fn failed(&mut self, up: &[Arc<Backend>], why: &str) -> Duration {
        up.iter().for_each(|backend| backend.suspect());
        let pause = (FIRST_PAUSE * (1 << self.failures.min(10))).min(MAX_PAUSE);
        self.failures += 1;
        let known = up.iter().map(|backend| self.learning.known(backend));
        let stale: Vec<RemoteGroup> = known
            .filter(|known| known.learnt.at().is_none() || self.failures >= TOLERATED)
            .map(|known| known.stale(why))
            .collect();
        if self.failures == TOLERATED {
            let names: Vec<&str> = up.iter().map(|b| b.name()).collect();
            tracing::warn!(apiservices = names.join(","), error = why, "discovery failed");
        }
        self.learning.show(stale);
        pause
    }

    /// Asks for all group-versions, and for those alone that this does not tell. Answers how many these were, and which
    /// of them failed.
    async fn discover(
        &mut self,
        pool: &Arc<Pool>,
        up: &[Arc<Backend>],
    ) -> Result<(usize, Vec<(Arc<Backend>, DiscoveryError)>), DiscoveryError> {
        let now = self.learning.clock.now();
        let answer = match self.unspoken.checked_sub(1) {
            Some(left) => {
                self.unspoken = left;
                Everything::Unspoken
            }
            // Groups without a name are not in that document.
            None if up.iter().all(|b| b.api_service.group_version.group.is_empty()) => Everything::Unspoken,
            None => {
                let answer = everything(pool, &mut self.discovery).await?;
                if matches!(answer, Everything::Unspoken) {
                    self.unspoken = UNSPOKEN;
                }
                answer
            }
        };
        let claims = match &answer {
            Everything::Document(document) => claims(document, &self.members.borrow()),
            _ => Arc::default(),
        };
        let mut alone = Vec::new();
        let mut learnt = Vec::new();
        for backend in up {
            let known = self.learning.known(backend);
            match &answer {
                Everything::Unchanged if known.dialect == Dialect::Aggregated => {
                    learnt.push(RemoteGroup {
                        freshness: Freshness::Current,
                        problem: None,
                        ..known
                    });
                }
                Everything::Document(document) => {
                    match documents::from_aggregated(document, &backend.api_service.group_version) {
                        Some(resources) => {
                            learnt.push(current(known, resources, Dialect::Aggregated, claims.clone()));
                        }
                        None => alone.push((backend.clone(), known)),
                    }
                }
                _ => alone.push((backend.clone(), known)),
            }
        }
        let asked_alone = alone.len();
        let asking = alone
            .into_iter()
            .map(|(backend, known)| (backend, known, claims.clone()));
        let asking = asking.map(|(backend, known, claims)| async move {
            let asked = match backend.pool() {
                Ok(pool) => legacy(&pool, &backend).await,
                Err(error) => Err(DiscoveryError::Send(error.to_string())),
            };
            let learnt = asked.map(|resources| current(known, resources, Dialect::Legacy, claims));
            learnt.map_err(|error| (backend, error))
        });
        let mut answers = stream::iter(asking).buffer_unordered(LEGACY_AT_ONCE);
        let mut failed = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(group) => learnt.push(group),
                Err(failure) => failed.push(failure),
            }
        }
        for group in &learnt {
            group.learnt.now(now);
        }
        let news = learnt.iter().any(|group| {
            let known = self.learning.groups();
            known
                .get(&group.api_service)
                .is_none_or(|known| known.resources != group.resources)
        });
        if news {
            self.openapis.expect_news();
        }
        self.learning.show(learnt);
        Ok((asked_alone, failed))
    }
}

fn current(known: RemoteGroup, resources: Vec<Node>, dialect: Dialect, claims: Arc<Vec<GroupVersion>>) -> RemoteGroup {
    let resources = match *known.resources == resources {
        true => known.resources.clone(),
        false => Arc::new(resources),
    };
    RemoteGroup {
        resources,
        freshness: Freshness::Current,
        dialect,
        claims,
        problem: None,
        ..known
    }
}

/// The group-versions a backend speaks of that nobody registered it for.
fn claims(document: &Node, members: &[Arc<Backend>]) -> Arc<Vec<GroupVersion>> {
    let registered: HashSet<&GroupVersion> = members.iter().map(|b| &b.api_service.group_version).collect();
    let claims = documents::spoken_of(document).filter(|gv| !registered.contains(gv));
    Arc::new(claims.take(MAX_CLAIMS).collect())
}
