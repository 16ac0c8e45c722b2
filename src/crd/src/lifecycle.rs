//! [`Lifecycle`]: what follows a write of a CustomResourceDefinition, before the write is answered.
//!
//! Names are accepted, conditions written and the new routes swapped in within the request: a CRD is usable the moment
//! its create returns. Deletion empties the resource first: while objects with finalizers keep it, it is served, but
//! nothing new is created.
//!
//! Source of conditions: apiextensions-apiserver pkg/controller/finalizer and pkg/registry/customresourcedefinition.

use crate::approval;
use crate::condition::{self, Condition};
use crate::definition::{Making, definitions};
use crate::names;
use fairlead_api::{Clock, Node, StatusResult, node};
use fairlead_resource::client::Cached;
use fairlead_resource::definition::Converter;
use fairlead_resource::{Client, Engine, ResourceDefinition};
use fairlead_schema::Schema;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};

/// Makes the converter of a definition with conversion webhooks, from its `spec`.
pub type MakeConverter = Box<dyn Fn(&Node) -> Arc<dyn Converter> + Send + Sync>;
/// Told every time the set of custom definitions has changed.
pub type Publish = Box<dyn Fn(&[Arc<ResourceDefinition>]) + Send + Sync>;
/// The storage version hash of group, version and kind.
pub type Hash = fn(&str, &str, &str) -> compact_str::CompactString;

/// The finalizer under which custom objects are deleted before their definition.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whom managed fields name for what the lifecycle writes.
pub const MANAGER: &str = "kube-apiserver";

const TERMINATING: &str = "Terminating";

/// How often a sync looks again at what its own writes and those of others have changed. Names that one definition frees
/// another takes in the next round.
const ROUNDS: usize = 10;

/// Follows all CustomResourceDefinitions. One of it exists.
pub struct Lifecycle {
    converter: MakeConverter,
    publish: Publish,
    hash: Hash,
    clock: Arc<dyn Clock>,
    /// Of `autoscaling/v1 Scale`, which scale subresources take and answer.
    scale: OnceLock<Schema>,
    /// The resource `customresourcedefinitions` itself.
    resource: OnceLock<Arc<ResourceDefinition>>,
    /// By name. Locked for a whole sync: they are few, and come one after the other.
    known: tokio::sync::Mutex<BTreeMap<String, Known>>,
    /// Itself, for the hooks of what is served.
    this: Weak<Lifecycle>,
}

/// A definition as it was last seen.
struct Known {
    stored: Arc<Cached>,
    crd: Node,
    /// Whether what is served was not made from `crd`.
    stale: bool,
    /// Whether it has all its names and conditions. Nothing that others do changes that.
    settled: bool,
    served: Vec<Arc<ResourceDefinition>>,
}

impl Lifecycle {
    pub fn new(converter: MakeConverter, publish: Publish, hash: Hash, clock: Arc<dyn Clock>) -> Arc<Lifecycle> {
        Arc::new_cyclic(|this| Lifecycle {
            scale: OnceLock::new(),
            converter,
            publish,
            hash,
            clock,
            resource: OnceLock::new(),
            known: tokio::sync::Mutex::default(),
            this: this.clone(),
        })
    }

