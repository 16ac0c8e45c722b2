//! OpenAPI v2 of one group-version: its paths, and the definitions and parameters these lead to.

use super::{Document, DocumentError, Known, Origin, bounded, is_below, prefix};
use fairlead_api::{GroupVersion, Map, Node, json};
use std::collections::BTreeSet;

const V2: &str = "v2";

/// A backend's whole document, parsed once for all its group-versions.
pub fn parse(bytes: &[u8]) -> Result<Node, DocumentError> {
    bounded(bytes, V2)?;
    let document = json::parse(bytes).map_err(|error| DocumentError::Invalid(V2, error.to_string()))?;
    if document.str("swagger") != "2.0" {
        return Err(DocumentError::Version(V2));
    }
    Ok(document)
}

/// What a document says of `gv`; `None` where that is nothing.
pub fn cut(document: &Node, gv: &GroupVersion) -> Option<Node> {
    let prefix = prefix(gv);
    let own: Map = entries(document, "paths")
        .filter(|(path, item)| is_below(path, &prefix) && matches!(item, Node::Map(_)))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    if own.is_empty() {
        return None;
    }
    let paths = Node::Map(own);
    let mut needed = Needed::default();
    needed.follow(&paths, document);
    let mut cut = Node::map();
    // Everything else (security, tags …) is for the merged document to say.
    cut.set("swagger", "2.0");
    cut.set("info", document.get("info").cloned().unwrap_or_else(Node::map));
    cut.set("paths", paths);
    cut.set("definitions", section(document, "definitions", &needed.definitions));
    if !needed.parameters.is_empty() {
        cut.set("parameters", section(document, "parameters", &needed.parameters));
    }
    Some(cut)
}

pub(super) fn known(node: &Node, origin: Origin) -> Known {
    Known {
        document: Document::new(json::to_vec(node).into()),
        origin,
    }
}

/// A cut document as bytes.
pub fn written(cut: &Node) -> Known {
    known(cut, Origin::Cut)
}

/// What paths lead to, each once.
#[derive(Default)]
struct Needed {
    definitions: BTreeSet<String>,
    parameters: BTreeSet<String>,
}

impl Needed {
    fn follow(&mut self, from: &Node, document: &Node) {
        let mut open: Vec<&Node> = vec![from];
        while let Some(node) = open.pop() {
            let mut found = Vec::new();
            references(node, &mut found);
            for reference in found {
                for (prefix, key, known) in [
                    ("#/definitions/", "definitions", &mut self.definitions),
                    ("#/parameters/", "parameters", &mut self.parameters),
                ] {
                    if let Some(name) = reference.strip_prefix(prefix)
                        && let Some(target) = document.get(key).and_then(|s| s.get(name))
                        && known.insert(name.to_owned())
                    {
                        open.push(target);
                    }
                }
            }
        }
    }
}

fn section(document: &Node, key: &str, names: &BTreeSet<String>) -> Node {
    let kept = entries(document, key).filter(|(name, _)| names.contains(name.as_str()));
    Node::Map(kept.map(|(name, node)| (name.clone(), node.clone())).collect())
}

pub(super) fn entries<'a>(node: &'a Node, key: &str) -> impl Iterator<Item = (&'a fairlead_api::Key, &'a Node)> {
    node.get(key).and_then(Node::as_map).into_iter().flat_map(Map::iter)
}

fn references<'a>(node: &'a Node, found: &mut Vec<&'a str>) {
    match node {
        Node::Map(map) => {
            for (key, value) in map.iter() {
                match value.as_str().filter(|_| key == "$ref") {
                    Some(reference) => found.push(reference),
                    None => references(value, found),
                }
            }
        }
        Node::List(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use fairlead_api::node;

    pub fn gv() -> GroupVersion {
        GroupVersion::new("g.example.com", "v1")
    }

    pub fn document() -> Node {
        json::parse(
            br##"{"swagger": "2.0", "info": {"title": "t", "version": "1"},
                "paths": {
                    "/apis/g.example.com/v1/things": {
                        "parameters": [{"name": "pretty", "in": "query", "type": "boolean"}, {"$ref": "#/parameters/limit-x"}],
                        "post": {"operationId": "p", "consumes": ["*/*"], "produces": ["application/yaml"],
                            "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}},
                            "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/A"}}]}},
                    "/apis/g.example.com/v10/things": {"get": {"responses": {}}},
                    "/apis/apps/v1/deployments": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/Evil"}}}}}},
                "parameters": {"limit-x": {"name": "limit", "in": "query", "type": "integer"}, "other": {"name": "o", "in": "query"}},
                "definitions": {
                    "A": {"type": "object", "properties": {"b": {"description": "the b", "$ref": "#/definitions/B"}}},
                    "B": {"type": "object", "properties": {"a": {"$ref": "#/definitions/A"}}},
                    "Evil": {"type": "object"}}}"##,
        )
        .unwrap()
    }

    #[test]
    fn other_groups_are_cut_away() {
        let cut = cut(&document(), &gv()).unwrap();
        let keys = |path: &str| {
            cut.get(path)
                .unwrap()
                .as_map()
                .unwrap()
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("paths"), ["/apis/g.example.com/v1/things"]);
        assert_eq!(keys("definitions"), ["A", "B"]);
        assert_eq!(keys("parameters"), ["limit-x"]);
        assert_eq!(super::cut(&document(), &GroupVersion::new("nope", "v1")), None);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        assert_eq!(parse(br#"{"openapi": "3.0.0"}"#), Err(DocumentError::Version("v2")));
        assert!(matches!(parse(b"<html>"), Err(DocumentError::Invalid(..))));
        let odd = node!({"swagger": "2.0", "paths": [], "definitions": 5});
        assert_eq!(cut(&parse(&json::to_vec(&odd)).unwrap(), &gv()), None);
        assert!(parse(&vec![b'['; 100_000]).is_err());
    }
}
