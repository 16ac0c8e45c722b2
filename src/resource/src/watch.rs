//! WATCH: initial events, changes as the selection sees them, bookmarks.
//!
//! Source of behaviour: kubernetes/apiserver pkg/storage/cacher (cacher.go, cache_watcher.go); KEP-3157.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::definition::ResourceDefinition;
use crate::options::{ListOptions, parse_resource_version};
use crate::request::{EventKind, MetaVersion, Response, View, WatchEvent, WatchStream};
use crate::selection::Selection;
use crate::table::{Include, Table};
use crate::view::partial;
use crate::{convert, storage_codec, store_error, typed};
use fairlead_api::{Clock, Node, Status, StatusResult, json};
use fairlead_storage::{CacheEvent, Cached, Error, Revision, Snapshot, Watcher};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Marks the bookmark behind the initial events.
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A watch without `timeoutSeconds` lives between one and two of these.
const MIN_LIFETIME: Duration = Duration::from_secs(1800);
/// How often a watcher that wants bookmarks gets one at least.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How long before its end a watch gets its last bookmark.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// # Errors
/// BadRequest and Invalid for options. What goes wrong later is an ERROR event.
pub async fn watch(call: &Call<'_>) -> StatusResult<Response> {
    let options = ListOptions::parse(call.request, true)?;
    let selection = Selection::parse(call.request)?;
    // COMPAT: without a reason, as upstream.
    let requested = parse_resource_version(&options.resource_version).map_err(|why| Status::new(500, "", why))?;
    let include = match call.request.view {
        View::Table(_) => Include::parse(call.request)?,
        _ => Include::default(),
    };
    let started = start(call, &options, &selection, requested).await;
    let (initial, source, failed) = match started {
        Ok((initial, watcher)) => (initial, Some(watcher), None),
        Err(status) => (VecDeque::new(), None, Some(status)),
    };
    let deadline = Instant::now() + lifetime(call, &options);
    let wants_end = options.send_initial_events == Some(true) && options.allow_bookmarks;
    let first = Instant::now() + HEARTBEAT;
    let mut stream = Stream {
        definition: call.request.definition.clone(),
        clock: call.engine.config.clock.clone(),
        view: call.request.view,
        include,
        selection,
        revision: source.as_ref().map_or(Revision(0), |source| source.revision),
        watcher: source.map(|source| source.watcher),
        after: Revision(requested),
        initial,
        initial_end: wants_end && failed.is_none(),
        pending: None,
        failed,
        headers: true,
        bookmark_at: options.allow_bookmarks.then_some(first),
        deadline,
    };
    stream.schedule_bookmark(Instant::now());
    Ok(Response::Watch(Box::new(stream)))
}

/// A watcher and the state behind which it begins.
struct Source {
    watcher: Watcher,
    revision: Revision,
}

type Started = (VecDeque<Arc<Cached>>, Source);

async fn start(call: &Call<'_>, options: &ListOptions, selection: &Selection, requested: u64) -> StatusResult<Started> {
    let scope = selection.scope(call.definition);
    if options.send_initial_events != Some(true) {
        let after = (requested > 0).then_some(Revision(requested));
        let watcher = match after {
            Some(after) => call.cache().watch_from(after, scope).await,
            None => {
                fresh(call).await?;
                call.cache().watch(None, scope)
            }
        };
        let watcher = watcher.map_err(|error| too_old(error, requested))?;
        let revision = after.unwrap_or_else(|| call.cache().latest().revision);
        return Ok((VecDeque::new(), Source { watcher, revision }));
    }
    let snapshot = match (options.resource_version.as_str(), requested) {
        (_, 0) if options.resource_version == "0" && call.cache().latest().revision.0 > 0 => call.cache().latest(),
        (_, 0) => fresh(call).await?,
        _ => {
            let read = call.cache().at_least(Revision(requested)).await;
            read.map_err(|error| store_error::read_status(error, &call.group_resource(), "watch", requested))?
        }
    };
    let initial = match selection.key() {
        Some(key) => snapshot
            .get(&key)
            .filter(|object| selection.matches(object))
            .cloned()
            .into_iter()
            .collect(),
        None => {
            let prefix = selection.prefix();
            snapshot
                .range(&prefix, "")
                .filter(|object| selection.matches(object))
                .cloned()
                .collect()
        }
    };
    let revision = snapshot.revision;
    let watcher = call
        .cache()
        .watch(Some(revision), scope)
        .map_err(|error| too_old(error, revision.0))?;
    Ok((initial, Source { watcher, revision }))
}

