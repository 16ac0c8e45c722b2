//! [`FieldSet`] to and from the value of `fieldsV1`.

use super::{Element, Entry, FieldSet};
use fairlead_api::{Key, Map, Node};

impl FieldSet {
    /// The value of `fieldsV1`.
    pub fn to_node(&self) -> Node {
        Node::Map(self.members(false, &mut Vec::with_capacity(64)))
    }

    fn members(&self, itself: bool, text: &mut Vec<u8>) -> Map {
        let mut members: Vec<(Key, Node)> = Vec::with_capacity(self.entries.len() + usize::from(itself));
        if itself && !self.is_empty() {
            members.push((Key::const_new("."), Node::map()));
        }
        for entry in &self.entries {
            text.clear();
            entry.element.write(text);
            let name = Key::from_utf8_lossy(text);
            members.push((name, Node::Map(entry.children.members(entry.member, text))));
        }
        Map::from_entries(members)
    }

    /// Reads the value of `fieldsV1`. Elements of unknown kinds are left out.
    ///
    /// # Errors
    /// What is wrong with the first element that cannot be read.
    pub fn from_node(node: &Node) -> Result<FieldSet, String> {
        match node {
            Node::Map(members) => Ok(read(members)?.0),
            Node::Null => Ok(FieldSet::new()),
            _ => Err("ReadMapCB: expect { or n".into()),
        }
    }
}

/// The set below an element, and whether the element itself is a member.
fn read(members: &Map) -> Result<(FieldSet, bool), String> {
    let mut entries = Vec::with_capacity(members.len());
    let mut itself = false;
    for (name, value) in members.iter() {
        if name == "." {
            itself = true;
            continue;
        }
        let Some(element) = Element::parse(name).map_err(|e| format!("parsing key as path element: {e}"))? else {
            continue;
        };
        let (children, member) = match value {
            Node::Map(below) => read(below)?,
            Node::Null => (FieldSet::new(), true),
            _ => return Err("ReadMapCB: expect { or n".into()),
        };
        entries.push(Entry {
            element,
            member,
            children,
        });
    }
    let set = FieldSet::from_entries(entries);
    // Without anything below it, the element must be the member.
    let itself = itself || set.is_empty();
    Ok((set, itself))
}
