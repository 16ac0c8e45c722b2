//! Which paths an object names: what its applier will own.

use super::{Cursor, Form, List, element};
use crate::fields::{Element, FieldSet};
use fairlead_api::Node;

/// The set of `node`'s leaves and items. Items that share an element are one member, without anything below.
pub fn to_set(cursor: Cursor, node: &Node) -> FieldSet {
    below(cursor, node).1
}

/// Whether the place itself is a leaf, and the set below it.
fn below(cursor: Cursor, node: &Node) -> (bool, FieldSet) {
    let atom = cursor.atom();
    match (atom.resolved(atom.form(Some(node))), node) {
        (Form::Scalar | Form::Open, _) => (true, FieldSet::new()),
        (Form::Map, _) if atom.map_is_atomic() => (true, FieldSet::new()),
        (Form::List, _) if matches!(atom.list_semantics(), List::Atomic) => (true, FieldSet::new()),
        (Form::Map, Node::Map(map)) => {
            let mut set = FieldSet::new();
            for (name, value) in map.iter() {
                let (member, declared) = cursor.member_or_deduced(name);
                let (leaf, children) = below(member, value);
                let bare = match value {
                    Node::Null => true,
                    Node::Map(map) => map.is_empty(),
                    _ => false,
                };
                set.attach(&Element::Field(name.clone()), leaf || bare || !declared, children);
            }
            (false, set)
        }
        (Form::List, Node::List(items)) => (false, items_set(atom.list_semantics(), cursor.item(), items)),
        _ => (false, FieldSet::new()),
    }
}

fn items_set(list: List, item: Cursor, items: &[Node]) -> FieldSet {
    let mut keyed: Vec<(Element, &Node)> = items
        .iter()
        .filter_map(|node| element::of(list, node, item).ok().map(|e| (e, node)))
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut set = FieldSet::new();
    for same in keyed.chunk_by(|a, b| a.0 == b.0) {
        match same {
            [(element, node)] => set.attach(element, true, below(item, node).1),
            [(element, _), ..] => set.attach(element, true, FieldSet::new()),
            [] => {}
        }
    }
    set
}
