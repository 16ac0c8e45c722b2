//! [`Graph`]: who owns whom. Only objects that have owners, or wait for their dependents, are in it.

use crate::remote::RemoteResource;
use fairlead_api::{GroupVersion, Node};
use fairlead_resource::ResourceDefinition;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

pub type Uid = Arc<str>;

/// An object, as far as ownership is concerned.
pub struct Object {
    pub home: Home,
    /// `namespace/name`, or `name`.
    pub key: Arc<str>,
    pub owners: Vec<Owner>,
    pub deletion: Deletion,
}

/// Where objects of a resource are kept.
#[derive(Clone)]
pub enum Home {
    Here(Arc<ResourceDefinition>),
    There(Arc<RemoteResource>),
}

/// An owner reference. What names the owner besides its uid is kept as a hash: it is read again from the object
/// itself when it matters.
#[derive(Clone, PartialEq, Eq)]
pub struct Owner {
    pub uid: Uid,
    /// `blockOwnerDeletion`.
    pub blocks: bool,
    /// Of `apiVersion`, `kind` and `name`.
    place: u64,
    /// Of group and kind.
    pub kind: u64,
}

/// How far an object is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    No,
    /// Waits for nothing that concerns dependents.
    Plain,
    /// Waits until dependents that block it are gone.
    Foreground,
    /// Waits until dependents are no longer its own.
    Orphan,
}

#[derive(Default)]
pub struct Graph {
    objects: HashMap<Uid, Object>,
    dependents: HashMap<Uid, HashSet<Uid>>,
    absent: Absent,
}

/// Owners that are known to be gone, the latest ones, and the namespace each was in.
#[derive(Default)]
struct Absent {
    namespaces: HashMap<Uid, Box<str>>,
    order: VecDeque<Uid>,
}

const MAX_ABSENT: usize = 4096;

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Uid, &Object)> {
        self.objects.iter()
    }

    /// Objects of a resource that is served by another definition.
    pub fn rehome(&mut self, home: &Home) {
        let moved = self.objects.values_mut().filter(|o| o.home.prefix() == home.prefix());
        moved.for_each(|object| object.home = home.clone());
    }

    /// Puts an object in, or takes it out where nothing about it matters. Answers what was there before.
    pub fn put(&mut self, uid: &Uid, object: Object) -> Option<Object> {
        let before = self.remove(uid);
        if object.owners.is_empty() && matches!(object.deletion, Deletion::No | Deletion::Plain) {
            return before;
        }
        for owner in &object.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        self.objects.insert(uid.clone(), object);
        before
    }

    pub fn remove(&mut self, uid: &str) -> Option<Object> {
        let object = self.objects.remove(uid)?;
        for owner in &object.owners {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(object)
    }

    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Uid> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Whether a dependent keeps its owner from going.
    pub fn is_blocked(&self, uid: &str) -> bool {
        let blocks = |object: &Object| object.owners.iter().any(|o| &*o.uid == uid && o.blocks);
        self.dependents(uid).any(|d| self.get(d).is_some_and(blocks))
    }

    /// Whether a dependent itself waits for its own dependents.
    pub fn has_waiting_dependent(&self, uid: &str) -> bool {
        self.dependents(uid)
            .any(|d| self.get(d).is_some_and(|o| o.deletion == Deletion::Foreground))
    }

    /// Remembers that an owner is gone. Uids never come back.
    pub fn note_absent(&mut self, uid: &Uid, namespace: &str) {
        if self.absent.namespaces.insert(uid.clone(), namespace.into()).is_none() {
            self.absent.order.push_back(uid.clone());
            if self.absent.order.len() > MAX_ABSENT
                && let Some(oldest) = self.absent.order.pop_front()
            {
                self.absent.namespaces.remove(&oldest);
            }
        }
    }

    /// Whether an owner, as seen from a namespace, is known to be gone. A cluster-scoped object has none in namespaces.
    pub fn is_absent(&self, uid: &str, seen_from: &str) -> bool {
        self.absent
            .namespaces
            .get(uid)
            .is_some_and(|namespace| namespace.is_empty() || &**namespace == seen_from)
    }
}