    /// Serves what the store holds. Called once, before the first request; `scale` is the schema of
    /// `autoscaling/v1 Scale`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn start(
        &self,
        resource: Arc<ResourceDefinition>,
        scale: Option<Schema>,
        engine: &Engine,
    ) -> StatusResult<()> {
        if let Some(scale) = scale {
            self.scale.get_or_init(|| scale);
        }
        self.resource.get_or_init(|| resource);
        self.sync(engine).await
    }

    /// Brings status and routes in line with what is stored.
    ///
    /// # Errors
    /// What the store says; the next write tries again.
    pub async fn sync(&self, engine: &Engine) -> StatusResult<()> {
        let Some(resource) = self.resource.get() else {
            return Ok(());
        };
        let mut known = self.known.lock().await;
        let work = Work {
            lifecycle: self,
            client: Client::new(engine.clone(), MANAGER),
            resource,
        };
        for round in 0..ROUNDS {
            let (groups, gone) = work.read(&mut known).await?;
            if groups.is_empty() && round > 0 {
                break;
            }
            for group in &groups {
                work.accept_group(group, &mut known).await;
            }
            self.serve(&mut known, gone);
            for entry in known.values().filter(|k| k.crd.deletion_timestamp().is_some()) {
                tell(&entry.crd, work.terminate(entry).await);
            }
        }
        Ok(())
    }

    /// Compiles what is new, and publishes all definitions if any changed.
    fn serve(&self, known: &mut BTreeMap<String, Known>, gone: bool) {
        let mut changed = gone;
        for entry in known.values_mut().filter(|k| k.stale) {
            let making = Making {
                converter: self.converter.as_ref(),
                hash: self.hash,
                scale: self.scale.get(),
                lifecycle: &self.this,
                terminating: condition::is_true(&entry.crd, TERMINATING),
            };
            match definitions(&entry.crd, &making) {
                Ok(definitions) => {
                    changed |= !(definitions.is_empty() && entry.served.is_empty());
                    entry.served = definitions;
                }
                Err(why) => tracing::error!(crd = entry.crd.name(), why, "a stored definition cannot be served"),
            }
            entry.stale = false;
        }
        if changed {
            let all: Vec<Arc<ResourceDefinition>> = known.values().flat_map(|k| k.served.iter().cloned()).collect();
            (self.publish)(&all);
        }
    }

    fn now(&self) -> String {
        self.clock.now().rfc3339()
    }
}

/// One sync.
struct Work<'a> {
    lifecycle: &'a Lifecycle,
    client: Client,
    resource: &'a Arc<ResourceDefinition>,
}

impl Work<'_> {
    /// Takes in what changed since the last time. Answers the groups in which names may have to be given anew, and whether
    /// definitions are gone.
    async fn read(&self, known: &mut BTreeMap<String, Known>) -> StatusResult<(BTreeSet<String>, bool)> {
        let stored = self.client.list_stored(self.resource).await?;
        let mut groups = BTreeSet::new();
        let mut touch = |crd: &Node| groups.insert(crd.str_at(&["spec", "group"]).to_owned());
        let names: BTreeSet<&str> = stored.iter().map(|s| &*s.key).collect();
        let before = known.len();
        known.retain(|name, entry| {
            let stays = names.contains(name.as_str());
            if !stays {
                touch(&entry.crd);
            }
            stays
        });
        let gone = known.len() != before;
        for item in stored {
            if known
                .get(&*item.key)
                .is_some_and(|k| k.stored.revision == item.revision)
            {
                continue;
            }
            let crd = fairlead_resource::client::parse(&item.json.text())?;
            touch(&crd);
            match known.get_mut(&*item.key) {
                Some(entry) => {
                    entry.stored = item;
                    entry.see(crd);
                }
                None => {
                    known.insert(
                        item.key.to_string(),
                        Known {
                            stored: item,
                            crd,
                            stale: true,
                            settled: false,
                            served: Vec::new(),
                        },
                    );
                }
            }
        }
        Ok((groups, gone))
    }

    /// Gives the definitions of a group their names, the older ones first.
    async fn accept_group(&self, group: &str, known: &mut BTreeMap<String, Known>) {
        let in_group = known.iter().filter(|(_, k)| k.crd.str_at(&["spec", "group"]) == group);
        let mut members: Vec<(String, String)> = in_group.map(|(name, k)| (created(&k.crd), name.clone())).collect();
        members.sort();
        for (_, name) in &members {
            let crd = &known[name].crd;
            if known[name].settled || crd.deletion_timestamp().is_some() {
                continue;
            }
            let now = self.lifecycle.now();
            let others: Vec<&Node> = members
                .iter()
                .filter(|(_, other)| other != name)
                .map(|(_, other)| &known[other].crd)
                .collect();
            let mut wanted = crd.clone();
            let mut changed = approval::set_condition(&mut wanted, &now);
            changed |= names::accept(&mut wanted, &others, &now);
            if !changed {
                let entry = known.get_mut(name).expect("it was there");
                entry.settled = condition::is_true(&entry.crd, "NamesAccepted");
                continue;
            }
            match self.client.update_subresource(self.resource, "status", &wanted).await {
                Ok(updated) => known.get_mut(name).expect("it was there").see(updated),
                Err(status) => tell(&wanted, Err(status)),
            }
        }
    }

    /// Deletes the objects of a definition that is being deleted, and when none is left its finalizer.
    async fn terminate(&self, entry: &Known) -> StatusResult<()> {
        if !entry.crd.finalizers().any(|f| f == FINALIZER) {
            return Ok(());
        }
        let mut crd = entry.crd.clone();
        if self.set(
            &mut crd,
            true,
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        ) {
            // The next round goes on, when nothing new is let in.
            return self
                .client
                .update_subresource(self.resource, "status", &crd)
                .await
                .map(drop);
        }
        if entry.served.is_empty() {
            self.set(&mut crd, false, "NeverEstablished", "resource was never established");
        } else {
            match self.empty(entry).await {
                Ok(0) => {
                    self.set(&mut crd, false, "InstanceDeletionCompleted", "removed all instances");
                }
                Ok(_) => return Ok(()),
                Err(status) => {
                    tracing::warn!(crd = crd.name(), %status, "custom objects could not be deleted");
                    return Ok(());
                }
            }
        }
        let kept: Vec<Node> = crd.finalizers().filter(|f| *f != FINALIZER).map(Node::from).collect();
        crd.set_at(
            &["metadata", "finalizers"],
            if kept.is_empty() { Node::Null } else { Node::List(kept) },
        );
        self.client
            .update_subresource(self.resource, "status", &crd)
            .await
            .map(drop)
    }

    /// Deletes all objects. Answers how many are left.
    async fn empty(&self, entry: &Known) -> StatusResult<usize> {
        let stored = entry
            .served
            .iter()
            .find(|d| d.version == d.storage.kind.version)
            .or(entry.served.first());
        let Some(definition) = stored else { return Ok(0) };
        let options = node!({"kind": "DeleteOptions", "apiVersion": "v1"});
        for object in self.client.list(definition, "").await? {
            if object.deletion_timestamp().is_some() {
                continue;
            }
            match self
                .client
                .delete(definition, object.namespace(), object.name(), &options)
                .await
            {
                Err(status) if status.code() != 404 => return Err(status),
                _ => {}
            }
        }
        Ok(self.client.list(definition, "").await?.len())
    }

    /// Sets the condition Terminating. Answers whether that changed it.
    fn set(&self, crd: &mut Node, status: bool, reason: &str, message: &str) -> bool {
        let before = condition::get(crd, TERMINATING).cloned();
        condition::set(
            crd,
            &Condition::new(TERMINATING, status, reason, message),
            &self.lifecycle.now(),
        );
        condition::get(crd, TERMINATING) != before.as_ref()
    }
}

