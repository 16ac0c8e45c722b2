//! [`OpenApis`]: the OpenAPI documents of one place, for all its members.

use super::super::Learning;
use crate::backend::Backend;
use crate::discovery::RemoteGroup;
use crate::fetch::{Fetched, Seen};
use crate::openapi::{self, DocumentError, Known, OpenApi, Origin, convert, v2, v3};
use crate::pool::{Pool, SendError};
use compact_str::CompactString;
use fairlead_api::{GroupVersion, Node, json};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What was seen of a place's documents.
#[derive(Default)]
pub(super) struct OpenApis {
    index: Seen,
    v2: Seen,
    /// When v2 is asked for without another reason.
    v2_due: Option<Instant>,
    /// Something else has changed: v2 may have, too, now or a moment later.
    news: u8,
    /// Everything that could be made of what was learnt has been made.
    settled: bool,
    /// Documents that the index says are new, by APIService.
    pending: Vec<(CompactString, String)>,
}

/// How often v2 is asked for where the index of v3 tells of changes.
const V2_PAUSE: Duration = Duration::from_secs(60);

/// How many documents are asked for before it is discovery's turn again, and how many at once.
const BATCH: usize = 16;
const AT_ONCE: usize = 8;

/// What came of asking for the index; `None` where it was not asked for.
pub(super) type Index = Option<Result<Fetched, SendError>>;

/// A member's documents as they become known.
struct Member {
    known: RemoteGroup,
    next: OpenApi,
    problems: Vec<String>,
}

impl OpenApis {
    pub(super) fn forget(&mut self) {
        *self = OpenApis::default();
    }

    /// Discovery has changed: documents will have, too.
    pub(super) fn expect_news(&mut self) {
        self.news = 2;
    }

    /// Whether there are documents that are known to be new and were not asked for yet.
    pub(super) fn has_more(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Asks for the index, unless what it said last is still to be asked for.
    pub(super) fn index(&self, pool: Arc<Pool>) -> impl Future<Output = Index> + Send + use<> {
        let etag = self.pending.is_empty().then(|| self.index.etag.clone());
        async move {
            match etag {
                Some(etag) => Some(openapi::index(&pool, &etag).await),
                None => None,
            }
        }
    }

    /// Whether all that is known is what the index has just confirmed; if so, that is noted.
    pub(super) fn is_confirmed(&self, learning: &Learning, up: &[Arc<Backend>], index: &Index) -> bool {
        let confirmed = self.settled && self.is_at_rest(index, Instant::now());
        if confirmed {
            let now = learning.clock.now();
            up.iter()
                .for_each(|backend| learning.metrics.openapi_confirmed(backend.name(), now));
        }
        confirmed
    }

    /// Asks for what may have changed. Answers how much had to be read that did not tell whether it is new.
    pub(super) async fn round(&mut self, learning: &Learning, pool: &Pool, up: &[Arc<Backend>], index: Index) -> usize {
        let began = Instant::now();
        let mut members: Vec<Member> = up.iter().map(|backend| Member::new(learning.known(backend))).collect();
        let has_index = index.is_none_or(|index| self.look_at_index(index, &mut members));
        self.learn_v3(pool, &mut members).await;
        let due = self.news > 0 || !has_index || self.v2_due.is_none_or(|at| at <= Instant::now());
        let due = due && self.pending.is_empty();
        let mut read = 0;
        if due {
            self.news = self.news.saturating_sub(1);
            self.v2_due = Some(Instant::now() + V2_PAUSE);
            read = self.learn_v2(pool, &mut members).await;
        }
        // Before all is known that the backend has, nothing is made of one half of it.
        let derives = self.pending.is_empty() && self.v2_due.is_some();
        self.settled = derives;
        let mut learnt = Vec::new();
        for member in members {
            let name = member.known.api_service.clone();
            learning.metrics.openapi_confirmed(&name, learning.clock.now());
            let (had_v2, before) = (member.known.openapi.v2.is_some(), member.known.openapi.clone());
            if let Some(group) = member.completed(derives).await {
                if !group.openapi.same(&before) {
                    let reason = if had_v2 { "update" } else { "add" };
                    learning.metrics.openapi_v2_changed(&name, reason, began.elapsed());
                }
                learnt.push(group);
            }
        }
        learning.show(learnt);
        read
    }

    /// Whether the index is as it was, and nothing else is to be asked for.
    fn is_at_rest(&self, index: &Index, now: Instant) -> bool {
        let same = matches!(index, Some(Ok(fetched)) if fetched.status == StatusCode::NOT_MODIFIED);
        let waits = self.news == 0 && self.v2_due.is_some_and(|due| due > now);
        same && self.index.is_something() && waits
    }

    /// Notes which documents the index says are new. Answers whether there is an index.
    fn look_at_index(&mut self, fetched: Result<Fetched, SendError>, members: &mut [Member]) -> bool {
        let Ok(fetched) = fetched else {
            return self.index.is_something();
        };
        if fetched.status.as_u16() == 304 && self.index.is_something() {
            return true;
        }
        let index = match fetched.status.as_u16() {
            200 if !self.index.is_new(&fetched) => return true,
            200 => openapi::read_index(&fetched.bytes),
            404 | 403 | 406 => None,
            _ => return self.index.is_something(),
        };
        let Some(index) = index else {
            self.index = Seen::default();
            members.iter_mut().for_each(Member::drop_v3);
            return false;
        };
        self.news = 2;
        for member in members {
            match openapi::path_in_index(&index, &member.known.group_version) {
                None => member.drop_v3(),
                // A URL without a hash says nothing about what is there.
                Some(url) if url == member.next.v3_url && url.contains("hash=") => {}
                Some(url) => self.pending.push((member.known.api_service.clone(), url)),
            }
        }
        true
    }

    /// Asks for some of the documents that are new.
    async fn learn_v3(&mut self, pool: &Pool, members: &mut [Member]) {
        let batch: Vec<(CompactString, String)> = self.pending.drain(..self.pending.len().min(BATCH)).collect();
        let asking = batch.into_iter().map(|(name, url)| async move {
            let fetched = openapi::document_v3(pool, &url).await;
            (name, url, fetched)
        });
        let mut answers = stream::iter(asking).buffer_unordered(AT_ONCE);
        while let Some((name, url, fetched)) = answers.next().await {
            let Some(member) = members.iter_mut().find(|m| m.known.api_service == name) else {
                continue;
            };
            let Ok(fetched) = fetched else {
                // To be tried again with the next index.
                self.index = Seen::default();
                continue;
            };
            if !fetched.status.is_success() {
                member.drop_v3();
                continue;
            }
            let gv = member.known.group_version.clone();
            let read = openapi::reading(move || v3::read(&fetched.bytes, &gv).map(|(known, _)| known)).await;
            match read {
                Some(Ok(known)) => {
                    member.next.v3 = Some(known);
                    member.next.v3_url = url;
                }
                Some(Err(error)) => {
                    member.drop_v3();
                    member.problem(&error);
                }
                None => {}
            }
        }
    }

    async fn learn_v2(&mut self, pool: &Pool, members: &mut [Member]) -> usize {
        let Ok(fetched) = openapi::document_v2(pool, &self.v2.etag).await else {
            return 0;
        };
        match fetched.status.as_u16() {
            304 if self.v2.is_something() => return 0,
            200 => {}
            404 | 403 | 406 => {
                self.v2 = Seen::default();
                members.iter_mut().for_each(Member::drop_v2);
                return 0;
            }
            _ => return 0,
        }
        let size = fetched.bytes.len();
        if !self.v2.is_new(&fetched) {
            return size;
        }
        let versions: Vec<GroupVersion> = members.iter().map(|m| m.known.group_version.clone()).collect();
        let cut = openapi::reading(move || {
            let document = v2::parse(&fetched.bytes)?;
            let cut = |gv: &GroupVersion| v2::cut(&document, gv).map(|cut| v2::written(&cut));
            Ok::<_, DocumentError>(versions.iter().map(cut).collect::<Vec<_>>())
        });
        match cut.await {
            Some(Ok(all)) => {
                for (member, known) in members.iter_mut().zip(all) {
                    member.drop_v2();
                    member.next.v2 = known.or(member.next.v2.take());
                }
            }
            Some(Err(error)) => {
                for member in members {
                    member.drop_v2();
                    member.problem(&error);
                }
            }
            None => {}
        }
        size
    }
}

impl Member {
    fn new(known: RemoteGroup) -> Member {
        Member {
            next: known.openapi.clone(),
            known,
            problems: Vec::new(),
        }
    }

