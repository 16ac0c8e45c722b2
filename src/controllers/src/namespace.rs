//! Namespace deletion: everything in a namespace that is being deleted goes, then its finalizer does.
//!
//! Each such namespace has a task of its own, so that one that has to wait (for a finalizer, for a pod's end, for a
//! backend that does not answer) keeps no other waiting. It is looked at again when an object it waits for is gone,
//! when routes change (a backend is back), and from time to time.
//!
//! Source of the rules: kubernetes/kubernetes pkg/controller/namespace/deletion; pods first: KEP-5080.

use crate::{Context, RETRY};
use conditions::Found;
use fairlead_api::{GroupVersion, Node, Status, StatusResult, node};
use fairlead_discovery::RemoteGroupVersion;
use fairlead_discovery::snapshot::{Serves, VersionEntry};
use fairlead_resource::request::{EventKind, WatchEvent};
use fairlead_resource::{ResourceDefinition, Verb, client};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, FuturesUnordered};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub mod conditions;

/// Objects that other API servers keep in a namespace.
pub trait RemoteContent: Send + Sync {
    /// Deletes everything of a group-version in `namespace` and tells what is left.
    ///
    /// # Errors
    /// The backend cannot be asked at all, or what it has is not known.
    fn delete<'a>(
        &'a self,
        remote: &'a RemoteGroupVersion,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<RemoteLeft, Unreachable>>;
}

/// What another API server still has after it was asked to delete.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct RemoteLeft {
    /// How many objects, by plural.
    pub remaining: BTreeMap<String, usize>,
    /// How many of them wait for a finalizer, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// What it refused or could not do.
    pub failures: Vec<String>,
}

/// What another API server has cannot be known.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreachable(pub String);

/// No other API servers.
pub struct NoRemoteContent;

impl RemoteContent for NoRemoteContent {
    fn delete<'a>(&'a self, _: &'a RemoteGroupVersion, _: &'a str) -> BoxFuture<'a, Result<RemoteLeft, Unreachable>> {
        Box::pin(std::future::ready(Ok(RemoteLeft::default())))
    }
}

/// A create that was admitted before the deletion began may be stored after it. What is empty is looked at once more
/// after this.
const SETTLE: Duration = Duration::from_millis(30);
/// How long a namespace that waits is left alone if nothing happens: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How many objects are deleted at a time.
const AT_ONCE: usize = 64;

/// Runs until the drain.
pub async fn run(mut context: Context, remote: Arc<dyn RemoteContent>) {
    let Some(definition) = context.built_in("", "v1", "namespaces") else {
        return;
    };
    let mut emptying: HashSet<String> = HashSet::new();
    let mut running: FuturesUnordered<BoxFuture<'static, String>> = FuturesUnordered::new();
    loop {
        let stream = context.client.follow(&definition, "", "").await;
        let Ok(mut stream) = stream else {
            if !context.pause(RETRY).await {
                return;
            }
            continue;
        };
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                Some(uid) = running.next() => {
                    emptying.remove(&uid);
                    continue;
                }
                _ = context.drain.changed() => return,
            };
            let Some(event) = event else { break };
            let WatchEvent::Object {
                kind: EventKind::Added | EventKind::Modified,
                object,
            } = event
            else {
                continue;
            };
            let Ok(namespace) = client::parse(&object.json.text()) else {
                continue;
            };
            if namespace.deletion_timestamp().is_some() && emptying.insert(namespace.uid().to_owned()) {
                let one = One {
                    context: context.clone(),
                    definition: definition.clone(),
                    remote: remote.clone(),
                };
                let (name, uid) = (namespace.name().to_owned(), namespace.uid().to_owned());
                let task =
                    fairlead_telemetry::task::spawn("namespace-deletion", async move { one.run(&name, &uid).await });
                let uid = namespace.uid().to_owned();
                running.push(Box::pin(async move {
                    let _panicked = task.await;
                    uid
                }));
            }
        }
        if !context.pause(RETRY).await {
            return;
        }
    }
}

/// Resources served here that still have objects, and how many.
type Left = Vec<(Arc<ResourceDefinition>, usize)>;

/// The deletion of one namespace.
struct One {
    context: Context,
    definition: Arc<ResourceDefinition>,
    remote: Arc<dyn RemoteContent>,
}

