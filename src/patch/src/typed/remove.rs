//! Removes fields and items from an object.

use super::{Cursor, Form, List, element};
use crate::fields::FieldSet;
use fairlead_api::Node;

/// Removes everything that `gone` names, with what is below. Containers that lose all they have stay, empty.
pub fn remove(cursor: Cursor, node: &mut Node, gone: &FieldSet) {
    if gone.is_empty() {
        return;
    }
    let atom = cursor.atom();
    let form = atom.resolved(atom.form(Some(node)));
    match (form, node) {
        (Form::Map, Node::Map(map)) => {
            // Nothing below an atomic object has an owner of its own.
            if atom.map_is_atomic() {
                map.retain(|_, _| false);
                return;
            }
            map.retain(|name, value| match gone.get_field(name) {
                Some(entry) if entry.member => false,
                Some(entry) => {
                    remove(cursor.member_or_deduced(name).0, value, &entry.children);
                    true
                }
                None => true,
            });
        }
        (Form::List, Node::List(items)) => {
            let list = atom.list_semantics();
            if matches!(list, List::Atomic) {
                items.clear();
                return;
            }
            let item = cursor.item();
            items.retain_mut(|node| {
                let Some(entry) = element::of(list, node, item).ok().and_then(|e| gone.get(&e)) else {
                    return true;
                };
                if !entry.member {
                    remove(item, node, &entry.children);
                }
                !entry.member
            });
        }
        _ => {}
    }
}
