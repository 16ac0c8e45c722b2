//! `/openapi/v2` and `/openapi/v3`: documents by hash, so that clients and caches keep them.

use crate::body::{Body, Response};
use crate::encode;
use crate::negotiate;
use crate::request::{Known, header};
use crate::router::Shared;
use bytes::Bytes;
use fairlead_api::{Node, json};
use fairlead_codec::gnostic;
use fairlead_discovery::{Document, RoutingSnapshot};
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderValue, StatusCode};

/// Answers a path below `/openapi/`; `None` where there is no such document.
pub fn serve(shared: &Shared, snapshot: &RoutingSnapshot, known: &Known) -> Option<Response> {
    let components = &*shared.services.components;
    match known.info.path.strip_prefix("/openapi/")? {
        "v2" => Some(v2(snapshot.openapi_v2(components), known)),
        "v3" | "v3/" => {
            let index = snapshot.openapi_v3_index(components);
            // COMPAT: upstream leaves the media type to be guessed, and gives no tag.
            let index = Document::new(index.json.clone(), None);
            Some(document(&index, "text/plain; charset=utf-8", known))
        }
        path => {
            let found = snapshot.openapi_v3(path.strip_prefix("v3/")?, components);
            Some(found.map_or_else(missing, |document| v3(&document, known)))
        }
    }
}

fn v2(found: &Document, known: &Known) -> Response {
    const PROTOBUF: Protobuf = Protobuf {
        subtypes: [
            "com.github.proto-openapi.spec.v2.v1.0+protobuf",
            "com.github.proto-openapi.spec.v2@v1.0+protobuf",
        ],
        media_type: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        encode: gnostic::openapi_v2,
    };
    let Some(mut response) = negotiated(found, PROTOBUF, known) else {
        return not_acceptable();
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    response
}

fn v3(found: &Document, known: &Known) -> Response {
    const PROTOBUF: Protobuf = Protobuf {
        subtypes: [
            "com.github.proto-openapi.spec.v3.v1.0+protobuf",
            "com.github.proto-openapi.spec.v3@v1.0+protobuf",
        ],
        media_type: "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
        encode: gnostic::openapi_v3,
    };
    let hash = known.query("hash").filter(|h| !h.is_empty());
    let current = found.etag.as_deref().unwrap_or_default().trim_matches('"');
    if let Some(hash) = hash.filter(|h| *h != current) {
        tracing::debug!(hash, current, "an OpenAPI document was asked for by an old hash");
        return match accepted(PROTOBUF, known) {
            Some(_) => moved(found, known, current),
            None => not_acceptable(),
        };
    }
    let Some(mut response) = negotiated(found, PROTOBUF, known) else {
        return not_acceptable();
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    if hash.is_some() {
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

/// The protobuf form of a document.
#[derive(Clone, Copy)]
struct Protobuf {
    /// COMPAT: clients of some age ask by the second name.
    subtypes: [&'static str; 2],
    media_type: &'static str,
    encode: fn(&Node) -> Vec<u8>,
}

enum Accepted {
    Json,
    Protobuf,
}

/// The first accepted form.
fn accepted(protobuf: Protobuf, known: &Known) -> Option<Accepted> {
    let accept = header(&known.parts.headers, ACCEPT);
    if accept.is_empty() {
        return Some(Accepted::Json);
    }
    negotiate::clauses(accept)
        .iter()
        .find_map(|clause| match (clause.kind, clause.subtype) {
            ("application" | "*", "json" | "*") => Some(Accepted::Json),
            ("application" | "*", subtype) if protobuf.subtypes.contains(&subtype) => Some(Accepted::Protobuf),
            _ => None,
        })
}

/// A document in the first accepted form; `None` where it has none of them.
fn negotiated(found: &Document, protobuf: Protobuf, known: &Known) -> Option<Response> {
    match accepted(protobuf, known)? {
        Accepted::Json => Some(document(found, "application/json", known)),
        Accepted::Protobuf => {
            let made = found.protobuf.get_or_init(|| match json::parse(&found.json) {
                Ok(node) => (protobuf.encode)(&node).into(),
                // Of a backend's document that is none nothing can be made.
                Err(_) => Bytes::new(),
            });
            Some(send(made, found.etag.as_deref(), protobuf.media_type, known))
        }
    }
}

fn document(found: &Document, content_type: &'static str, known: &Known) -> Response {
    send(&found.json, found.etag.as_deref(), content_type, known)
}

/// COMPAT: all forms of a document have one tag.
fn send(bytes: &Bytes, tag: Option<&str>, content_type: &'static str, known: &Known) -> Response {
    let etag = tag.and_then(|e| HeaderValue::from_str(e).ok());
    let asked = header(&known.parts.headers, IF_NONE_MATCH);
    let unchanged = tag.is_some_and(|e| asked.split(',').any(|a| a.trim() == e || a.trim() == "*"));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let gzip = encode::accepts_gzip(&known.parts.headers);
        encode::whole(200, content_type, bytes.clone(), gzip)
    };
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

/// COMPAT: the media type of the document, and no body.
fn moved(found: &Document, known: &Known, hash: &str) -> Response {
    let mut response = document(found, "application/json", known);
    *response.body_mut() = Body::empty();
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{}?hash={hash}", known.parts.uri.path())) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// COMPAT: no body.
fn missing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// COMPAT: no body.
fn not_acceptable() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
}
