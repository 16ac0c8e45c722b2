//! Answers in protobuf: documents of messages that objects keep once they have been made.
// PERFORMANCE: per-request path

use super::grouped::{self, Plain};
use super::{GZIP_THRESHOLD, PIECE, Wanted, mark_compressed, status_as_json, whole};
use crate::body::{Body, BoxError, Response};
use crate::negotiate::{self, Format};
use bytes::Bytes;
use fairlead_api::{Status, StatusResult, json};
use fairlead_codec::protobuf::{Protobuf, envelope};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::request::{List, Response as Outcome};
use fairlead_schema::TypeId;
use fairlead_storage::Cached;
use futures_util::StreamExt;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use std::sync::Arc;

/// The message of an object of a type, made once.
///
/// # Errors
/// Internal, where what is cached is not JSON.
pub fn message(object: &Cached, id: TypeId, protobuf: &Protobuf) -> Result<Bytes, Status> {
    if let Some(made) = object.forms.protobuf() {
        return Ok(made.clone());
    }
    let node = json::parse(&object.json.text()).map_err(Status::internal)?;
    let mut bytes = protobuf.encode(&node, id);
    bytes.shrink_to_fit();
    Ok(object.forms.keep_protobuf(bytes.into()))
}

/// An object of a resource.
pub fn cached(code: u16, object: &Cached, definition: &ResourceDefinition, wanted: Wanted) -> Response {
    match message(object, definition.schema.root, wanted.protobuf) {
        Ok(message) => {
            let api_version = definition.group_version().to_string();
            let document = envelope::seal(&api_version, &definition.kind, &message);
            whole(code, Format::Protobuf.media_type(), document.into(), wanted.gzip)
        }
        Err(status) => status_as_json(&status),
    }
}

/// Makes the messages of a list, with pauses for others to run: the first list of many objects takes a while.
pub async fn prepare(items: Vec<Arc<Cached>>, definition: &ResourceDefinition, protobuf: &Protobuf) {
    for objects in items.chunks(64) {
        for object in objects {
            // What fails now fails again when the list is written.
            _ = message(object, definition.schema.root, protobuf);
        }
        tokio::task::yield_now().await;
    }
}

/// The objects of an answer whose messages have to be made.
pub fn unmade(outcome: &StatusResult<Outcome>) -> Vec<Arc<Cached>> {
    let Ok(Outcome::List(list)) = outcome else {
        return Vec::new();
    };
    let unmade = |object: &&Arc<Cached>| object.forms.protobuf().is_none();
    list.items.iter().filter(unmade).cloned().collect()
}

/// A list of objects of a resource.
pub fn list(list: List, definition: &ResourceDefinition, wanted: Wanted) -> Response {
    let pieces = match Pieces::new(&list, definition, wanted.protobuf) {
        Ok(pieces) => pieces,
        Err(status) => return status_as_json(&status),
    };
    let compressed = wanted.gzip && pieces.length > GZIP_THRESHOLD;
    let body = match compressed {
        true => grouped::stream(Plain {
            head: pieces.head,
            objects: list.items,
            write: |object: &Cached, out: &mut Vec<u8>| {
                let message = object.forms.protobuf().map_or(&[][..], |message| &message[..]);
                out.extend_from_slice(&envelope::item_head(message.len()));
                out.extend_from_slice(message);
            },
            separator: 0,
            tail: pieces.tail,
            form: 1,
        }),
        false => {
            let length = pieces.length as u64;
            let pieces = futures_util::stream::iter(pieces).map(Ok::<_, BoxError>);
            Body::stream(Box::pin(pieces), Some(length))
        }
    };
    let mut response = Response::new(body);
    let media_type = HeaderValue::from_static(Format::Protobuf.media_type());
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    if compressed {
        mark_compressed(&mut response);
    }
    response
}

/// A list's document in pieces worth a write.
struct Pieces {
    head: Vec<u8>,
    items: std::vec::IntoIter<Bytes>,
    tail: &'static [u8],
    length: usize,
}

impl Pieces {
    fn new(list: &List, definition: &ResourceDefinition, protobuf: &Protobuf) -> Result<Pieces, Status> {
        let made = |item: &Arc<Cached>| message(item, definition.schema.root, protobuf);
        let items: Vec<Bytes> = list.items.iter().map(made).collect::<Result<_, _>>()?;
        let kind = protobuf.message_of(&list.api_version, &list.kind);
        let metadata = match kind.and_then(|id| protobuf.field(id, "metadata")) {
            Some(id) => protobuf.encode(&list.metadata, id),
            None => return Err(negotiate::not_acceptable()),
        };
        let whole = envelope::List::new(&list.api_version, &list.kind, &metadata, items.iter().map(Bytes::len));
        let items_length: usize = items
            .iter()
            .map(|item| envelope::item_head(item.len()).len() + item.len())
            .sum();
        Ok(Pieces {
            length: whole.head.len() + items_length + whole.tail.len(),
            head: whole.head,
            items: items.into_iter(),
            tail: whole.tail,
        })
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.tail.is_empty() {
            return None;
        }
        let mut piece = std::mem::take(&mut self.head);
        piece.reserve(PIECE.min(self.length));
        while piece.len() < PIECE {
            let Some(item) = self.items.next() else {
                piece.extend_from_slice(std::mem::take(&mut self.tail));
                break;
            };
            piece.extend_from_slice(&envelope::item_head(item.len()));
            piece.extend_from_slice(&item);
        }
        Some(piece.into())
    }
}
