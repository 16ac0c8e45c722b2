//! `x-kubernetes-list-type`: sets and list maps hold every item once.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/listtype.

use crate::types::{ListSemantics, Shape, TypeRef};
use compact_str::CompactString;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, json};
use std::collections::HashMap;

pub(super) fn check(node: &Node, schema: TypeRef, path: &FieldPath, errors: &mut FieldErrors) {
    // Metadata was decoded by its Go type, and metadata's own checks look at its lists.
    if !schema.ty().name.is_empty() {
        return;
    }
    match node {
        Node::Map(map) => {
            let keyed = matches!(schema.shape(), Shape::Map(_));
            for (name, value) in map.iter().filter(|(_, v)| matches!(v, Node::Map(_) | Node::List(_))) {
                if let Some(member) = schema.member(name) {
                    let at = if keyed { path.key(name) } else { path.child(name) };
                    check(value, member, &at, errors);
                }
            }
        }
        Node::List(items) => {
            match &schema.ty().list {
                ListSemantics::Set => {
                    for i in repeats(items.iter()) {
                        errors.push(FieldError::duplicate(&path.index(i), items[i].clone()));
                    }
                }
                ListSemantics::Map { keys } => list_map(items, keys, path, errors),
                ListSemantics::Atomic => {}
            }
            if let Some(item_type) = schema.items() {
                for (i, item) in items
                    .iter()
                    .enumerate()
                    .filter(|(_, v)| matches!(v, Node::Map(_) | Node::List(_)))
                {
                    check(item, item_type, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn list_map(items: &[Node], keys: &[CompactString], path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(i) = items.iter().position(|item| !matches!(item, Node::Map(_) | Node::Null)) {
        errors.push(FieldError::invalid(
            &path.index(i),
            items[i].clone(),
            "must be an object for an array of list-type map",
        ));
        return;
    }
    let key_of = |item: &Node| {
        let mut key = Node::map();
        for name in keys {
            if let Some(value) = item.get(name) {
                key.set(name, value.clone());
            }
        }
        key
    };
    let found: Vec<Node> = items.iter().map(key_of).collect();
    for i in repeats(found.iter()) {
        errors.push(FieldError::duplicate(&path.index(i), found[i].clone()));
    }
}

/// The position of the second of each group of equal values.
fn repeats<'a>(items: impl Iterator<Item = &'a Node>) -> Vec<usize> {
    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut found = Vec::new();
    for (i, item) in items.enumerate() {
        let times = seen.entry(identity(item)).or_default();
        *times += 1;
        if *times == 2 {
            found.push(i);
        }
    }
    found
}

/// The position of the first value that was there before.
pub(super) fn first_repeat(items: &[Node]) -> Option<usize> {
    repeats(items.iter()).into_iter().min()
}

/// Equal for equal values only: 1 and 1.0 are two.
fn identity(item: &Node) -> Vec<u8> {
    let mut text = match item {
        Node::Float(_) => vec![b'f'],
        _ => Vec::new(),
    };
    json::write(item, &mut text);
    text
}
