//! Namespace deletion: everything in a namespace that is being deleted goes, then its finalizer does.
//!
//! Source of conditions, reasons and messages: kubernetes/kubernetes pkg/controller/namespace/deletion.

use crate::Context;
use fairlead_api::{Node, Status, StatusResult, node};
use fairlead_discovery::RemoteGroupVersion;
use fairlead_discovery::snapshot::Serves;
use fairlead_resource::request::{EventKind, WatchEvent};
use fairlead_resource::{ResourceDefinition, Verb, client};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Objects that other API servers keep in a namespace.
pub trait RemoteContent: Send + Sync {
    /// Deletes everything of a group-version in `namespace`; answers how many objects of which resource are left.
    ///
    /// # Errors
    /// A sentence that says why the backend could not be asked.
    fn delete<'a>(
        &'a self,
        remote: &'a RemoteGroupVersion,
        namespace: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, usize>, String>>;
}

/// No other API servers.
pub struct NoRemoteContent;

impl RemoteContent for NoRemoteContent {
    fn delete<'a>(&'a self, _: &'a RemoteGroupVersion, _: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, usize>, String>> {
        Box::pin(std::future::ready(Ok(BTreeMap::new())))
    }
}

/// How often a namespace that is not empty yet is looked at again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until the drain.
pub async fn run(mut context: Context, remote: Arc<dyn RemoteContent>, clock: Arc<dyn fairlead_api::Clock>) {
    let mut waiting: BTreeSet<String> = BTreeSet::new();
    loop {
        let Some(definition) = context.router.load().kind("", "v1", "Namespace").cloned() else { return };
        let Ok(mut stream) = context.client.watch(&definition).await else {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => continue,
                _ = context.drain.changed() => return,
            }
        };
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = tokio::time::sleep(RETRY), if !waiting.is_empty() => {
                    for name in waiting.clone() {
                        if finish(&context, &definition, &name, remote.as_ref(), clock.as_ref()).await {
                            waiting.remove(&name);
                        }
                    }
                    continue;
                }
                _ = context.drain.changed() => return,
            };
            let Some(event) = event else { break };
            let (kind, namespace) = match event {
                WatchEvent::Object { kind, object } => (kind, client::parse(&object.json)),
                WatchEvent::Node { kind, node } => (kind, Ok(node)),
            };
            let (EventKind::Added | EventKind::Modified, Ok(namespace)) = (kind, namespace) else { continue };
            if namespace.deletion_timestamp().is_some()
                && !finish(&context, &definition, namespace.name(), remote.as_ref(), clock.as_ref()).await
            {
                waiting.insert(namespace.name().to_owned());
            }
        }
    }
}

/// What stood in the way of emptying a namespace.
#[derive(Default)]
struct Found {
    /// How many objects are left, by resource.
    remaining: BTreeMap<String, usize>,
    /// How many of them wait for a finalizer, by finalizer.
    finalizers: BTreeMap<String, usize>,
    /// Backends that could not be asked.
    discovery: Vec<String>,
    /// Deletes that failed.
    content: Vec<String>,
}

/// Tries to empty a namespace. True when it is gone or needs no further look.
async fn finish(
    context: &Context,
    definition: &Arc<ResourceDefinition>,
    name: &str,
    remote: &dyn RemoteContent,
    clock: &dyn fairlead_api::Clock,
) -> bool {
    let namespace = match context.client.get(definition, "", name).await {
        Ok(namespace) if namespace.deletion_timestamp().is_some() => namespace,
        Ok(_) => return true,
        Err(status) => return status.code() == 404,
    };
    if !namespace.get("spec").is_some_and(|s| s.list("finalizers").iter().any(|f| f.as_str() == Some("kubernetes"))) {
        return true;
    }
    let found = empty(context, name, remote).await;
    let clean = found.remaining.is_empty() && found.discovery.is_empty() && found.content.is_empty();
    // A namespace that goes without trouble needs no report.
    if (!clean || namespace.at(&["status", "conditions"]).is_some())
        && let Err(status) = report(context, definition, &namespace, &found, &clock.now().rfc3339()).await
    {
        tracing::debug!(namespace = name, %status, "the conditions of a namespace were not written");
    }
    if !clean {
        return false;
    }
    match release(context, definition, name).await {
        Ok(()) => true,
        Err(status) => status.code() == 404,
    }
}

