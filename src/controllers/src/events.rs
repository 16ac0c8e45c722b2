//! [`Feed`]: the changes of many resources in one channel, with enough said to know when nothing is missing.

use crate::Context;
use crate::remote::{RemoteEvent, RemoteObjects, RemoteResource};
use fairlead_api::Node;
use fairlead_discovery::snapshot::Serves;
use fairlead_resource::client::Cached;
use fairlead_resource::request::{EventKind, WatchEvent, WatchStream};
use fairlead_resource::{ResourceDefinition, Verb};
use futures_util::{FutureExt, StreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, unconstrained};

/// One watch of one resource, for as long as its definition is served.
pub type SourceId = u64;

/// What a source says. Everything from one source comes in order.
pub enum Event {
    /// An object was written or deleted.
    Change {
        source: SourceId,
        deleted: bool,
        object: Arc<Cached>,
    },
    /// The same, of another API server's resource. Only its metadata is sure to be there.
    RemoteChange {
        source: SourceId,
        deleted: bool,
        object: Node,
    },
    /// The watch broke off: until [`Event::Complete`] anything may be missing.
    Broken(SourceId),
    /// All objects there are have been told. What was told before and not again is gone.
    Complete(SourceId),
    /// Everything that had happened when [`Feed::flush`] answered this number has been told.
    Flushed(SourceId, u64),
    /// The resource is no longer served, or by another definition: nothing more comes from here.
    Ended(SourceId),
}

/// Follows resources. Dropping it ends all watches.
pub struct Feed {
    context: Context,
    events: mpsc::Sender<Event>,
    running: HashMap<String, Running>,
    remote: HashMap<String, RunningRemote>,
    next: SourceId,
    flush: watch::Sender<u64>,
}

struct Running {
    definition: Arc<ResourceDefinition>,
    source: SourceId,
    stop: watch::Sender<bool>,
}

struct RunningRemote {
    resource: Arc<RemoteResource>,
    task: JoinHandle<()>,
}

impl Drop for RunningRemote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How many events may wait for the one who reads them.
const CHANNEL: usize = 1024;
/// Between a watch that broke off and the next.
const PAUSE: Duration = Duration::from_millis(500);
/// The same for other API servers.
const REMOTE_PAUSE: Duration = Duration::from_secs(1);

/// One definition of each stored resource that `fits`: that of the stored version where it is served, so that nothing
/// has to be converted; else the first in discovery's order.
pub fn stored(context: &Context, fits: fn(&ResourceDefinition) -> bool) -> HashMap<String, Arc<ResourceDefinition>> {
    let mut found: HashMap<String, Arc<ResourceDefinition>> = HashMap::new();
    let snapshot = context.router.load();
    for version in snapshot.groups().iter().flat_map(|g| &g.versions) {
        let Serves::Local(definitions) = &version.serves else {
            continue;
        };
        for definition in definitions.iter().filter(|d| d.is_stored() && fits(d)) {
            let stored = definition.gvk() == definition.storage.kind;
            if stored || !found.contains_key(&definition.storage.prefix) {
                found.insert(definition.storage.prefix.clone(), definition.clone());
            }
        }
    }
    found
}

/// Whether objects of a resource come, change and go, and can be followed.
pub fn followed(definition: &ResourceDefinition) -> bool {
    [Verb::List, Verb::Watch, Verb::Delete]
        .iter()
        .all(|v| definition.verbs.contains(v))
}

impl Feed {
    pub fn new(context: Context) -> (Feed, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(CHANNEL);
        let feed = Feed {
            context,
            events,
            running: HashMap::new(),
            remote: HashMap::new(),
            next: 0,
            flush: watch::Sender::new(0),
        };
        (feed, receiver)
    }

    /// Follows exactly these resources from now on. Answers the sources that are new; each will say when it is complete.
    /// A resource whose definition is another one, but reads alike, keeps its source: nothing is missed in between.
    pub fn follow(
        &mut self,
        wanted: HashMap<String, Arc<ResourceDefinition>>,
    ) -> Vec<(SourceId, Arc<ResourceDefinition>)> {
        self.running.retain(|prefix, running| {
            let same =
                |d: &&Arc<ResourceDefinition>| Arc::ptr_eq(d, &running.definition) || d.reads_like(&running.definition);
            let Some(definition) = wanted.get(prefix).filter(same) else {
                running.stop.send_replace(true);
                return false;
            };
            running.definition = definition.clone();
            true
        });
        let mut started = Vec::new();
        for (prefix, definition) in wanted {
            if self.running.contains_key(&prefix) {
                continue;
            }
            self.next += 1;
            let (stop, stopped) = watch::channel(false);
            let source = Source {
                id: self.next,
                context: self.context.clone(),
                definition: definition.clone(),
                events: self.events.clone(),
                stopped,
                flush: self.flush.subscribe(),
            };
            fairlead_telemetry::task::spawn("controller-watch", source.run());
            started.push((self.next, definition.clone()));
            self.running.insert(
                prefix,
                Running {
                    definition,
                    source: self.next,
                    stop,
                },
            );
        }
        started
    }

