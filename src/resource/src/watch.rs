//! WATCH: initial events, changes as the selection sees them, bookmarks.
//!
//! Source of behaviour: kubernetes/apiserver pkg/storage/cacher (cacher.go, cache_watcher.go); KEP-3157.
// PERFORMANCE: per-request path

use crate::call::Call;
use crate::definition::ResourceDefinition;
use crate::options::{ListOptions, parse_resource_version};
use crate::piece::{Piece, Writer};
use crate::request::{EventKind, MetaVersion, Response, View, WatchEvent, WatchStream};
use crate::selection::Selection;
use crate::table::{self, Include, Table};
use crate::view::partial;
use crate::{convert, storage_codec, store_error, typed};
use fairlead_api::{Clock, Node, Status, StatusResult, json};
use fairlead_storage::{CacheEvent, Cached, Error, Form, Made, Revision, Snapshot, Step, Watcher};
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

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
        lens: Lens {
            definition: call.request.definition.clone(),
            clock: call.engine.config.clock.clone(),
            view: call.request.view,
            include,
            selection,
            after: Revision(requested),
        },
        form: None,
        revision: source.as_ref().map_or(Revision(0), |source| source.revision),
        watcher: source.map(|source| source.watcher),
        initial,
        initial_end: wants_end && failed.is_none(),
        pending: None,
        converting: None,
        failed,
        headers: matches!(call.request.view, View::Table(_)),
        bookmark_at: options.allow_bookmarks.then_some(first),
        deadline,
        alarm: Box::pin(sleep_until(deadline)),
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
    lens: Lens,
    /// What tells the pieces of this watch from others', once somebody asked.
    form: Option<Arc<str>>,
    watcher: Option<Watcher>,
    /// Everything up to here has been seen.
    revision: Revision,
    initial: VecDeque<Arc<Cached>>,
    /// Whether the bookmark behind the initial events is still to come.
    initial_end: bool,
    /// Taken from the watcher, on its way to the client.
    pending: Option<Change>,
    /// As `pending`, while somebody converts it.
    converting: Option<BoxFuture<'static, (EventKind, StatusResult<Arc<Cached>>)>>,
    failed: Option<Status>,
    /// Whether the next table needs its column definitions.
    headers: bool,
    bookmark_at: Option<Instant>,
    deadline: Instant,
    /// Rings for the next bookmark or the end, whichever is first.
    alarm: Pin<Box<Sleep>>,
}

/// What a change is for a selection.
type Change = (EventKind, Arc<Cached>);

/// How a watch sees objects. Does not change while it goes on.
struct Lens {
    definition: Arc<ResourceDefinition>,
    clock: Arc<dyn Clock>,
    view: View,
    include: Include,
    selection: Selection,
    /// Changes up to here are not the client's business: it asked for a version ahead.
    after: Revision,
}

impl WatchStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Option<WatchEvent>> {
        Box::pin(std::future::poll_fn(|context| self.poll_next(context)))
    }

    fn hurry(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            watcher.hurry();
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>, writer: &dyn Writer) -> Poll<Option<Piece>> {
        while self.is_at_ease() {
            if self.alarm_rings(context) && self.is_over() {
                return Poll::Ready(None);
            }
            match ready!(self.poll_run(context, writer)) {
                Some(piece) if piece.sizes.is_empty() => {}
                Some(piece) => return Poll::Ready(Some(piece)),
                None => break,
            }
        }
        Piece::poll_with(context, writer, |context| self.poll_next(context))
    }
}

impl Stream {
    /// Whether there is nothing to send but what the watcher brings, and that as it comes.
    fn is_at_ease(&self) -> bool {
        let under_way = self.pending.is_some() || self.converting.is_some() || self.failed.is_some();
        let beginning = !self.initial.is_empty() || self.initial_end || self.headers;
        self.watcher.is_some() && !under_way && !beginning && !matches!(self.lens.view, View::MetadataList(_))
    }

