//! Answers in protobuf: documents of messages that objects keep once they have been made.
// PERFORMANCE: per-request path

use super::{GZIP_THRESHOLD, PIECE, Wanted, compress, mark_compressed, status_as_json, whole};
use crate::body::{Body, BoxError, Response};
use crate::negotiate::{self, Format};
use bytes::Bytes;
use fairlead_api::{Status, json};
use fairlead_codec::protobuf::{Protobuf, envelope};
use fairlead_resource::ResourceDefinition;
use fairlead_resource::request::List;
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
    if let Some(made) = object.forms.protobuf.get() {
        return Ok(made.clone());
    }
    let node = json::parse(&object.json).map_err(Status::internal)?;
    let mut bytes = protobuf.encode(&node, id);
    bytes.shrink_to_fit();
    Ok(object.forms.protobuf.get_or_init(|| bytes.into()).clone())
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

/// A list of objects of a resource.
pub fn list(list: List, definition: &ResourceDefinition, wanted: Wanted) -> Response {
    match Pieces::new(&list, definition, wanted.protobuf) {
        Ok(pieces) => send(pieces, wanted.gzip),
        Err(status) => status_as_json(&status),
    }
}

fn send(pieces: Pieces, gzip: bool) -> Response {
    let length = pieces.length;
    let compressed = gzip && length > GZIP_THRESHOLD;
    let pieces = futures_util::stream::iter(pieces).map(Ok::<_, BoxError>);
    let body = match compressed {
        true => compress::stream(pieces),
        false => Body::stream(Box::pin(pieces), Some(length as u64)),
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
