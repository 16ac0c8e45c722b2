//! [`Assembled`]: a list of made items whose parts are bytes that exist already: rows of a Table, metadata of objects.
// PERFORMANCE: per-request path

use bytes::Bytes;
use fairlead_api::{Node, json};

/// A JSON document with one list in it, as its pieces.
#[derive(Clone, Debug, Default)]
pub struct Assembled {
    /// Up to and with the list's opening bracket.
    pub head: Vec<u8>,
    /// What stands before, between and behind the two parts of an item.
    pub around: [String; 3],
    pub items: Vec<[Bytes; 2]>,
    /// From the closing bracket on.
    pub tail: &'static str,
}

impl Assembled {
    /// `{"kind":…,"apiVersion":…,"metadata":…,` and whatever else comes before the items.
    pub fn open(kind: &str, api_version: &str, metadata: &Node, before: &[(&str, &Node)], list: &str) -> Vec<u8> {
        let mut head = Vec::with_capacity(512);
        head.extend_from_slice(b"{\"kind\":");
        json::write_str(kind, &mut head);
        head.extend_from_slice(b",\"apiVersion\":");
        json::write_str(api_version, &mut head);
        for (name, node) in [("metadata", metadata)].iter().chain(before) {
            head.push(b',');
            json::write_str(name, &mut head);
            head.push(b':');
            json::write(node, &mut head);
        }
        head.push(b',');
        json::write_str(list, &mut head);
        head.extend_from_slice(b":[");
        head
    }

    /// The length of the document.
    pub fn len(&self) -> usize {
        let around: usize = self.around.iter().map(String::len).sum();
        let parts: usize = self.items.iter().flatten().map(Bytes::len).sum();
        let commas = self.items.len().saturating_sub(1);
        self.head.len() + parts + around * self.items.len() + commas + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Writes the item at `at`, behind its comma.
    pub fn write_item(&self, at: usize, out: &mut Vec<u8>) {
        let [first, second] = &self.items[at];
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(self.around[0].as_bytes());
        out.extend_from_slice(first);
        out.extend_from_slice(self.around[1].as_bytes());
        out.extend_from_slice(second);
        out.extend_from_slice(self.around[2].as_bytes());
    }

    /// The document in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() + 1);
        out.extend_from_slice(&self.head);
        for at in 0..self.items.len() {
            self.write_item(at, &mut out);
        }
        out.extend_from_slice(self.tail.as_bytes());
        out
    }

    /// The document as a tree, for encodings that need one.
    ///
    /// # Errors
    /// A part is not JSON.
    pub fn to_node(&self) -> Result<Node, json::SyntaxError> {
        json::parse(&self.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn is_the_document_it_stands_for() {
        let mut assembled = Assembled {
            head: Assembled::open("T", "v1", &node!({"a": "1"}), &[("b", &node!([]))], "rows"),
            around: ["{\"x\":".into(), ",\"y\":".into(), "}".into()],
            items: Vec::new(),
            tail: "]}",
        };
        assert_eq!(assembled.len(), assembled.to_vec().len());
        for (first, second) in [("1", "2"), ("[3]", "null")] {
            assembled.items.push([first.into(), second.into()]);
        }
        assert_eq!(assembled.len(), assembled.to_vec().len());
        let expected = node!({
            "kind": "T", "apiVersion": "v1", "metadata": {"a": "1"}, "b": [],
            "rows": [{"x": 1, "y": 2}, {"x": [3], "y": null}]
        });
        assert_eq!(assembled.to_node(), Ok(expected));
    }
}