    /// What the watcher has, in a piece that others may share; an empty one where nothing of it is seen; `None` where
    /// [`Stream::poll_next`] has to see to it.
    fn poll_run(&mut self, context: &mut Context<'_>, writer: &dyn Writer) -> Poll<Option<Piece>> {
        let Stream {
            lens, form, watcher, ..
        } = self;
        let Some(watcher) = watcher else {
            return Poll::Ready(None);
        };
        let mut form = || Form {
            name: form.get_or_insert_with(|| lens.form(writer)).clone(),
            stamp: lens.stamp(),
        };
        let polled = watcher.poll_run(context, &mut form, &mut |events| {
            let piece = lens.piece(events, writer)?;
            Some(Arc::new(piece) as Made)
        });
        match polled {
            // A bookmark may be due.
            Poll::Pending if self.bookmark_is_due() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Step::Run(made, reached))) => {
                self.revision = self.revision.max(reached);
                let piece = made.downcast_ref::<Piece>().expect("only pieces are made of runs");
                Poll::Ready(Some(piece.clone()))
            }
            Poll::Ready(Ok(Step::Progress(reached))) => {
                self.revision = self.revision.max(reached);
                Poll::Ready(Some(Piece::default()))
            }
            Poll::Ready(Ok(Step::Singly)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => {
                self.fail(error);
                Poll::Ready(None)
            }
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        loop {
            if let Some(converting) = &mut self.converting {
                let (kind, object) = ready!(converting.as_mut().poll(context));
                self.converting = None;
                let headers = object.is_ok() && std::mem::take(&mut self.headers);
                return Poll::Ready(Some(self.lens.show(kind, object, headers)));
            }
            if self.pending.is_some() && matches!(self.lens.view, View::MetadataList(_)) {
                // COMPAT: no event is a list, which shows when there is one.
                return Poll::Ready(None);
            }
            if let Some((kind, object)) = self.pending.take() {
                if convert::is_as_stored(&self.lens.definition, &object) {
                    let headers = std::mem::take(&mut self.headers);
                    return Poll::Ready(Some(self.lens.show(kind, Ok(object), headers)));
                }
                let definition = self.lens.definition.clone();
                let converting = async move { (kind, convert::object(&definition, object).await) };
                self.converting = Some(Box::pin(converting));
                continue;
            }
            if let Some(status) = self.failed.take() {
                self.watcher = None;
                return Poll::Ready(Some(WatchEvent::Node {
                    kind: EventKind::Error,
                    node: status.to_node(),
                }));
            }
            let Some(watcher) = self.watcher.as_mut() else {
                return Poll::Ready(None);
            };
            if let Some(object) = self.initial.pop_front() {
                self.pending = Some((EventKind::Added, object));
                continue;
            }
            if self.initial_end {
                self.initial_end = false;
                return Poll::Ready(Some(self.bookmark(true)));
            }
            let polled = match self.alarm.as_mut().poll(context) {
                Poll::Ready(()) if Instant::now() >= self.deadline => return Poll::Ready(None),
                _ => watcher.poll_next(context),
            };
            match polled {
                Poll::Pending if self.bookmark_is_due() => {
                    self.schedule_bookmark(Instant::now());
                    return Poll::Ready(Some(self.bookmark(false)));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(event)) => self.pending = self.take(event),
                Poll::Ready(Err(error)) => self.fail(error),
            }
        }
    }

    fn take(&mut self, event: CacheEvent) -> Option<Change> {
        let reached = match &event {
            CacheEvent::Put { object, .. } | CacheEvent::Delete { object, .. } => object.revision,
            CacheEvent::Progress(revision) => *revision,
        };
        self.revision = self.revision.max(reached);
        self.lens.change(&event)
    }

    fn fail(&mut self, error: Error) {
        match error {
            // COMPAT: as where the resource is gone or its schema has changed.
            Error::Unavailable(_) => self.watcher = None,
            error => self.failed = Some(too_old(error, self.revision.0)),
        }
    }

    /// An otherwise empty object at the revision that has been reached.
    fn bookmark(&mut self, initial_end: bool) -> WatchEvent {
        if !initial_end && let Some(watcher) = &mut self.watcher {
            self.revision = self.revision.max(watcher.reached());
        }
        let mut node = typed::empty(&self.lens.definition);
        node.set_at(
            &["metadata", "resourceVersion"],
            self.revision.max(self.lens.after).0.to_string(),
        );
        if initial_end {
            node.set_at(&["metadata", "annotations", INITIAL_EVENTS_END], "true");
        }
        WatchEvent::Node {
            kind: EventKind::Bookmark,
            node: self.lens.shape(node, std::mem::take(&mut self.headers)),
        }
    }

