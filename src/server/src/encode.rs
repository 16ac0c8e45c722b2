//! From answers to bytes: objects, lists, errors, plain text.
// PERFORMANCE: per-request path

use crate::body::{Body, Response};
use crate::negotiate::{self, Agreed, Format, Offer};
use bytes::Bytes;
use fairlead_api::{Node, Status, json};
use fairlead_codec::protobuf::{self as codec, Protobuf};
use fairlead_codec::yaml_writer;
use fairlead_resource::ResourceDefinition;
use fairlead_resource::assembled::Assembled;
use fairlead_resource::request::List;
use fairlead_storage::Cached;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::sync::Arc;

mod assembled;
mod compress;
mod grouped;
mod list;
mod long;
mod pretty;
pub mod protobuf;

/// Answers longer than this are compressed where the client accepts it.
pub const GZIP_THRESHOLD: usize = 128 * 1024;

/// Lists and long answers are handed to the connection in pieces of about this size: a write a piece, not a write an object.
pub const PIECE: usize = 64 * 1024;

/// What the encoders need to know of a request.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub agreed: Agreed,
    pub gzip: bool,
    pub protobuf: &'a Protobuf,
}

impl Wanted<'_> {
    pub fn new<'a>(agreed: Agreed, headers: &HeaderMap, protobuf: &'a Protobuf) -> Wanted<'a> {
        Wanted {
            agreed,
            gzip: accepts_gzip(headers),
            protobuf,
        }
    }
}

/// Whether the client takes compressed answers. COMPAT: only by this word, without a quality.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepts = crate::request::header(headers, ACCEPT_ENCODING);
    accepts.split(',').any(|token| token.trim_matches(' ') == "gzip")
}

/// An object as it is cached: its bytes, and a line break.
pub fn cached(code: u16, object: &Arc<Cached>, definition: &ResourceDefinition, wanted: Wanted) -> Response {
    if wanted.agreed.format == Format::Protobuf {
        return protobuf::cached(code, object, definition, wanted);
    }
    if wanted.agreed.format == Format::Json && !wanted.agreed.pretty {
        let mut bytes = Vec::with_capacity(object.json.len() + 1);
        object.json.write(0, &mut bytes);
        bytes.push(b'\n');
        return whole(code, "application/json", bytes.into(), wanted.gzip);
    }
    match json::parse(&object.json.text()) {
        Ok(parsed) => node(code, &parsed, wanted),
        Err(error) => status_as_json(&Status::internal(error)),
    }
}

/// A made object.
pub fn node(code: u16, node: &Node, wanted: Wanted) -> Response {
    match encoded(node, wanted) {
        Some((media_type, bytes)) => whole(code, media_type, bytes, wanted.gzip),
        None => status_as_json(&negotiate::not_acceptable()),
    }
}

/// A list: its items' bytes with commas between.
pub fn list(list: List, definition: &ResourceDefinition, wanted: Wanted) -> Response {
    if wanted.agreed.format == Format::Protobuf {
        return protobuf::list(list, definition, wanted);
    }
    if wanted.agreed.format == Format::Json && !wanted.agreed.pretty {
        return list::stream(list, wanted.gzip);
    }
    if long::is_long(list.items.iter().map(|item| item.json.len()).sum()) {
        return long::list(list, wanted.agreed, wanted.gzip);
    }
    match list::to_node(list) {
        Ok(list) => node(200, &list, wanted),
        Err(error) => status_as_json(&Status::internal(error)),
    }
}

/// A list as one text, without a line break.
pub fn list_text(list: &List) -> Bytes {
    list::text(list.clone())
}

/// A Table or a list of metadata: its parts' bytes, put together.
pub fn assembled(assembled: Assembled, wanted: Wanted) -> Response {
    if wanted.agreed.format == Format::Json && !wanted.agreed.pretty {
        return assembled::stream(assembled, wanted.gzip);
    }
    if long::is_long(assembled.len()) && !assembled.items.is_empty() {
        let response = long::made(assembled, wanted.agreed, wanted.gzip);
        return response.unwrap_or_else(|error| status_as_json(&Status::internal(error)));
    }
    match assembled.to_node() {
        Ok(parsed) => node(200, &parsed, wanted),
        Err(error) => status_as_json(&Status::internal(error)),
    }
}

