//! What OpenAPI shows about the built-in types: their words, kinds and unions.

use crate::Builtins;
use fairlead_api::{GroupVersionKind, Node};
use fairlead_schema::TypeNotes;

impl TypeNotes for Builtins {
    fn words(&self, name: &str, field: &str) -> Option<&str> {
        match fairlead_words::word(name, field) {
            // The typed bindings have no such type.
            None if field == "object" && name.ends_with("WatchEvent") => Some("The object the event is about."),
            words => words,
        }
    }

    fn kinds(&self, name: &str) -> Vec<GroupVersionKind> {
        self.gvk(name).cloned().into_iter().collect()
    }

    fn unions(&self, name: &str) -> Option<Node> {
        let union = self.union(name)?;
        let mut members = Node::map();
        for (field, value) in &union.members {
            members.set(field, value.clone());
        }
        let mut out = Node::map();
        if !union.discriminator.is_empty() {
            out.set("discriminator", union.discriminator.clone());
        }
        out.set("fields-to-discriminateBy", members);
        Some(Node::List(vec![out]))
    }

    fn granular(&self, name: &str, field: &str) -> bool {
        self.granular(name, field)
    }
}
