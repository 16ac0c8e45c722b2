//! [`follow`]: the changes of every deletable resource, in one channel.

use crate::Context;
use fairlead_api::Node;
use fairlead_resource::client::parse;
use fairlead_resource::request::{EventKind, WatchEvent};
use fairlead_resource::{ResourceDefinition, Verb};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A change of one object.
pub struct Change {
    pub definition: Arc<ResourceDefinition>,
    pub deleted: bool,
    pub uid: String,
    /// The object where it may be of interest; parsing every object that is written would cost too much.
    pub object: Option<Node>,
}

/// One definition of each stored resource: its first version in discovery's order.
pub fn resources(context: &Context) -> HashMap<String, Arc<ResourceDefinition>> {
    let mut found: HashMap<String, Arc<ResourceDefinition>> = HashMap::new();
    let snapshot = context.router.load();
    for version in snapshot.groups().iter().flat_map(|g| &g.versions) {
        let fairlead_discovery::snapshot::Serves::Local(definitions) = &version.serves else { continue };
        for definition in definitions {
            let followed = [Verb::List, Verb::Watch, Verb::Delete].iter().all(|v| definition.verbs.contains(v));
            if followed && !definition.storage.prefix.is_empty() {
                found.entry(definition.storage.prefix.clone()).or_insert_with(|| definition.clone());
            }
        }
    }
    found
}

/// Watches every resource until the drain; only objects whose bytes `wanted` accepts are parsed.
pub async fn follow(mut context: Context, wanted: fn(&[u8]) -> bool, changes: mpsc::Sender<Change>) {
    let mut running: HashMap<String, (Arc<ResourceDefinition>, watch::Sender<bool>)> = HashMap::new();
    loop {
        let current = resources(&context);
        running.retain(|prefix, (definition, stop)| {
            let keep = current.get(prefix).is_some_and(|d| Arc::ptr_eq(d, definition));
            if !keep {
                stop.send_replace(true);
            }
            keep
        });
        for (prefix, definition) in current {
            if running.contains_key(&prefix) {
                continue;
            }
            let (stop, stopped) = watch::channel(false);
            let one = one(context.clone(), definition.clone(), wanted, changes.clone(), stopped);
            fairlead_telemetry::task::spawn("controller-watch", one);
            running.insert(prefix, (definition, stop));
        }
        tokio::select! {
            changed = context.routes.changed() => if changed.is_err() { return },
            _ = context.drain.changed() => {
                for (_, stop) in running.values() {
                    stop.send_replace(true);
                }
                return;
            }
        }
    }
}

async fn one(
    context: Context,
    definition: Arc<ResourceDefinition>,
    wanted: fn(&[u8]) -> bool,
    changes: mpsc::Sender<Change>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let stream = tokio::select! {
            stream = context.client.watch(&definition) => stream,
            _ = stopped.changed() => return,
        };
        if let Ok(mut stream) = stream {
            loop {
                let event = tokio::select! {
                    event = stream.next() => event,
                    _ = stopped.changed() => return,
                };
                let Some(event) = event else { break };
                let (kind, uid, object) = match event {
                    WatchEvent::Object { kind, object } => {
                        let parsed = wanted(&object.json).then(|| parse(&object.json).ok()).flatten();
                        (kind, object.header.uid.to_string(), parsed)
                    }
                    WatchEvent::Node { kind, node } => (kind, node.uid().to_owned(), Some(node)),
                };
                match kind {
                    EventKind::Bookmark => continue,
                    EventKind::Error => break,
                    _ => {}
                }
                let change = Change { definition: definition.clone(), deleted: kind == EventKind::Deleted, uid, object };
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }
        // A watch ended: by its age, or because the store is away. Begin again, not in a hurry.
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = stopped.changed() => return,
        }
    }
}
