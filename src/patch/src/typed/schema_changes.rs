//! Adjusts sets to a schema: the names of fields above members, and places that became atomic since a set was written.

use super::{Cursor, Form, List};
use crate::fields::{Element, FieldSet};

impl FieldSet {
    /// Makes every declared field that has something below it a member too.
    pub fn name_fields(&mut self, cursor: Cursor) {
        for entry in self.entries_mut() {
            if entry.children.is_empty() {
                continue;
            }
            let below = match &entry.element {
                Element::Field(name) => match cursor.member(name) {
                    Some((member, declared)) => {
                        entry.member |= declared;
                        member
                    }
                    None => continue,
                },
                Element::Key(_) => cursor.item(),
                _ => continue,
            };
            entry.children.name_fields(below);
        }
    }

    /// Owners of something inside what is atomic now own the whole.
    pub fn adjust_to_schema(&mut self, cursor: Cursor) {
        if cursor.is_free_form() {
            return;
        }
        let is_list = cursor.atom().list.is_some() && cursor.atom().map.is_none();
        for entry in self.entries_mut() {
            let below = match &entry.element {
                _ if is_list => cursor.item(),
                Element::Field(name) => match cursor.member(name) {
                    Some((member, _)) => member,
                    None => continue,
                },
                _ => continue,
            };
            if entry.children.is_empty() {
                continue;
            }
            let atom = below.atom();
            let atomic = match atom.resolved(Form::Open) {
                Form::Map => atom.map_is_atomic(),
                Form::List => matches!(atom.list_semantics(), List::Atomic),
                _ => continue,
            };
            if atomic {
                entry.member = true;
                entry.children = FieldSet::new();
            } else {
                entry.children.adjust_to_schema(below);
            }
        }
    }
}
