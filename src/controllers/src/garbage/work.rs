//! What is done about one object: judged by its owners as they are now, orphaned from, or let go.
//!
//! Source of the rules: kubernetes/kubernetes pkg/controller/garbagecollector (garbagecollector.go, operations.go, patch.go).

use super::graph::{Deletion, Home, Object, Uid};
use crate::remote::{self, RemoteObjects};
use fairlead_api::{GroupResource, GroupVersion, Node, Status, StatusResult, node};
use fairlead_discovery::Router;
use fairlead_resource::Client;
use futures_util::{StreamExt, stream};
use std::collections::HashSet;
use std::sync::Arc;

/// Where an object is.
#[derive(Clone)]
pub struct Place {
    pub home: Home,
    pub namespace: String,
    pub name: String,
    pub uid: Uid,
}

/// What the graph knows of an object that is to be judged.
pub struct Case {
    pub place: Place,
    pub has_dependents: bool,
    /// A dependent waits for its own dependents: the two may own each other.
    pub has_waiting_dependent: bool,
    /// Those of its owners that are known to be gone.
    pub absent: HashSet<Uid>,
}

/// How work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// An owner is of a kind that is not known now; it may be when routes change.
    Unresolved,
    /// To be tried again later.
    Failed,
}

/// Everything an attempt needs of the server.
#[derive(Clone)]
pub struct Tools {
    pub client: Client,
    pub router: Router,
    pub remote: Arc<dyn RemoteObjects>,
}

/// How often a write is tried again at once when somebody else changed the object.
const ATTEMPTS: usize = 10;
/// How many dependents are orphaned at a time.
const AT_ONCE: usize = 32;

/// Why work could not be done.
enum Trouble {
    Status(Status),
    UnknownKind,
    /// A cluster-scoped object cannot be owned by a namespaced one: nothing will ever be done about it.
    WrongScope,
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Trouble {
        Trouble::Status(status)
    }
}

impl Place {
    pub fn of(uid: &Uid, object: &Object) -> Place {
        Place {
            home: object.home.clone(),
            namespace: object.namespace().into(),
            name: object.name().into(),
            uid: uid.clone(),
        }
    }
}

/// Deletes an object whose owners are all gone, or takes references to those off that are.
pub async fn judge(tools: Tools, case: Case) -> Outcome {
    for _ in 0..ATTEMPTS {
        match judge_once(&tools, &case).await {
            Ok(()) => return Outcome::Done,
            Err(Trouble::WrongScope) => return Outcome::Done,
            Err(Trouble::UnknownKind) => return Outcome::Unresolved,
            Err(Trouble::Status(status)) => match status.code() {
                404 => return Outcome::Done,
                409 => {}
                _ => return failed(&case.place, &status),
            },
        }
    }
    Outcome::Failed
}

async fn judge_once(tools: &Tools, case: &Case) -> Result<(), Trouble> {
    let Some(object) = current(tools, &case.place).await? else {
        return Ok(());
    };
    if Deletion::of(&object) != Deletion::No {
        return Ok(());
    }
    let (mut solid, mut gone, mut waiting) = (0, Vec::new(), Vec::new());
    for reference in object.owner_references() {
        let uid = reference.str("uid");
        if case.absent.contains(uid) {
            gone.push(uid);
            continue;
        }
        match owner(tools, &case.place, reference).await? {
            None => gone.push(uid),
            Some(owner) => match Deletion::of(&owner) {
                Deletion::Foreground => waiting.push(uid),
                // Both finalizers: it waits for dependents all the same.
                Deletion::Orphan if owner.finalizers().any(|f| f == "foregroundDeletion") => waiting.push(uid),
                _ => solid += 1,
            },
        }
    }
    if solid > 0 {
        // Owners that wait are taken off, too: they would wait for ever for what others keep.
        gone.append(&mut waiting);
        return if gone.is_empty() {
            Ok(())
        } else {
            disown(tools, &case.place, &object, &gone).await.map_err(Trouble::from)
        };
    }
    if gone.is_empty() && waiting.is_empty() {
        return Ok(());
    }
    if waiting.is_empty() || !case.has_dependents {
        let has = |finalizer: &str| object.finalizers().any(|f| f == finalizer);
        let policy = match () {
            () if has("orphan") => "Orphan",
            () if has("foregroundDeletion") => "Foreground",
            () => "Background",
        };
        return Ok(delete(tools, &case.place, &object, policy).await?);
    }
    let object = if case.has_waiting_dependent {
        unblock(tools, &case.place, &object).await?
    } else {
        object
    };
    Ok(delete(tools, &case.place, &object, "Foreground").await?)
}

/// Takes an owner's dependents from it, then lets it go.
pub async fn orphan(tools: Tools, owner: Place, dependents: Vec<Place>) -> Outcome {
    let uid: &str = &owner.uid;
    let one = |place: Place| {
        let tools = tools.clone();
        async move {
            for _ in 0..ATTEMPTS {
                let Some(object) = current(&tools, &place).await? else {
                    return Ok(());
                };
                match disown(&tools, &place, &object, &[uid]).await {
                    Err(status) if status.code() == 404 => return Ok(()),
                    Err(status) if status.code() == 409 => {}
                    other => return other,
                }
            }
            Err(Status::modified(&group_resource(&place.home), &place.name))
        }
    };
    let results: Vec<StatusResult<()>> = stream::iter(dependents.into_iter().map(one))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    if let Some(status) = results.into_iter().find_map(Result::err) {
        return failed(&owner, &status);
    }
    release(tools, owner, "orphan").await
}