impl One {
    /// Runs until the namespace is gone or not this loop's to empty.
    async fn run(mut self, name: &str, uid: &str) {
        let mut pause = FIRST_PAUSE;
        let mut settled = false;
        let mut routes = self.context.routes.clone();
        loop {
            routes.borrow_and_update();
            let mut left = Left::new();
            let begun = Instant::now();
            match self.pass(name, uid, settled, &mut left).await {
                Ok(Progress::Finished) => return,
                Ok(Progress::Empty) => {
                    settled = true;
                    if !self.context.pause(SETTLE).await {
                        return;
                    }
                    continue;
                }
                Ok(Progress::Waiting) => {}
                Err(status) => {
                    tracing::warn!(namespace = name, %status, "the deletion of a namespace will be tried again")
                }
            }
            settled = true;
            // Where much goes one by one, looking costs no more than half of the time.
            let took = begun.elapsed();
            let mut drain = self.context.drain.clone();
            tokio::select! {
                () = self.departure(name, left) => {
                    pause = FIRST_PAUSE;
                    tokio::time::sleep(took.min(RETRY)).await;
                }
                changed = routes.changed() => match changed {
                    Ok(()) => {}
                    Err(_) => return,
                },
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
                _ = drain.changed() => return,
            }
        }
    }

    /// Deletes what there is. `left` gets the resources served here that still have objects.
    async fn pass(&self, name: &str, uid: &str, settled: bool, left: &mut Left) -> StatusResult<Progress> {
        let Some(namespace) = self.doomed(name, uid).await? else {
            return Ok(Progress::Finished);
        };
        let found = self.empty(name, left).await;
        // A namespace that goes without trouble needs no report.
        if !found.is_clean() || namespace.at(&["status", "conditions"]).is_some() {
            self.report(name, uid, &found).await?;
        }
        match (found.is_clean(), settled) {
            (false, _) => Ok(Progress::Waiting),
            (true, false) => Ok(Progress::Empty),
            (true, true) => self.release(name, uid).await.map(|()| Progress::Finished),
        }
    }

