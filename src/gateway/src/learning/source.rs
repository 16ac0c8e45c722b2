//! [`Source`]: one place, its members (the APIServices that lead there), and what they were last told.

use super::Learning;
use crate::backend::Backend;
use crate::discovery::{Dialect, DiscoveryError, Everything, Freshness, RemoteGroup, documents, everything, legacy};
use crate::fetch::Seen;
use crate::pool::Pool;
use fairlead_api::{GroupVersion, Node, Timestamp};
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use openapis::OpenApis;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep_until;

mod openapis;

pub(super) struct Source {
    learning: Arc<Learning>,
    members: watch::Receiver<Arc<Vec<Arc<Backend>>>>,
    discovery: Seen,
    /// Rounds until a backend that did not speak aggregated discovery is asked for it again.
    unspoken: u32,
    openapis: OpenApis,
    failures: u32,
}

/// How many group-versions had to be asked for alone, and which of them failed.
type Discovered = (usize, Vec<(Arc<Backend>, DiscoveryError)>);

/// Between two rounds, so that every change is seen within two seconds.
const TURN: Duration = Duration::from_millis(1600);
/// All places together are asked at most every so often: more than 500 of them are asked less often each.
const SPACING: Duration = Duration::from_millis(3);
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
            failures: 0,
        }
    }

    /// Asks until it is dropped.
    pub(super) async fn run(mut self) {
        let mut known_up: Vec<bool> = Vec::new();
        let mut known_members = Arc::default();
        loop {
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
                (self.unspoken, self.failures) = (0, 0);
                known_up.clone_from(&up_now);
            }
            let (up, down): (Vec<_>, Vec<_>) = members.iter().cloned().zip(&up_now).partition(|(_, up)| **up);
            let up: Vec<Arc<Backend>> = up.into_iter().map(|(backend, _)| backend).collect();
            self.show_unavailable(down.iter().map(|(backend, _)| backend));
            let mut changed = self.members.clone();
            let altered = async {
                tokio::select! {
                    told = changed.changed() => told.is_ok(),
                    () = turned(&members, &up_now) => true,
                }
            };
            let asking = async {
                if up.is_empty() {
                    // Nobody to ask until a verdict or the members change.
                    return std::future::pending().await;
                }
                let pause = self.round(&up).await;
                sleep_until(self.learning.due(pause)).await;
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
        // Both questions travel together.
        let mut asking = pin!(self.openapis.index(pool.clone()));
        let (discovered, index) = {
            let mut discovering = pin!(self.discover(&pool, up));
            match select(discovering.as_mut(), asking.as_mut()).await {
                Either::Left((discovered, _)) => (discovered, None),
                Either::Right((index, _)) => (discovering.await, Some(index)),
            }
        };
        let (asked_alone, failed) = match discovered {
            Ok(learnt) => learnt,
            Err(error) => return self.failed(up, &error.to_string()),
        };
        let failure = failed.first().map(|(_, why)| why.to_string());
        let failure = failure.map(|why| {
            let failed: Vec<Arc<Backend>> = failed.into_iter().map(|(backend, _)| backend).collect();
            self.failed(&failed, &why)
        });
        let index = match index {
            Some(answered) => answered,
            None => asking.await,
        };
        let bytes = match self.openapis.is_confirmed(&self.learning, up, &index) {
            true => 0,
            false => Box::pin(self.openapis.round(&self.learning, &pool, up, index)).await,
        };
        if let Some(pause) = failure {
            return pause;
        }
        self.failures = 0;
        if self.openapis.has_more() {
            return Duration::ZERO;
        }
        let spread = u32::try_from(self.learning.sources.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let alone = LEGACY_SPACING * u32::try_from(asked_alone).unwrap_or(u32::MAX);
        let turn = TURN.max(SPACING.saturating_mul(spread)).max(alone);
        turn + self.jitter(up, turn) + Duration::from_secs(bytes as u64 >> 18)
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

    /// Asks for all group-versions, and for those alone that this does not tell.
    async fn discover(&mut self, pool: &Arc<Pool>, up: &[Arc<Backend>]) -> Result<Discovered, DiscoveryError> {
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
        if matches!(answer, Everything::Unchanged) && self.learning.is_confirmed(up, now) {
            return Ok((0, Vec::new()));
        }
        Ok(Box::pin(self.learn(answer, up, now)).await)
    }

    /// Takes over an answer that is no mere confirmation.
    async fn learn(&mut self, answer: Everything, up: &[Arc<Backend>], now: Timestamp) -> Discovered {
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
            let known = known.get(&group.api_service);
            known.is_none_or(|known| !Arc::ptr_eq(&known.resources, &group.resources))
        });
        if news {
            self.openapis.expect_news();
        }
        self.learning.show(learnt);
        (asked_alone, failed)
    }
}

/// Resolves when one of these is no longer what it was: available, or not.
async fn turned(members: &[Arc<Backend>], available: &[bool]) {
    let verdicts = members.iter().zip(available).map(|(member, was)| {
        let mut verdicts = member.verdicts();
        Box::pin(async move {
            if verdicts.wait_for(|verdict| verdict.is_true() != *was).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let mut verdicts: FuturesUnordered<_> = verdicts.collect();
    if verdicts.next().await.is_none() {
        std::future::pending::<()>().await;
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