/// Takes a finalizer off.
pub async fn release(tools: Tools, place: Place, finalizer: &str) -> Outcome {
    for _ in 0..ATTEMPTS {
        let object = match current(&tools, &place).await {
            Ok(Some(object)) => object,
            Ok(None) => return Outcome::Done,
            Err(status) => return failed(&place, &status),
        };
        if !object.finalizers().any(|f| f == finalizer) {
            return Outcome::Done;
        }
        let kept: Vec<Node> = object
            .finalizers()
            .filter(|f| *f != finalizer)
            .map(Node::from)
            .collect();
        match patch(&tools, &place, &object, "finalizers", kept).await {
            Ok(_) => return Outcome::Done,
            Err(status) if status.code() == 404 => return Outcome::Done,
            Err(status) if status.code() == 409 => {}
            Err(status) => return failed(&place, &status),
        }
    }
    Outcome::Failed
}

fn failed(place: &Place, status: &Status) -> Outcome {
    let (kind, namespace, name) = (place.home.kind_name(), &place.namespace, &place.name);
    tracing::warn!(%kind, namespace, name, %status, "garbage collection will try again");
    Outcome::Failed
}

/// The object as it is now; `None` when it is gone, or another has its name.
async fn current(tools: &Tools, place: &Place) -> StatusResult<Option<Node>> {
    match get(tools, &place.home, &place.namespace, &place.name).await {
        Ok(object) => Ok(Some(object).filter(|o| o.uid() == &*place.uid)),
        Err(status) if status.code() == 404 => Ok(None),
        Err(status) => Err(status),
    }
}

/// The owner that a reference means, as it is now; `None` when it is gone.
async fn owner(tools: &Tools, dependent: &Place, reference: &Node) -> Result<Option<Node>, Trouble> {
    let gv = GroupVersion::parse(reference.str("apiVersion")).ok_or(Trouble::UnknownKind)?;
    let home = home_of(tools, &gv, reference.str("kind")).ok_or(Trouble::UnknownKind)?;
    let namespaced = match &home {
        Home::Here(definition) => definition.namespaced(),
        Home::There(resource) => resource.namespaced,
    };
    let namespace = match (namespaced, dependent.namespace.as_str()) {
        (true, "") => return Err(Trouble::WrongScope),
        (true, namespace) => namespace,
        (false, _) => "",
    };
    match get(tools, &home, namespace, reference.str("name")).await {
        Ok(found) => Ok(Some(found).filter(|f| f.uid() == reference.str("uid"))),
        Err(status) if status.code() == 404 => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Where objects of a kind are.
fn home_of(tools: &Tools, gv: &GroupVersion, kind: &str) -> Option<Home> {
    let snapshot = tools.router.load();
    let Some(named) = snapshot.kind(&gv.group, &gv.version, kind) else {
        let resource = remote::of_kind(&snapshot, &gv.group, &gv.version, kind)?;
        return Some(Home::There(Arc::new(resource)));
    };
    // The stored version needs no conversion.
    let stored = &named.storage.kind;
    let definition = snapshot
        .kind(&stored.group, &stored.version, &stored.kind)
        .unwrap_or(named);
    Some(Home::Here(definition.clone()))
}

async fn get(tools: &Tools, home: &Home, namespace: &str, name: &str) -> StatusResult<Node> {
    match home {
        Home::Here(definition) => tools.client.get(definition, namespace, name).await,
        Home::There(resource) => tools.remote.get(resource, namespace, name).await,
    }
}

fn group_resource(home: &Home) -> GroupResource {
    match home {
        Home::Here(definition) => definition.group_resource(),
        Home::There(resource) => GroupResource::new(&resource.group, &resource.plural),
    }
}

/// Deletes an object if it is still the one that was judged.
async fn delete(tools: &Tools, place: &Place, object: &Node, policy: &str) -> StatusResult<()> {
    let mut options = node!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    options.set_at(&["preconditions", "uid"], object.uid());
    options.set_at(&["preconditions", "resourceVersion"], object.resource_version());
    let Place { namespace, name, .. } = place;
    match &place.home {
        Home::Here(definition) => tools
            .client
            .delete(definition, namespace, name, &options)
            .await
            .map(drop),
        Home::There(resource) => tools.remote.delete(resource, namespace, name, &options).await,
    }
}

/// Takes owner references off.
async fn disown(tools: &Tools, place: &Place, object: &Node, owners: &[&str]) -> StatusResult<()> {
    let references = object.owner_references();
    let kept: Vec<Node> = references
        .iter()
        .filter(|r| !owners.contains(&r.str("uid")))
        .cloned()
        .collect();
    if kept.len() == references.len() {
        return Ok(());
    }
    patch(tools, place, object, "ownerReferences", kept).await.map(drop)
}

/// Makes an object's references block nobody.
async fn unblock(tools: &Tools, place: &Place, object: &Node) -> StatusResult<Node> {
    let mut references = object.owner_references().to_vec();
    for reference in &mut references {
        if reference.get("blockOwnerDeletion").and_then(Node::as_bool) == Some(true) {
            reference.set("blockOwnerDeletion", false);
        }
    }
    patch(tools, place, object, "ownerReferences", references).await
}

/// Replaces a list in metadata, if the object is still the same.
async fn patch(tools: &Tools, place: &Place, object: &Node, field: &str, list: Vec<Node>) -> StatusResult<Node> {
    let mut patch = Node::map();
    patch.set_at(&["metadata", "uid"], object.uid());
    patch.set_at(&["metadata", "resourceVersion"], object.resource_version());
    patch.set_at(
        &["metadata", field],
        if list.is_empty() { Node::Null } else { Node::List(list) },
    );
    let Place { namespace, name, .. } = place;
    match &place.home {
        Home::Here(definition) => tools.client.merge_patch(definition, namespace, name, "", &patch).await,
        Home::There(resource) => tools.remote.patch(resource, namespace, name, &patch).await,
    }
}
