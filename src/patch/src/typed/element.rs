//! What names an item of a list: its value in a set, its keys in a list map.

use super::{Cursor, List};
use crate::fields::Element;
use fairlead_api::{Key, Node};

/// The element of `node`, an item of the type at `item`.
///
/// # Errors
/// Why it cannot be told, in upstream's words.
pub fn of(list: List, node: &Node, item: Cursor) -> Result<Element, String> {
    match list {
        List::Atomic => Err("invalid indexing of non-associative list".into()),
        List::Set => match node {
            Node::Map(_) => Err("associative list without keys has an element that's a map type".into()),
            Node::List(_) => Err("not supported: associative list with lists as elements".into()),
            Node::Null => Err("associative list without keys has an element that's an explicit null".into()),
            scalar => Ok(Element::Value(scalar.clone())),
        },
        List::Map(keys) => {
            let map = match node {
                Node::Map(map) => map,
                Node::Null => return Err("associative list with keys may not have a null element".into()),
                _ => return Err("associative list with keys may not have non-map elements".into()),
            };
            let mut key: Vec<(Key, Node)> = Vec::with_capacity(keys.len());
            for name in keys {
                if let Some(value) = map.get(name).cloned().or_else(|| item.key_default(name)) {
                    key.push((name.clone(), value));
                }
            }
            if key.is_empty() {
                let names: Vec<String> = keys.iter().map(|k| fairlead_api::field::go_quote(k)).collect();
                return Err(format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                    names.join(" ")
                ));
            }
            key.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(Element::Key(key.into()))
        }
    }
}