async fn fresh(call: &Call<'_>) -> StatusResult<Snapshot> {
    call.cache()
        .fresh()
        .await
        .map_err(|error| store_error::status(error, &call.group_resource(), "watch"))
}

fn too_old(error: Error, requested: u64) -> Status {
    match error {
        Error::Compacted { oldest } => Status::expired(format!("too old resource version: {requested} ({})", oldest.0)),
        other => Status::internal(other),
    }
}

fn lifetime(call: &Call, options: &ListOptions) -> Duration {
    match options.timeout_seconds {
        Some(seconds) if seconds != 0 => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        _ => MIN_LIFETIME + Duration::from_secs(call.engine.config.entropy.bits() % MIN_LIFETIME.as_secs()),
    }
}

struct Stream {
    definition: Arc<ResourceDefinition>,
    clock: Arc<dyn Clock>,
    view: View,
    include: Include,
    selection: Selection,
    watcher: Option<Watcher>,
    /// Everything up to here has been seen.
    revision: Revision,
    /// Changes up to here are not the client's business: it asked for a version ahead.
    after: Revision,
    initial: VecDeque<Arc<Cached>>,
    /// Whether the bookmark behind the initial events is still to come.
    initial_end: bool,
    /// Taken from the watcher, on its way to the client.
    pending: Option<(EventKind, Arc<Cached>)>,
    failed: Option<Status>,
    /// Whether the next table needs its column definitions.
    headers: bool,
    bookmark_at: Option<Instant>,
    deadline: Instant,
}

/// What woke a stream.
enum Wake {
    End,
    Bookmark,
    Event(Result<CacheEvent, Error>),
}

impl WatchStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Option<WatchEvent>> {
        Box::pin(self.advance())
    }
}

impl Stream {
    async fn advance(&mut self) -> Option<WatchEvent> {
        loop {
            if self.pending.is_some() && matches!(self.view, View::MetadataList(_)) {
                // COMPAT: no event is a list, which shows when there is one.
                return None;
            }
            if let Some((kind, object)) = self.pending.clone() {
                let event = self.show(kind, object).await;
                self.pending = None;
                return Some(event);
            }
            if let Some(status) = self.failed.take() {
                self.watcher = None;
                return Some(WatchEvent::Node {
                    kind: EventKind::Error,
                    node: status.to_node(),
                });
            }
            let watcher = self.watcher.as_mut()?;
            if let Some(object) = self.initial.pop_front() {
                self.pending = Some((EventKind::Added, object));
                continue;
            }
            if self.initial_end {
                self.initial_end = false;
                return Some(self.bookmark(true));
            }
            let bookmark_at = self.bookmark_at;
            let wake = tokio::select! {
                biased;
                () = sleep_until(self.deadline) => Wake::End,
                event = watcher.next() => Wake::Event(event),
                () = sleep_until(bookmark_at.unwrap_or(self.deadline)), if bookmark_at.is_some() => Wake::Bookmark,
            };
            match wake {
                Wake::End => return None,
                Wake::Bookmark => {
                    self.schedule_bookmark(Instant::now());
                    return Some(self.bookmark(false));
                }
                Wake::Event(Ok(event)) => self.pending = self.take(event),
                // COMPAT: as where the resource is gone or its schema has changed.
                Wake::Event(Err(Error::Unavailable(_))) => return None,
                Wake::Event(Err(error)) => self.failed = Some(too_old(error, self.revision.0)),
            }
        }
    }

