//! [`Lifecycle`]: what follows a write of a CustomResourceDefinition, before the write is answered.
//!
//! Names are accepted, conditions written and the new routes swapped in within the request: a CRD is usable the moment
//! its create returns. Deletion empties the resource first.

use crate::approval;
use crate::condition::{self, Condition};
use crate::names;
use fairlead_api::{Clock, Node, StatusResult, node};
use fairlead_resource::definition::Converter;
use fairlead_resource::{Client, Engine, ResourceDefinition};
use fairlead_schema::Schema;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

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
    /// Serialises syncs; they are few.
    turn: tokio::sync::Mutex<()>,
    /// By name of the CRD: what it was made from and what it serves.
    served: Mutex<BTreeMap<String, Served>>,
}

struct Served {
    /// `spec` and accepted names: while they stay, the definitions do.
    basis: Node,
    definitions: Vec<Arc<ResourceDefinition>>,
}

impl Lifecycle {
    pub fn new(converter: MakeConverter, publish: Publish, hash: Hash, clock: Arc<dyn Clock>) -> Lifecycle {
        Lifecycle {
            scale: OnceLock::new(),
            converter,
            publish,
            hash,
            clock,
            resource: OnceLock::new(),
            turn: tokio::sync::Mutex::default(),
            served: Mutex::default(),
        }
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
        let _turn = self.turn.lock().await;
        let client = Client::new(engine.clone(), MANAGER);
        let mut crds = client.list(resource, "").await?;
        // Older definitions keep their names.
        crds.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| a.name().cmp(b.name())));
        // Accepting names for one may free or take them for another: twice is enough for any order.
        for _ in 0..2 {
            for i in 0..crds.len() {
                tell(
                    crds[i].name().to_owned(),
                    self.accept(&client, resource, &mut crds, i).await,
                );
            }
        }
        let mut gone = Vec::new();
        for crd in &crds {
            if crd.deletion_timestamp().is_some() {
                tell(crd.name().to_owned(), self.terminate(&client, resource, crd).await);
                gone.push(crd.name().to_owned());
            }
        }
        crds.retain(|crd| !gone.iter().any(|name| name == crd.name()));
        self.serve(&crds);
        if !gone.is_empty() {
            // Names may have become free.
            for i in 0..crds.len() {
                tell(
                    crds[i].name().to_owned(),
                    self.accept(&client, resource, &mut crds, i).await,
                );
            }
            self.serve(&crds);
        }
        Ok(())
    }

    /// Writes names and conditions of one definition, if they change.
    async fn accept(
        &self,
        client: &Client,
        resource: &Arc<ResourceDefinition>,
        crds: &mut [Node],
        index: usize,
    ) -> StatusResult<()> {
        if crds[index].deletion_timestamp().is_some() {
            return Ok(());
        }
        let mut crd = crds[index].clone();
        let others: Vec<&Node> = crds
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != index)
            .map(|(_, c)| c)
            .collect();
        let mut changed = approval::set_condition(&mut crd, &self.now());
        changed |= names::accept(&mut crd, &others, &self.now());
        if changed {
            crds[index] = match client.update_subresource(resource, "status", &crd).await {
                Ok(updated) => updated,
                Err(status) if status.code() == 404 => return Ok(()),
                Err(status) => return Err(status),
            };
        }
        Ok(())
    }

    /// Deletes the objects of a definition that is being deleted, then its finalizer.
    async fn terminate(&self, client: &Client, resource: &Arc<ResourceDefinition>, crd: &Node) -> StatusResult<()> {
        if !crd.finalizers().any(|f| f == FINALIZER) {
            return Ok(());
        }
        let served = self
            .served
            .lock()
            .expect("no holder panics")
            .get(crd.name())
            .and_then(|s| s.definitions.first().cloned());
        if let Some(definition) = served {
            for object in client.list(&definition, "").await? {
                let options = node!({"kind": "DeleteOptions", "apiVersion": "v1"});
                match client
                    .delete(&definition, object.namespace(), object.name(), &options)
                    .await
                {
                    Err(status) if status.code() != 404 => return Err(status),
                    _ => {}
                }
            }
            if !client.list(&definition, "").await?.is_empty() {
                let mut waiting = crd.clone();
                let message = "could not confirm zero CustomResources remaining: timed out waiting for the condition";
                condition::set(
                    &mut waiting,
                    &Condition::new("Terminating", true, "InstanceDeletionCheck", message),
                    &self.now(),
                );
                client.update_subresource(resource, "status", &waiting).await?;
                return Ok(());
            }
        }
        let kept: Vec<Node> = crd.finalizers().filter(|f| *f != FINALIZER).map(Node::from).collect();
        let mut patch = Node::map();
        patch.set_at(
            &["metadata", "finalizers"],
            if kept.is_empty() { Node::Null } else { Node::List(kept) },
        );
        match client.merge_patch(resource, "", crd.name(), "", &patch).await {
            Err(status) if status.code() != 404 => Err(status),
            _ => Ok(()),
        }
    }

    /// Compiles what is new and publishes the definitions if any changed.
    fn serve(&self, crds: &[Node]) {
        let mut served = self.served.lock().expect("no holder panics");
        let mut changed = false;
        let before = served.len();
        served.retain(|name, _| crds.iter().any(|c| c.name() == name));
        changed |= served.len() != before;
        for crd in crds {
            let basis = basis(crd);
            if served.get(crd.name()).is_some_and(|s| s.basis == basis) {
                continue;
            }
            match crate::definition::definitions(crd, self.converter.as_ref(), self.hash, self.scale.get()) {
                Ok(definitions) => {
                    served.insert(crd.name().to_owned(), Served { basis, definitions });
                    changed = true;
                }
                Err(why) => tracing::error!(crd = crd.name(), why, "a stored definition cannot be served"),
            }
        }
        if changed {
            let all: Vec<Arc<ResourceDefinition>> =
                served.values().flat_map(|s| s.definitions.iter().cloned()).collect();
            (self.publish)(&all);
        }
    }

    pub(crate) fn now(&self) -> String {
        self.clock.now().rfc3339()
    }
}

/// One definition that cannot be brought in line does not keep the others from it.
fn tell(crd: String, result: StatusResult<()>) {
    if let Err(status) = result {
        tracing::warn!(crd, %status, "a custom resource definition could not be brought in line");
    }
}

fn created(crd: &Node) -> String {
    crd.str_at(&["metadata", "creationTimestamp"]).to_owned()
}

fn basis(crd: &Node) -> Node {
    let mut basis = Node::map();
    basis.set("spec", crd.get("spec").cloned().unwrap_or_default());
    basis.set(
        "names",
        crd.at(&["status", "acceptedNames"]).cloned().unwrap_or_default(),
    );
    basis.set("established", condition::is_true(crd, "Established"));
    basis
}