async fn empty(context: &Context, name: &str, remote: &dyn RemoteContent) -> Found {
    let mut found = Found::default();
    let snapshot = context.router.load();
    let mut seen = BTreeSet::new();
    for version in snapshot.groups().iter().flat_map(|g| &g.versions) {
        match &version.serves {
            Serves::Local(definitions) => {
                for definition in definitions.iter().filter(|d| deletable(d) && seen.insert(d.storage.prefix.clone())) {
                    if let Err(status) = sweep(context, definition, name, &mut found).await {
                        found.content.push(status.message().to_owned());
                    }
                }
            }
            Serves::Remote(served) => match remote.delete(served, name).await {
                Ok(left) => found.remaining.extend(left),
                Err(why) => found.discovery.push(format!("{}: {why}", version.group_version)),
            },
        }
    }
    found
}

fn deletable(definition: &ResourceDefinition) -> bool {
    let needed = [Verb::List, Verb::Delete];
    definition.namespaced() && !definition.storage.prefix.is_empty() && needed.iter().all(|v| definition.verbs.contains(v))
}

/// Deletes all objects of one resource in a namespace and counts what stays.
async fn sweep(context: &Context, definition: &Arc<ResourceDefinition>, name: &str, found: &mut Found) -> StatusResult<()> {
    let objects = context.client.list(definition, name).await?;
    let options = node!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    for object in &objects {
        if object.deletion_timestamp().is_none() {
            match context.client.delete(definition, name, object.name(), &options).await {
                Err(status) if status.code() != 404 => found.content.push(status.message().to_owned()),
                _ => {}
            }
        }
    }
    if objects.is_empty() {
        return Ok(());
    }
    let left = context.client.list(definition, name).await?;
    if !left.is_empty() {
        // COMPAT: the core group leaves a dot behind, `pods.`.
        found.remaining.insert(format!("{}.{}", definition.plural, definition.group), left.len());
        for finalizer in left.iter().flat_map(|o| o.finalizers()) {
            *found.finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }
    Ok(())
}

/// Writes the five conditions of a namespace's deletion.
async fn report(
    context: &Context,
    definition: &Arc<ResourceDefinition>,
    namespace: &Node,
    found: &Found,
    now: &str,
) -> StatusResult<()> {
    let counted = |items: &BTreeMap<String, usize>, what: &str| {
        let parts: Vec<String> = items.iter().map(|(k, n)| format!("{k} {what} {n} resource instances")).collect();
        parts.join(", ")
    };
    let discovery = format!(
        "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
        found.discovery.len(),
        found.discovery.join(", ")
    );
    let content = format!("Failed to delete all resource types, {} remaining: {}", found.content.len(), found.content.join(", "));
    let remaining = format!("Some resources are remaining: {}", counted(&found.remaining, "has"));
    let finalizers = format!("Some content in the namespace has finalizers remaining: {}", counted(&found.finalizers, "in"));
    let conditions = [
        ("NamespaceDeletionDiscoveryFailure", !found.discovery.is_empty(), "DiscoveryFailed", discovery.as_str(), "ResourcesDiscovered", "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", false, "", "", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ("NamespaceDeletionContentFailure", !found.content.is_empty(), "ContentDeletionFailed", content.as_str(), "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ("NamespaceContentRemaining", !found.remaining.is_empty(), "SomeResourcesRemain", remaining.as_str(), "ContentRemoved", "All content successfully removed"),
        ("NamespaceFinalizersRemaining", !found.finalizers.is_empty(), "SomeFinalizersRemain", finalizers.as_str(), "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    ];
    let mut updated = namespace.clone();
    let mut list: Vec<Node> = updated.get("status").map_or(Vec::new(), |s| s.list("conditions").to_vec());
    for (kind, bad, bad_reason, bad_message, good_reason, good_message) in conditions {
        let (status, reason, message) = if bad { ("True", bad_reason, bad_message) } else { ("False", good_reason, good_message) };
        let old = list.iter().position(|c| c.str("type") == kind);
        let since = old.map(|i| &list[i]).filter(|c| c.str("status") == status).map_or(now, |c| c.str("lastTransitionTime"));
        let condition = node!({"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message});
        match old {
            Some(i) => list[i] = condition,
            None => list.push(condition),
        }
    }
    updated.set_at(&["status", "conditions"], list);
    if updated != *namespace {
        context.client.update_subresource(definition, "status", &updated).await?;
    }
    Ok(())
}

/// Takes the finalizer off, which deletes the namespace.
async fn release(context: &Context, definition: &Arc<ResourceDefinition>, name: &str) -> StatusResult<()> {
    for _ in 0..5 {
        let mut namespace = context.client.get(definition, "", name).await?;
        if let Some(Node::List(finalizers)) = namespace.at_mut(&["spec", "finalizers"]) {
            finalizers.retain(|f| f.as_str() != Some("kubernetes"));
        }
        match context.client.update_subresource(definition, "finalize", &namespace).await {
            Err(status) if status.reason() == "Conflict" => {}
            other => return other.map(drop),
        }
    }
    Err(Status::modified(&definition.group_resource(), name))
}