    /// The namespace, while it is being deleted and waits for this loop.
    async fn doomed(&self, name: &str, uid: &str) -> StatusResult<Option<Node>> {
        match self.context.client.get(&self.definition, "", name).await {
            Ok(namespace) => {
                let ours = |n: &Node| n.get("spec").is_some_and(|s| s.list("finalizers").iter().any(is_ours));
                Ok(Some(namespace).filter(|n| n.uid() == uid && n.deletion_timestamp().is_some() && ours(n)))
            }
            Err(status) if status.code() == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn empty(&self, name: &str, left: &mut Left) -> Found {
        let mut found = Found::default();
        let mut local: Vec<Arc<ResourceDefinition>> =
            crate::events::stored(&self.context, deletable).into_values().collect();
        // Pods may need what they use until they have ended.
        local.sort_by(|a, b| (!is_pods(a), &a.group, &a.plural).cmp(&(!is_pods(b), &b.group, &b.plural)));
        let remotes = self.remotes();
        for definition in &local {
            if let Err(status) = self.sweep(definition, name, &mut found, left).await {
                found.content.insert(status.message().to_owned());
            }
            if is_pods(definition) && !left.is_empty() {
                // Group-versions that cannot be asked are told at once all the same.
                for (gv, remote) in remotes.iter().filter(|(_, remote)| remote.stale) {
                    found.discovery.insert(gv.to_string(), stale(remote));
                }
                return found;
            }
        }
        let asked: Vec<_> = remotes
            .iter()
            .map(|(_, remote)| self.remote.delete(remote, name))
            .collect();
        for ((gv, _), answer) in remotes.iter().zip(join_all(asked).await) {
            match answer {
                Ok(told) => {
                    let counted = told.remaining.into_iter().filter(|(_, n)| *n > 0);
                    found
                        .remaining
                        .extend(counted.map(|(plural, n)| (format!("{plural}.{}", gv.group), n)));
                    for (finalizer, n) in told.finalizers {
                        *found.finalizers.entry(finalizer).or_default() += n;
                    }
                    found.content.extend(told.failures);
                }
                Err(Unreachable(why)) => drop(found.discovery.insert(gv.to_string(), why)),
            }
        }
        found
    }

    fn remotes(&self) -> Vec<(GroupVersion, Arc<RemoteGroupVersion>)> {
        let snapshot = self.context.router.load();
        let versions = snapshot.groups().iter().flat_map(|g| &g.versions);
        let remote = |version: &Arc<VersionEntry>| match &version.serves {
            Serves::Remote(remote) => Some((version.group_version.clone(), remote.clone())),
            Serves::Local(_) => None,
        };
        versions.filter_map(remote).collect()
    }

    /// Deletes all objects of one resource in a namespace and counts what stays.
    async fn sweep(
        &self,
        definition: &Arc<ResourceDefinition>,
        name: &str,
        found: &mut Found,
        left: &mut Left,
    ) -> StatusResult<()> {
        let client = &self.context.client;
        let objects = client.list(definition, name).await?;
        if objects.is_empty() {
            return Ok(());
        }
        let options = &node!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        let living = objects.iter().filter(|o| o.deletion_timestamp().is_none());
        let deletes: Vec<_> = living
            .map(|object| client.delete(definition, name, object.name(), options))
            .collect();
        let results: Vec<_> = stream::iter(deletes).buffer_unordered(AT_ONCE).collect().await;
        for status in results.into_iter().filter_map(Result::err).filter(|s| s.code() != 404) {
            found.content.insert(status.message().to_owned());
        }
        let objects = client.list(definition, name).await?;
        if !objects.is_empty() {
            // COMPAT: the core group leaves a dot behind, `pods.`.
            found
                .remaining
                .insert(format!("{}.{}", definition.plural, definition.group), objects.len());
            for finalizer in objects.iter().flat_map(|o| o.finalizers()) {
                *found.finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
            left.push((definition.clone(), objects.len()));
        }
        Ok(())
    }

    /// Resolves when an object of one of these resources has gone from the namespace; never where there are none.
    async fn departure(&self, name: &str, left: Left) {
        let mut watches = FuturesUnordered::new();
        for (definition, count) in &left {
            watches.push(self.departure_of(name, definition, *count));
        }
        if watches.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    async fn departure_of(&self, name: &str, definition: &Arc<ResourceDefinition>, count: usize) {
        let Ok(mut stream) = self.context.client.follow(definition, name, "").await else {
            return std::future::pending().await;
        };
        let (mut told, mut complete) = (0, false);
        while let Some(event) = stream.next().await {
            match event {
                WatchEvent::Object {
                    kind: EventKind::Deleted,
                    ..
                } => return,
                WatchEvent::Object { .. } => told += 1,
                WatchEvent::Node {
                    kind: EventKind::Bookmark,
                    ..
                } if !complete => {
                    complete = true;
                    if told < count {
                        return;
                    }
                }
                WatchEvent::Node { .. } => {}
            }
        }
        std::future::pending().await
    }

    /// Writes the conditions where they differ.
    async fn report(&self, name: &str, uid: &str, found: &Found) -> StatusResult<()> {
        self.write(name, uid, "status", |namespace| {
            conditions::set(namespace, found, &self.context.clock.now().rfc3339())
        })
        .await
    }

    /// Takes the finalizer off, which deletes the namespace.
    async fn release(&self, name: &str, uid: &str) -> StatusResult<()> {
        let without = |namespace: &mut Node| match namespace.at_mut(&["spec", "finalizers"]) {
            Some(Node::List(finalizers)) => {
                let before = finalizers.len();
                finalizers.retain(|f| !is_ours(f));
                finalizers.len() != before
            }
            _ => false,
        };
        self.write(name, uid, "finalize", without).await
    }

    /// Changes the namespace, again while others do.
    async fn write(
        &self,
        name: &str,
        uid: &str,
        subresource: &str,
        change: impl Fn(&mut Node) -> bool,
    ) -> StatusResult<()> {
        for _ in 0..10 {
            let Some(mut namespace) = self.doomed(name, uid).await? else {
                return Ok(());
            };
            if !change(&mut namespace) {
                return Ok(());
            }
            match self
                .context
                .client
                .update_subresource(&self.definition, subresource, &namespace)
                .await
            {
                Err(status) if status.code() == 404 => return Ok(()),
                Err(status) if status.reason() == "Conflict" => {}
                other => return other.map(drop),
            }
        }
        Err(Status::modified(&self.definition.group_resource(), name))
    }
}

/// How far one look at a namespace has got.
enum Progress {
    /// Gone, or not this loop's to empty.
    Finished,
    /// Nothing was found; to be looked at once more.
    Empty,
    Waiting,
}

/// As clients of upstream's discovery put it.
pub fn stale(remote: &RemoteGroupVersion) -> String {
    format!("stale GroupVersion discovery: {}/{}", remote.group, remote.version)
}

fn is_ours(finalizer: &Node) -> bool {
    finalizer.as_str() == Some("kubernetes")
}

fn is_pods(definition: &ResourceDefinition) -> bool {
    definition.group.is_empty() && definition.plural == "pods"
}

fn deletable(definition: &ResourceDefinition) -> bool {
    definition.namespaced() && [Verb::List, Verb::Delete].iter().all(|v| definition.verbs.contains(v))
}