    fn schedule_bookmark(&mut self, now: Instant) {
        if self.bookmark_at.is_some() {
            let last = self.deadline.checked_sub(LAST_BOOKMARK).unwrap_or(now);
            self.bookmark_at = Some((now + HEARTBEAT).min(last)).filter(|at| *at > now);
        }
        let next = self.bookmark_at.unwrap_or(self.deadline).min(self.deadline);
        self.alarm.as_mut().reset(next);
    }

    fn alarm_rings(&mut self, context: &mut Context<'_>) -> bool {
        self.alarm.as_mut().poll(context).is_ready()
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn bookmark_is_due(&self) -> bool {
        self.alarm.is_elapsed() && self.bookmark_at.is_some_and(|at| Instant::now() >= at)
    }
}

impl Lens {
    /// Everything that makes a difference to what is written of an event, besides the time.
    fn form(&self, writer: &dyn Writer) -> Arc<str> {
        let Lens {
            definition,
            view,
            include,
            selection,
            ..
        } = self;
        let columns = match view {
            View::Table(_) => table::identity(definition),
            _ => 0,
        };
        let (version, kind) = (definition.group_version(), &definition.kind);
        format!(
            "{} {version} {kind} {view:?} {include:?} {columns} {selection:?}",
            writer.name()
        )
        .into()
    }

    /// What is written of an event changes with this.
    fn stamp(&self) -> i64 {
        match self.view {
            View::Table(_) => self.clock.now().unix_seconds(),
            _ => 0,
        }
    }

    /// What is seen of events; `None` where they have to be looked at one by one.
    fn piece(&self, events: &[CacheEvent], writer: &dyn Writer) -> Option<Piece> {
        let mut seen = Vec::with_capacity(events.len());
        for event in events {
            let Some((kind, object)) = self.change(event) else {
                continue;
            };
            if !convert::is_as_stored(&self.definition, &object) {
                return None;
            }
            seen.push(self.show(kind, Ok(object), false));
        }
        Some(Piece::of(seen, writer))
    }

    /// What a change is for this selection, if anything.
    fn change(&self, event: &CacheEvent) -> Option<Change> {
        let (object, previous, deleted) = match event {
            CacheEvent::Put { object, previous } => (object, previous.as_ref(), false),
            CacheEvent::Delete { object, previous } => (object, Some(previous), true),
            CacheEvent::Progress(_) => return None,
        };
        if object.revision <= self.after {
            return None;
        }
        let now = !deleted && self.selection.matches(object);
        let before = previous.is_some_and(|previous| self.selection.matches(previous));
        match (now, before) {
            (true, false) => Some((EventKind::Added, object.clone())),
            (true, true) => Some((EventKind::Modified, object.clone())),
            (false, true) if deleted => Some((EventKind::Deleted, object.clone())),
            (false, true) => {
                let last = storage_codec::at_revision(previous?, object.revision);
                Some((EventKind::Deleted, Arc::new(last)))
            }
            (false, false) => None,
        }
    }

    fn show(&self, kind: EventKind, object: StatusResult<Arc<Cached>>, headers: bool) -> WatchEvent {
        let failed = |status: Status| WatchEvent::Node {
            kind: EventKind::Error,
            node: status.to_node(),
        };
        let object = match object {
            Ok(object) if self.view == View::Object => return WatchEvent::Object { kind, object },
            Ok(object) => object,
            Err(status) => return failed(status),
        };
        match self.parse(&object) {
            Ok(node) => WatchEvent::Node {
                kind,
                node: self.shape(node, headers),
            },
            Err(error) => failed(Status::internal(error)),
        }
    }

    /// As much of an object as the view shows.
    fn parse(&self, object: &Cached) -> Result<Node, json::SyntaxError> {
        if matches!(self.view, View::Object | View::Table(_)) {
            return json::parse(&object.json.text());
        }
        let mut node = Node::map();
        node.set("metadata", json::parse(&storage_codec::metadata(object))?);
        Ok(node)
    }

    fn shape(&self, node: Node, headers: bool) -> Node {
        match self.view {
            View::Object => node,
            View::Metadata(version) | View::MetadataList(version) => partial(&node, version, &self.definition),
            View::Table(version) => self.table(&node, version, headers),
        }
    }

    fn table(&self, node: &Node, version: MetaVersion, headers: bool) -> Node {
        let mut table = Table::of(&self.definition, version, self.include, self.clock.now().unix_seconds());
        table.metadata.set("resourceVersion", node.resource_version());
        table.push(node);
        table.finish(headers)
    }
}
