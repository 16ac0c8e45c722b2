//! Small edits of objects, in the terms of Go defaulting: what is absent is nil or zero.
// PERFORMANCE: per-request path

use fairlead_api::{Map, Node, alike};

/// Sets the member `key` where it is absent.
pub fn or(object: &mut Node, key: &str, value: impl Into<Node>) {
    let slot = object.make_map().slot(key);
    if slot.is_null() {
        *slot = value.into();
    }
}

/// Sets the member `key` where it is absent or the empty string: for values that are always written.
pub fn or_empty(object: &mut Node, key: &str, value: impl Into<Node>) {
    if object.get(key).is_none_or(|v| v.is_null() || v.as_str() == Some("")) {
        object.set(key, value);
    }
}

/// Runs `change` on every item of the list `key`.
pub fn each(object: &mut Node, key: &str, mut change: impl FnMut(&mut Node)) {
    if let Some(Node::List(items)) = object.get_mut(key) {
        items.iter_mut().for_each(&mut change);
    }
}

/// Runs `change` on the object at `path`, if there is one.
pub fn with(object: &mut Node, path: &[&str], change: impl FnOnce(&mut Node)) {
    if let Some(found @ Node::Map(_)) = object.at_mut(path) {
        change(found);
    }
}

/// The integer at `path`; 0 where there is none.
pub fn int(object: &Node, path: &[&str]) -> i64 {
    object.at(path).and_then(Node::as_i64).unwrap_or(0)
}

/// The boolean at `path`; false where there is none.
pub fn flag(object: &Node, path: &[&str]) -> bool {
    object.at(path).and_then(Node::as_bool).unwrap_or(false)
}

/// The list at `path`; empty where there is none.
pub fn list<'a>(object: &'a Node, path: &[&str]) -> &'a [Node] {
    object.at(path).and_then(Node::as_list).map_or(&[], Vec::as_slice)
}

/// The object at `path`, where there is one with members.
pub fn map<'a>(object: &'a Node, path: &[&str]) -> Option<&'a Map> {
    object.at(path).and_then(Node::as_map).filter(|m| !m.is_empty())
}

/// Sets `to` to what `from` has at `path`, or removes it.
pub fn copy(to: &mut Node, from: &Node, path: &[&str]) {
    match from.at(path) {
        Some(value) => to.set_at(path, value.clone()),
        None => {
            to.remove_at(path);
        }
    }
}

/// Puts back the metadata that writes to some status subresources must not change.
pub fn keep_metadata(object: &mut Node, old: &Node) {
    for field in [
        "annotations",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "labels",
        "ownerReferences",
    ] {
        copy(object, old, &["metadata", field]);
    }
}

/// Counts the generation up, from the old one, where any of `paths` differ.
pub fn bump_generation(object: &mut Node, old: &Node, paths: &[&[&str]]) {
    let changed = paths.iter().any(|path| !alike(object.at(path), old.at(path)));
    let generation = old.generation() + i64::from(changed);
    match generation {
        0 => object.remove_at(&["metadata", "generation"]),
        _ => object.meta_mut().insert("generation", Node::Int(generation)),
    };
}