    /// What a change is for this selection, if anything.
    fn take(&mut self, event: CacheEvent) -> Option<(EventKind, Arc<Cached>)> {
        let (object, previous, deleted) = match event {
            CacheEvent::Put { object, previous } => (object, previous, false),
            CacheEvent::Delete { object, previous } => (object, Some(previous), true),
            CacheEvent::Progress(revision) => {
                self.revision = self.revision.max(revision);
                return None;
            }
        };
        self.revision = self.revision.max(object.revision);
        if object.revision <= self.after {
            return None;
        }
        let now = !deleted && self.selection.matches(&object);
        let before = previous
            .as_ref()
            .is_some_and(|previous| self.selection.matches(previous));
        match (now, before) {
            (true, false) => Some((EventKind::Added, object)),
            (true, true) => Some((EventKind::Modified, object)),
            (false, true) if deleted => Some((EventKind::Deleted, object)),
            (false, true) => {
                let last = storage_codec::at_revision(previous.as_ref()?, object.revision);
                Some((EventKind::Deleted, Arc::new(last)))
            }
            (false, false) => None,
        }
    }

    async fn show(&mut self, kind: EventKind, object: Arc<Cached>) -> WatchEvent {
        let object = match convert::object(&self.definition, object).await {
            Ok(object) => object,
            Err(status) => {
                return WatchEvent::Node {
                    kind: EventKind::Error,
                    node: status.to_node(),
                };
            }
        };
        if self.view == View::Object {
            return WatchEvent::Object { kind, object };
        }
        match self.parse(&object) {
            Ok(node) => WatchEvent::Node {
                kind,
                node: self.shape(node),
            },
            Err(error) => WatchEvent::Node {
                kind: EventKind::Error,
                node: Status::internal(error).to_node(),
            },
        }
    }

    /// As much of an object as the view shows.
    fn parse(&self, object: &Cached) -> Result<Node, json::SyntaxError> {
        if matches!(self.view, View::Object | View::Table(_)) {
            return json::parse(&object.json);
        }
        let mut node = Node::map();
        node.set("metadata", json::parse(&storage_codec::metadata(object))?);
        Ok(node)
    }

    fn shape(&mut self, node: Node) -> Node {
        match self.view {
            View::Object => node,
            View::Metadata(version) | View::MetadataList(version) => partial(&node, version),
            View::Table(version) => self.table(&node, version),
        }
    }

    fn table(&mut self, node: &Node, version: MetaVersion) -> Node {
        let mut table = Table::of(&self.definition, version, self.include, self.clock.now().unix_seconds());
        table.metadata.set("resourceVersion", node.resource_version());
        table.push(node);
        table.finish(std::mem::take(&mut self.headers))
    }

    /// An otherwise empty object at the revision that has been reached.
    fn bookmark(&mut self, initial_end: bool) -> WatchEvent {
        if !initial_end && let Some(watcher) = &mut self.watcher {
            self.revision = self.revision.max(watcher.reached());
        }
        let mut node = typed::empty(&self.definition);
        node.set_at(
            &["metadata", "resourceVersion"],
            self.revision.max(self.after).0.to_string(),
        );
        if initial_end {
            node.set_at(&["metadata", "annotations", INITIAL_EVENTS_END], "true");
        }
        WatchEvent::Node {
            kind: EventKind::Bookmark,
            node: self.shape(node),
        }
    }

    fn schedule_bookmark(&mut self, now: Instant) {
        if self.bookmark_at.is_none() {
            return;
        }
        let last = self.deadline.checked_sub(LAST_BOOKMARK).unwrap_or(now);
        self.bookmark_at = Some((now + HEARTBEAT).min(last)).filter(|at| *at > now);
    }
}
