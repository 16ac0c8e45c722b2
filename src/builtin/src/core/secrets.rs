//! Secrets.

use crate::cells::Row;
use crate::validation::configuration;
use crate::validation::warnings;
use crate::value::{copy, map, or};
use base64::Engine as _;
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct Secrets;

impl Hooks for Secrets {
    fn default(&self, object: &mut Node) {
        or(object, "type", "Opaque");
        // Written only: text that is stored as data.
        if let Some(Node::Map(texts)) = object.remove("stringData")
            && !texts.is_empty()
        {
            let data = object.make_at(&["data"]).make_map();
            for (key, text) in texts {
                let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or(""));
                data.insert(key, Node::from(encoded));
            }
        }
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        if object.str("type").is_empty() {
            copy(object, old, &["type"]);
        }
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::secret(object)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        configuration::secret(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        configuration::secret(object, Some(old), errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let entries = map(object, &["data"]).map_or(0, Map::len);
        Row::named(object, now_seconds)
            .text(&["type"])
            .cell(entries as i64)
            .age()
            .done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn text_becomes_data() {
        let mut secret = node!({"data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}});
        Secrets.default(&mut secret);
        assert_eq!(secret, node!({"data": {"a": "eQ==", "b": "eg=="}, "type": "Opaque"}));
    }
}