impl Known {
    /// Takes a newer state.
    fn see(&mut self, crd: Node) {
        let basis = |crd: &Node| {
            (
                condition::is_true(crd, "Established"),
                condition::is_true(crd, TERMINATING),
            )
        };
        let names = |crd: &Node| crd.at(&["status", "acceptedNames"]).cloned();
        self.stale |= self.crd.get("spec") != crd.get("spec")
            || names(&self.crd) != names(&crd)
            || basis(&self.crd) != basis(&crd);
        self.settled = false;
        self.crd = crd;
    }
}

/// Marks a definition whose deletion begins: its objects are to go first.
pub fn begin_deletion(crd: &mut Node) {
    if condition::get(crd, TERMINATING).is_some() {
        return;
    }
    let now = crd.deletion_timestamp().unwrap_or_default().to_owned();
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    condition::set(
        crd,
        &Condition::new(TERMINATING, true, "InstanceDeletionPending", message),
        &now,
    );
    if !crd.finalizers().any(|f| f == FINALIZER) {
        let finalizers: Vec<Node> = crd.finalizers().chain([FINALIZER]).map(Node::from).collect();
        crd.set_at(&["metadata", "finalizers"], finalizers);
    }
}

/// One definition that cannot be brought in line does not keep the others from it. Gone or changed meanwhile, the next
/// round sees it again.
fn tell(crd: &Node, result: StatusResult<()>) {
    if let Err(status) = result
        && !matches!(status.code(), 404 | 409)
    {
        tracing::warn!(crd = crd.name(), %status, "a custom resource definition could not be brought in line");
    }
}

fn created(crd: &Node) -> String {
    crd.str_at(&["metadata", "creationTimestamp"]).to_owned()
}
