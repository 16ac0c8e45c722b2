//! Garbage collection: dependents follow their owners, unless they shall be orphaned.
//!
//! Source of the rules: kubernetes/kubernetes pkg/controller/garbagecollector/garbagecollector.go.

use crate::Context;
use crate::events::{Change, follow};
use fairlead_api::{GroupVersion, Node, StatusResult, node};
use fairlead_resource::{ResourceDefinition, client::Client};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;

type Uid = String;

/// An object that has owners, or is being deleted in a way that waits for its dependents.
struct Entry {
    definition: Arc<ResourceDefinition>,
    namespace: String,
    name: String,
    owners: Vec<Owner>,
}

#[derive(Clone, PartialEq, Eq)]
struct Owner {
    uid: Uid,
    api_version: String,
    kind: String,
    name: String,
    blocks: bool,
}

/// What is known of owners and dependents.
#[derive(Default)]
struct Graph {
    entries: HashMap<Uid, Entry>,
    dependents: HashMap<Uid, HashSet<Uid>>,
}

/// Runs until the drain.
pub async fn run(context: Context) {
    let (sender, mut changes) = mpsc::channel(1024);
    let mut drain = context.drain.clone();
    fairlead_telemetry::task::spawn("garbage-watches", follow(context.clone(), concerns, sender));
    let mut collector = Collector { context, graph: Graph::default(), deleting: HashMap::new() };
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => collector.change(change).await,
                None => return,
            },
            _ = drain.changed() => return,
        }
    }
}

/// Whether an object may have owners or wait for its dependents. Costs a scan of its bytes.
fn concerns(json: &[u8]) -> bool {
    std::str::from_utf8(json).is_ok_and(|text| text.contains("\"ownerReferences\"") || text.contains("\"deletionTimestamp\""))
}

struct Collector {
    context: Context,
    graph: Graph,
    /// Owners that wait for dependents (foreground) or for their orphaning.
    deleting: HashMap<Uid, (Arc<ResourceDefinition>, String, String)>,
}

impl Collector {
    async fn change(&mut self, change: Change) {
        let uid: Uid = change.uid;
        if change.deleted {
            let owners = self.graph.remove(&uid);
            self.deleting.remove(&uid);
            for dependent in self.graph.dependents_of(&uid) {
                self.attempt(&dependent).await;
            }
            for owner in owners {
                self.advance(&owner.uid).await;
            }
            return;
        }
        let Some(object) = &change.object else {
            for owner in self.graph.remove(&uid) {
                self.advance(&owner.uid).await;
            }
            return;
        };
        let owners = owners(object);
        let waits = object.deletion_timestamp().is_some()
            && object.finalizers().any(|f| f == "foregroundDeletion" || f == "orphan");
        if waits {
            let place = (change.definition.clone(), object.namespace().to_owned(), object.name().to_owned());
            self.deleting.insert(uid.clone(), place);
        }
        let had_owners = self.graph.entries.contains_key(&uid);
        if !owners.is_empty() {
            self.graph.insert(uid.clone(), Entry {
                definition: change.definition,
                namespace: object.namespace().to_owned(),
                name: object.name().to_owned(),
                owners: owners.clone(),
            });
            self.attempt(&uid).await;
        } else if had_owners {
            for owner in self.graph.remove(&uid) {
                self.advance(&owner.uid).await;
            }
        }
        if waits {
            self.advance(&uid).await;
        }
    }

    /// Deletes a dependent whose owners are all gone, and takes owners off that are gone where others are not.
    async fn attempt(&mut self, uid: &str) {
        let Some(entry) = self.graph.entries.get(uid) else { return };
        let client = self.context.client.clone();
        let (mut gone, mut solid, mut foreground) = (Vec::new(), 0, false);
        for owner in &entry.owners {
            match self.owner(entry, owner).await {
                Ok(Some(found)) => {
                    solid += 1;
                    foreground |= found.deletion_timestamp().is_some() && found.finalizers().any(|f| f == "foregroundDeletion");
                }
                Ok(None) => gone.push(owner.uid.clone()),
                Err(()) => solid += 1,
            }
        }
        let result = if solid == 0 || (foreground && solid == 1) {
            remove(&client, entry, uid, foreground).await
        } else if !gone.is_empty() {
            disown(&client, entry, &gone).await
        } else {
            Ok(())
        };
        if let Err(status) = result
            && !matches!(status.code(), 404 | 409)
        {
            tracing::warn!(kind = %entry.definition.kind, name = %entry.name, %status, "a dependent could not be collected");
        }
    }