impl Object {
    /// Reads what matters. `node` is `None` for an object whose bytes show that nothing does.
    pub fn read(home: &Home, key: &Arc<str>, node: Option<&Node>) -> Object {
        let (mut owners, mut deletion) = (Vec::new(), Deletion::No);
        if let Some(node) = node {
            owners = node.owner_references().iter().map(Owner::read).collect();
            deletion = Deletion::of(node);
        }
        Object {
            home: home.clone(),
            key: key.clone(),
            owners,
            deletion,
        }
    }

    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&self.key, |(_, name)| name)
    }
}

impl Owner {
    fn read(reference: &Node) -> Owner {
        let (api_version, kind) = (reference.str("apiVersion"), reference.str("kind"));
        let group = GroupVersion::parse(api_version).map(|gv| gv.group).unwrap_or_default();
        Owner {
            uid: reference.str("uid").into(),
            blocks: reference.get("blockOwnerDeletion").and_then(Node::as_bool) == Some(true),
            place: hash(&[api_version, kind, reference.str("name")]),
            kind: hash(&[group.as_str(), kind]),
        }
    }
}

impl Deletion {
    pub fn of(node: &Node) -> Deletion {
        if node.deletion_timestamp().is_none() {
            return Deletion::No;
        }
        let has = |finalizer: &str| node.finalizers().any(|f| f == finalizer);
        match () {
            () if has("orphan") => Deletion::Orphan,
            () if has("foregroundDeletion") => Deletion::Foreground,
            () => Deletion::Plain,
        }
    }
}

impl Home {
    /// Names the resource among all.
    pub fn prefix(&self) -> &str {
        match self {
            Home::Here(definition) => &definition.storage.prefix,
            Home::There(resource) => &resource.prefix,
        }
    }

    pub fn kind_name(&self) -> &str {
        match self {
            Home::Here(definition) => &definition.kind,
            Home::There(resource) => &resource.kind,
        }
    }

    /// As in [`Owner::kind`].
    pub fn kind(&self) -> u64 {
        match self {
            Home::Here(definition) => hash(&[definition.group.as_str(), definition.kind.as_str()]),
            Home::There(resource) => hash(&[resource.group.as_str(), resource.kind.as_str()]),
        }
    }
}

fn hash(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn owners_and_deletion_are_read_from_metadata() {
        let object = node!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "blockOwnerDeletion": true},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "s", "uid": "v"},
        ]}});
        let found: Vec<Owner> = object.owner_references().iter().map(Owner::read).collect();
        assert_eq!((&*found[0].uid, found[0].blocks, found[1].blocks), ("u", true, false));
        assert!(found[0].kind == found[1].kind && found[0].place != found[1].place);
        assert_eq!(Deletion::of(&object), Deletion::No);
        let deleted = |finalizers: &[&str]| {
            let finalizers: Vec<Node> = finalizers.iter().map(|f| Node::string(*f)).collect();
            let mut object = node!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
            object.set_at(&["metadata", "finalizers"], finalizers);
            Deletion::of(&object)
        };
        assert_eq!(deleted(&["a"]), Deletion::Plain);
        assert_eq!(deleted(&["a", "foregroundDeletion"]), Deletion::Foreground);
        assert_eq!(deleted(&["foregroundDeletion", "orphan"]), Deletion::Orphan);
    }

    #[test]
    fn absent_owners_are_remembered_up_to_a_bound() {
        let mut graph = Graph::default();
        for n in 0..=MAX_ABSENT {
            graph.note_absent(&n.to_string().into(), if n == 1 { "" } else { "n" });
        }
        assert!(
            !graph.is_absent("0", "n") && graph.is_absent("1", "m") && graph.is_absent(&MAX_ABSENT.to_string(), "n")
        );
        assert!(!graph.is_absent("2", "") && !graph.is_absent("2", "m"));
        assert_eq!(graph.absent.namespaces.len(), MAX_ABSENT);
    }
}