/// A failure, in the format the client accepts, or JSON where it accepts none.
pub fn status(status: &Status, headers: &HeaderMap, query: &[(String, String)]) -> Response {
    let Ok(agreed) = negotiate::agree(headers, query, Offer::Plain) else {
        return status_as_json(status);
    };
    let (media_type, bytes) = match agreed.format {
        Format::Protobuf => (agreed.format.media_type(), codec::status(&status.to_node()).into()),
        _ => text_of(&status.to_node(), agreed),
    };
    with_retry_after(status, whole(status.code(), media_type, bytes, false))
}

/// A failure for clients that accept nothing we have.
pub fn status_as_json(status: &Status) -> Response {
    let bytes = pretty::indent(&json::to_vec(&status.to_node()));
    with_retry_after(status, whole(status.code(), "application/json", bytes.into(), false))
}

/// The request's time is over. COMPAT: upstream's filter knows neither the client's media types nor, in what it writes, its
/// own kind; and since it names no media type, Go takes it for text.
pub fn timed_out() -> Response {
    const TEXT: &str = concat!(
        r#"{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within the allotted timeout","#,
        r#""reason":"Timeout","details":{},"code":504}"#,
        "\n"
    );
    whole(
        504,
        "text/plain; charset=utf-8",
        Bytes::from_static(TEXT.as_bytes()),
        false,
    )
}

/// JSON that is ready: documents. `parameters` follow the media type (`;g=…`).
pub fn document(json: &Bytes, parameters: &str, wanted: Wanted) -> Response {
    let bytes: Bytes = match wanted.agreed {
        Agreed {
            format: Format::Json,
            pretty: false,
            ..
        } => {
            let mut bytes = Vec::with_capacity(json.len() + 1);
            bytes.extend_from_slice(json);
            bytes.push(b'\n');
            bytes.into()
        }
        Agreed {
            format: Format::Json, ..
        } => pretty::indent(json).into(),
        _ => match json::parse(json).map(|parsed| encoded(&parsed, wanted)) {
            Ok(Some((_, bytes))) => bytes,
            Ok(None) => return status_as_json(&negotiate::not_acceptable()),
            Err(error) => return status_as_json(&Status::internal(error)),
        },
    };
    let mut response = whole(200, wanted.agreed.format.media_type(), bytes, wanted.gzip);
    if !parameters.is_empty()
        && let Ok(value) = HeaderValue::from_str(&format!("{}{parameters}", wanted.agreed.format.media_type()))
    {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// Plain text, as Go's `http.Error` sends it where it is a failure: with a line break.
pub fn text(code: u16, text: impl Into<Bytes>) -> Response {
    let mut response = whole(code, "text/plain; charset=utf-8", text.into(), false);
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The answer for paths that lead nowhere.
pub fn page_not_found() -> Response {
    text(404, "404 page not found\n")
}

/// Indented JSON as Go's `MarshalIndent` writes it, with one space (`/version`, `/`).
pub fn indented(bytes: &[u8]) -> Vec<u8> {
    pretty::indent_by(bytes, " ")
}

/// A whole body, compressed where that is wanted and worth it.
pub fn whole(code: u16, content_type: &'static str, bytes: Bytes, gzip: bool) -> Response {
    let compressed = gzip && bytes.len() > GZIP_THRESHOLD;
    let body = match compressed {
        true => compress::stream(futures_util::stream::iter([Ok(bytes)])),
        false => Body::full(bytes),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if compressed {
        mark_compressed(&mut response);
    }
    response
}

fn mark_compressed(response: &mut Response) {
    response
        .headers_mut()
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// Bytes of `node` in the agreed format; `None` where it has no such form.
fn encoded(node: &Node, wanted: Wanted) -> Option<(&'static str, Bytes)> {
    match wanted.agreed.format {
        Format::Protobuf => Some((Format::Protobuf.media_type(), wanted.protobuf.document(node)?.into())),
        _ => Some(text_of(node, wanted.agreed)),
    }
}

/// Bytes of `node` as YAML, or else as JSON.
fn text_of(node: &Node, agreed: Agreed) -> (&'static str, Bytes) {
    let bytes = match agreed.format {
        Format::Yaml => yaml_writer::write(node),
        _ if agreed.pretty => pretty::indent(&json::to_vec(node)),
        _ => {
            let mut bytes = json::to_vec(node);
            bytes.push(b'\n');
            bytes
        }
    };
    (agreed.format.media_type(), bytes.into())
}

fn with_retry_after(status: &Status, mut response: Response) -> Response {
    if let Some(seconds) = status.details().and_then(|d| d.retry_after_seconds).filter(|s| *s > 0) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