    /// The owner as it is now: `None` when it is gone, `Err` when its kind cannot be looked at.
    async fn owner(&self, entry: &Entry, owner: &Owner) -> Result<Option<Node>, ()> {
        let gv = GroupVersion::parse(&owner.api_version).ok_or(())?;
        let snapshot = self.context.router.load();
        let definition = snapshot.kind(&gv.group, &gv.version, &owner.kind).ok_or(())?;
        let namespace = if definition.namespaced() { entry.namespace.as_str() } else { "" };
        if definition.namespaced() && namespace.is_empty() {
            // A cluster-scoped dependent cannot be owned by a namespaced object: never resolvable, never collected.
            return Err(());
        }
        match self.context.client.get(definition, namespace, &owner.name).await {
            Ok(found) if found.uid() == owner.uid => Ok(Some(found)),
            Ok(_) => Ok(None),
            Err(status) if status.code() == 404 => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// Goes on with an owner that waits: orphans its dependents, or removes its finalizer once none blocks it.
    async fn advance(&mut self, uid: &str) {
        let Some((definition, namespace, name)) = self.deleting.get(uid).cloned() else { return };
        let Ok(object) = self.context.client.get(&definition, &namespace, &name).await else { return };
        if object.uid() != uid || object.deletion_timestamp().is_none() {
            return;
        }
        let dependents = self.graph.dependents_of(uid);
        let client = self.context.client.clone();
        if object.finalizers().any(|f| f == "orphan") {
            for dependent in &dependents {
                if let Some(entry) = self.graph.entries.get(dependent) {
                    let _ = disown(&client, entry, &[uid.to_owned()]).await;
                }
            }
            let _ = unfinalize(&client, &definition, &object, "orphan").await;
            return;
        }
        if object.finalizers().any(|f| f == "foregroundDeletion") {
            let blocking = dependents.iter().any(|d| {
                self.graph.entries.get(d).is_some_and(|e| e.owners.iter().any(|o| o.uid == uid && o.blocks))
            });
            if blocking {
                for dependent in dependents {
                    self.attempt(&dependent).await;
                }
            } else {
                let _ = unfinalize(&client, &definition, &object, "foregroundDeletion").await;
            }
        }
    }
}

impl Graph {
    fn insert(&mut self, uid: Uid, entry: Entry) {
        self.remove(&uid);
        for owner in &entry.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        self.entries.insert(uid, entry);
    }

    fn remove(&mut self, uid: &str) -> Vec<Owner> {
        let Some(entry) = self.entries.remove(uid) else { return Vec::new() };
        for owner in &entry.owners {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        entry.owners
    }

    fn dependents_of(&self, uid: &str) -> Vec<Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }
}

fn owners(object: &Node) -> Vec<Owner> {
    let owner = |reference: &Node| Owner {
        uid: reference.str("uid").into(),
        api_version: reference.str("apiVersion").into(),
        kind: reference.str("kind").into(),
        name: reference.str("name").into(),
        blocks: reference.get("blockOwnerDeletion").and_then(Node::as_bool) == Some(true),
    };
    object.owner_references().iter().map(owner).collect()
}

async fn remove(client: &Client, entry: &Entry, uid: &str, foreground: bool) -> StatusResult<()> {
    let object = client.get(&entry.definition, &entry.namespace, &entry.name).await?;
    if object.uid() != uid || (object.deletion_timestamp().is_some() && !foreground) {
        return Ok(());
    }
    if object.deletion_timestamp().is_some() {
        return Ok(());
    }
    let has = |finalizer: &str| object.finalizers().any(|f| f == finalizer);
    let policy = match () {
        () if has("orphan") => "Orphan",
        () if has("foregroundDeletion") || foreground => "Foreground",
        () => "Background",
    };
    let options = node!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}, "propagationPolicy": policy});
    client.delete(&entry.definition, &entry.namespace, &entry.name, &options).await.map(drop)
}

/// Takes owner references off a dependent.
async fn disown(client: &Client, entry: &Entry, owners: &[Uid]) -> StatusResult<()> {
    let object = client.get(&entry.definition, &entry.namespace, &entry.name).await?;
    let kept: Vec<Node> =
        object.owner_references().iter().filter(|r| !owners.iter().any(|o| o == r.str("uid"))).cloned().collect();
    let mut patch = node!({});
    patch.set_at(&["metadata", "uid"], object.uid());
    patch.set_at(&["metadata", "resourceVersion"], object.resource_version());
    patch.set_at(&["metadata", "ownerReferences"], if kept.is_empty() { Node::Null } else { Node::List(kept) });
    client.merge_patch(&entry.definition, &entry.namespace, &entry.name, "", &patch).await.map(drop)
}

async fn unfinalize(client: &Client, definition: &Arc<ResourceDefinition>, object: &Node, finalizer: &str) -> StatusResult<()> {
    let kept: Vec<Node> = object.finalizers().filter(|f| *f != finalizer).map(Node::from).collect();
    let mut patch = node!({});
    patch.set_at(&["metadata", "resourceVersion"], object.resource_version());
    patch.set_at(&["metadata", "finalizers"], if kept.is_empty() { Node::Null } else { Node::List(kept) });
    client.merge_patch(definition, object.namespace(), object.name(), "", &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_from_metadata() {
        let object = node!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "blockOwnerDeletion": true},
        ]}});
        let found = owners(&object);
        assert_eq!((found[0].uid.as_str(), found[0].blocks), ("u", true));
    }
}
