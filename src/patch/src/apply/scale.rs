//! managedFields between an object and its scale subresource: both have replicas, in different places.

use super::owners::{Owner, Owners};
use crate::fields::{FieldSet, Path};
use fairlead_api::Node;

const SCALE_VERSION: &str = "autoscaling/v1";

/// Where an object of an apiVersion has its replicas. `None`: it has none in this version.
pub type ReplicasPath<'a> = &'a dyn Fn(&str) -> Option<Option<Path>>;

/// The managedFields of the Scale of an object with `parent` managedFields: its owners of the replicas.
pub fn to_scale(parent: &[Node], path_of: ReplicasPath) -> Result<Vec<Node>, String> {
    let mut scale = Owners::default();
    for owner in Owners::read(parent)?.iter() {
        if path_of(&owner.version)
            .flatten()
            .is_some_and(|path| owner.set.contains(&path))
        {
            scale.put(Owner {
                version: SCALE_VERSION.into(),
                set: scale_replicas(),
                ..owner.clone()
            });
        }
    }
    Ok(entries(scale))
}

/// The managedFields of the object (`parent` before) after its Scale was written with `scale` ones. New owners speak
/// `version`.
pub fn to_parent(parent: &[Node], scale: &[Node], version: &str, path_of: ReplicasPath) -> Result<Vec<Node>, String> {
    let before = Owners::read(parent)?;
    let mut scale = Owners::read(scale)?;
    let mut after = Owners::default();
    for owner in before.iter() {
        // An owner of a version that is not served any more.
        let Some(path) = path_of(&owner.version) else { continue };
        let path = path.filter(|path| owner.set.contains(path));
        let still = scale.get(&owner.id).is_some();
        match path {
            Some(path) if !still => {
                let mut replicas = FieldSet::new();
                replicas.insert(&path);
                let set = owner.set.difference(&replicas);
                if !set.is_empty() {
                    after.put(Owner { set, ..owner.clone() });
                }
            }
            Some(_) => {
                after.put(owner.clone());
                scale.retain_mut(|o| o.id != owner.id);
            }
            None => after.put(owner.clone()),
        }
    }
    let here = path_of(version).flatten();
    for owner in scale.iter() {
        if !owner.set.contains(&scale_path()) {
            continue;
        }
        let mut set = FieldSet::new();
        if let Some(path) = &here {
            set.insert(path);
        }
        // COMPAT: updaters of the Scale are others than those of the object, even under one name, so their entries
        // have no time, and stand beside the object's own.
        let time = before.get(&owner.id).and_then(|o| o.time.clone());
        after.put(Owner {
            id: owner.id.clone(),
            version: version.into(),
            set,
            time,
        });
    }
    Ok(entries(after))
}

fn scale_path() -> Path {
    ["spec", "replicas"]
        .into_iter()
        .map(crate::fields::Element::field)
        .collect()
}

fn scale_replicas() -> FieldSet {
    FieldSet::of(&[&["spec", "replicas"]])
}

fn entries(owners: Owners) -> Vec<Node> {
    let mut object = Node::map();
    owners.write(&mut object);
    match object.remove_at(&["metadata", "managedFields"]) {
        Some(Node::List(entries)) => entries,
        _ => Vec::new(),
    }
}