    fn drop_v3(&mut self) {
        self.next.v3 = self.next.v3.take().filter(|known| known.origin == Origin::Derived);
        self.next.v3_url.clear();
    }

    fn drop_v2(&mut self) {
        self.next.v2 = self.next.v2.take().filter(|known| known.origin == Origin::Derived);
    }

    fn problem(&mut self, error: &DocumentError) {
        self.problems.push(error.to_string());
    }

    /// The group with its new documents, each made of the other where the backend has only one; `None` where nothing
    /// has changed.
    async fn completed(mut self, derives: bool) -> Option<RemoteGroup> {
        let own = |known: &Option<Known>| known.clone().filter(|k| k.origin != Origin::Derived);
        let of_backend = |openapi: &OpenApi| (own(&openapi.v2), own(&openapi.v3));
        // What could not be made once is not tried again before something changes.
        let tried = !self.known.openapi.problems.is_empty();
        let derivable = derives && self.next.v2.is_none() != self.next.v3.is_none() && !tried;
        let changed = of_backend(&self.next) != of_backend(&self.known.openapi);
        if !changed && !derivable && self.problems.is_empty() {
            return (self.next.v3_url != self.known.openapi.v3_url).then_some(RemoteGroup {
                openapi: self.next,
                ..self.known
            });
        }
        if changed || derivable {
            (self.next.v2, self.next.v3) = of_backend(&self.next);
        }
        if derives && (changed || derivable) {
            let (next, gv) = (self.next.clone(), self.known.group_version.clone());
            let derived = openapi::reading(move || derive(next, &gv)).await;
            match derived {
                Some(Ok(derived)) => self.next = derived,
                Some(Err(error)) => self.problem(&error),
                None => {}
            }
        }
        self.next.problems = Arc::new(self.problems);
        Some(RemoteGroup {
            openapi: self.next,
            ..self.known
        })
    }
}

/// Makes the version that is missing of the other.
fn derive(mut openapi: OpenApi, gv: &GroupVersion) -> Result<OpenApi, DocumentError> {
    match (&openapi.v2, &openapi.v3) {
        (Some(v2), None) => {
            let node: Node = json::parse(&v2.document.bytes).unwrap_or_default();
            openapi.v3 = Some(convert::v3_from_v2(&node)?);
        }
        (None, Some(v3)) => {
            let (_, model) = v3::read(&v3.document.bytes, gv)?;
            openapi.v2 = Some(convert::v2_from_v3(&model)?);
        }
        _ => {}
    }
    Ok(openapi)
}