    /// Follows exactly these resources of other API servers from now on. Answers the sources that are new. One that is
    /// dropped says so as others do.
    pub fn follow_remote(
        &mut self,
        wanted: HashMap<String, Arc<RemoteResource>>,
        objects: &Arc<dyn RemoteObjects>,
    ) -> Vec<(SourceId, Arc<RemoteResource>)> {
        self.remote
            .retain(|prefix, running| wanted.get(prefix).is_some_and(|r| *r == running.resource));
        let mut started = Vec::new();
        for (prefix, resource) in wanted {
            if self.remote.contains_key(&prefix) {
                continue;
            }
            self.next += 1;
            let following = follow_remote(self.next, resource.clone(), objects.clone(), self.events.clone());
            let task = fairlead_telemetry::task::spawn("controller-remote-watch", following);
            started.push((self.next, resource.clone()));
            self.remote.insert(prefix, RunningRemote { resource, task });
        }
        started
    }

    /// The source of a resource that is followed.
    pub fn source(&self, prefix: &str) -> Option<SourceId> {
        self.running.get(prefix).map(|r| r.source)
    }

    /// Asks all sources to tell at once what they know, and then to say so under the number answered here.
    pub fn flush(&self) -> u64 {
        self.flush.send_modify(|n| *n += 1);
        *self.flush.borrow()
    }
}

/// Tells when it ends, however it does.
struct Ends {
    source: SourceId,
    events: mpsc::Sender<Event>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let (source, events) = (self.source, self.events.clone());
        if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(Event::Ended(source)) {
            fairlead_telemetry::task::spawn("controller-remote-watch", async move {
                let _nobody_reads = events.send(event).await;
            });
        }
    }
}

async fn follow_remote(
    source: SourceId,
    resource: Arc<RemoteResource>,
    objects: Arc<dyn RemoteObjects>,
    events: mpsc::Sender<Event>,
) {
    let ends = Ends { source, events };
    loop {
        let mut stream = objects.follow(resource.clone());
        while let Some(event) = stream.next().await {
            let told = match event {
                RemoteEvent::Changed(object) => Event::RemoteChange {
                    source,
                    deleted: false,
                    object,
                },
                RemoteEvent::Deleted(object) => Event::RemoteChange {
                    source,
                    deleted: true,
                    object,
                },
                RemoteEvent::Complete => Event::Complete(source),
            };
            if ends.events.send(told).await.is_err() {
                return;
            }
        }
        if ends.events.send(Event::Broken(source)).await.is_err() {
            return;
        }
        tokio::time::sleep(REMOTE_PAUSE).await;
    }
}

struct Source {
    id: SourceId,
    context: Context,
    definition: Arc<ResourceDefinition>,
    events: mpsc::Sender<Event>,
    stopped: watch::Receiver<bool>,
    flush: watch::Receiver<u64>,
}

impl Source {
    async fn run(mut self) {
        loop {
            let stream = tokio::select! {
                stream = self.context.client.follow(&self.definition, "", "") => stream,
                _ = self.stopped.changed() => break,
            };
            if let Ok(mut stream) = stream
                && !self.tell(stream.as_mut()).await
            {
                break;
            }
            // The store is away, or this reader was too slow. Begin again, not in a hurry.
            if self.events.send(Event::Broken(self.id)).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = self.stopped.changed() => break,
            }
        }
        let _nobody_reads = self.events.send(Event::Ended(self.id)).await;
    }

    /// Passes on what a watch says until it breaks off. False when nothing shall follow.
    async fn tell(&mut self, stream: &mut dyn WatchStream) -> bool {
        let mut complete = false;
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                changed = self.flush.changed(), if complete => match changed {
                    Ok(()) => {
                        let number = *self.flush.borrow_and_update();
                        if !self.tell_ready(stream).await {
                            return false;
                        }
                        if self.events.send(Event::Flushed(self.id, number)).await.is_err() {
                            return false;
                        }
                        continue;
                    }
                    Err(_) => return false,
                },
                _ = self.stopped.changed() => {
                    // Whoever took the resource away may have emptied it just before.
                    self.tell_ready(stream).await;
                    return false;
                }
            };
            let Some(event) = event else { return true };
            let first = !complete;
            let said = match event {
                WatchEvent::Object { kind, object } => Event::Change {
                    source: self.id,
                    deleted: kind == EventKind::Deleted,
                    object,
                },
                WatchEvent::Node {
                    kind: EventKind::Bookmark,
                    ..
                } if first => {
                    complete = true;
                    let number = *self.flush.borrow_and_update();
                    if self.events.send(Event::Complete(self.id)).await.is_err() {
                        return false;
                    }
                    Event::Flushed(self.id, number)
                }
                // A bookmark in between; or an object that could not be converted.
                WatchEvent::Node { .. } => continue,
            };
            if self.events.send(said).await.is_err() {
                return false;
            }
        }
    }

    /// Passes on what is there without waiting. False when nobody reads any more.
    async fn tell_ready(&mut self, stream: &mut dyn WatchStream) -> bool {
        // Unconstrained: else a busy task is told that nothing is there, to make it yield.
        while let Some(Some(event)) = unconstrained(stream.next()).now_or_never() {
            if let WatchEvent::Object { kind, object } = event {
                let said = Event::Change {
                    source: self.id,
                    deleted: kind == EventKind::Deleted,
                    object,
                };
                if self.events.send(said).await.is_err() {
                    return false;
                }
            }
        }
        true
    }
}
