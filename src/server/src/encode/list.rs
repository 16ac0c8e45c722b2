//! Lists from cached bytes: nothing is parsed, and what is copied is copied once, into pieces worth a write.
// PERFORMANCE: per-request path

use super::grouped::{self, Plain};
use super::{GZIP_THRESHOLD, PIECE, mark_compressed};
use crate::body::{Body, Response};
use bytes::Bytes;
use fairlead_api::{Node, json};
use fairlead_resource::request::List;
use fairlead_resource::storage_codec::untyped;
use fairlead_storage::Cached;
use futures_util::StreamExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use std::sync::Arc;

/// `{"kind":…,"apiVersion":…,"metadata":…,"items":[…]}` and a line break.
pub fn stream(list: List, gzip: bool) -> Response {
    let pieces = Pieces::new(list);
    let length = pieces.length();
    let compressed = gzip && length > GZIP_THRESHOLD;
    let body = if compressed {
        grouped::stream(pieces.plain())
    } else if length <= PIECE {
        Body::full(pieces.whole(length))
    } else {
        Body::stream(
            Box::pin(futures_util::stream::iter(pieces).map(Ok)),
            Some(length as u64),
        )
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if compressed {
        mark_compressed(&mut response);
    }
    response
}

/// The same as one text, without the line break.
pub fn text(list: List) -> Bytes {
    let pieces = Pieces::new(list);
    let length = pieces.length();
    let mut text = pieces.whole(length);
    text.truncate(length - 1);
    text
}

/// The same as a tree, for encodings that need one.
pub fn to_node(list: List) -> Result<Node, json::SyntaxError> {
    let mut node = Node::map();
    node.set("kind", list.kind.as_str());
    node.set("apiVersion", list.api_version.as_str());
    node.set("metadata", list.metadata);
    let mut items = Vec::with_capacity(list.items.len());
    for item in &list.items {
        let mut item = json::parse(&item.json.text())?;
        if !list.typed_items {
            item.remove("kind");
            item.remove("apiVersion");
        }
        items.push(item);
    }
    node.set("items", items);
    Ok(node)
}

pub struct Pieces {
    head: Vec<u8>,
    items: std::vec::IntoIter<Arc<Cached>>,
    typed: bool,
    first: bool,
    ended: bool,
}

const TAIL: &[u8] = b"]}\n";

/// A piece ends with the object that makes it long enough; most objects fit in this.
const ROOM: usize = 8 * 1024;

impl Pieces {
    pub fn new(list: List) -> Pieces {
        let mut head = Vec::with_capacity(256);
        head.extend_from_slice(b"{\"kind\":");
        json::write_str(&list.kind, &mut head);
        head.extend_from_slice(b",\"apiVersion\":");
        json::write_str(&list.api_version, &mut head);
        head.extend_from_slice(b",\"metadata\":");
        json::write(&list.metadata, &mut head);
        head.extend_from_slice(b",\"items\":[");
        Pieces {
            head,
            items: list.items.into_iter(),
            typed: list.typed_items,
            first: true,
            ended: false,
        }
    }

    fn length(&self) -> usize {
        let items = self.items.as_slice();
        let objects: usize = items
            .iter()
            .map(|object| object.json.len() - start(object, self.typed) + usize::from(!self.typed))
            .sum();
        self.head.len() + objects + items.len().saturating_sub(1) + TAIL.len()
    }

    /// All of it as one piece.
    fn whole(mut self, length: usize) -> Bytes {
        let mut piece = Vec::with_capacity(length);
        self.fill(&mut piece, usize::MAX);
        piece.into()
    }

    fn fill(&mut self, piece: &mut Vec<u8>, until: usize) {
        piece.extend_from_slice(&std::mem::take(&mut self.head));
        while piece.len() < until {
            let Some(object) = self.items.next() else {
                piece.extend_from_slice(TAIL);
                self.ended = true;
                return;
            };
            if !std::mem::take(&mut self.first) {
                piece.push(b',');
            }
            if !self.typed {
                piece.push(b'{');
            }
            object.json.write(start(&object, self.typed), piece);
        }
    }

    fn plain(self) -> Plain<impl Fn(&Cached, &mut Vec<u8>) + Send + use<>> {
        let typed = self.typed;
        Plain {
            head: self.head,
            objects: self.items.collect(),
            write: move |object: &Cached, out: &mut Vec<u8>| {
                out.extend_from_slice(if typed { b"," } else { b",{" });
                object.json.write(start(object, typed), out);
            },
            separator: 1,
            tail: TAIL,
            form: 0,
        }
    }
}

/// From where an object is sent; of untyped ones not even their opening brace.
fn start(object: &Cached, typed: bool) -> usize {
    if typed { 0 } else { untyped(&object.json) }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE + ROOM);
        self.fill(&mut piece, PIECE);
        Some(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use fairlead_storage::{Forms, Header, Revision};
    use http_body_util::BodyExt;

    fn object(name: &str, padding: usize) -> Arc<Cached> {
        let pad = "x".repeat(padding);
        let json = format!(r#"{{"kind":"K","apiVersion":"v1","metadata":{{"name":"{name}"}},"p":"{pad}"}}"#);
        Arc::new(Cached {
            key: name.into(),
            revision: Revision(1),
            json: json.into(),
            header: Header::default(),
            forms: Forms::default(),
        })
    }

    fn list(items: Vec<Arc<Cached>>, typed_items: bool) -> List {
        List {
            api_version: "v1".into(),
            kind: "KList".into(),
            metadata: node!({"resourceVersion": "7"}),
            items,
            typed_items,
        }
    }

    async fn bytes(response: Response) -> (Option<u64>, Bytes) {
        let body = response.into_body();
        (body.len(), body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn items_are_joined() {
        let (length, bytes) = bytes(stream(list(vec![object("a", 1), object("b", 0)], false), false)).await;
        assert_eq!(
            bytes,
            r#"{"kind":"KList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"},"p":"x"},{"metadata":{"name":"b"},"p":""}]}"#
                .to_owned()
                + "\n"
        );
        assert_eq!(length, Some(bytes.len() as u64));
    }

    #[tokio::test]
    async fn long_lists_come_in_pieces_of_the_announced_length() {
        for typed in [true, false] {
            let items: Vec<_> = (0..300).map(|i| object(&format!("n{i}"), 1000)).collect();
            let (length, bytes) = bytes(stream(list(items, typed), false)).await;
            assert_eq!(length, Some(bytes.len() as u64));
            assert_eq!(json::parse(&bytes).unwrap().list("items").len(), 300);
        }
    }

    #[tokio::test]
    async fn an_empty_list_has_items() {
        let (_, bytes) = bytes(stream(list(vec![], false), false)).await;
        assert!(bytes.ends_with(b"\"items\":[]}\n"));
    }
}
