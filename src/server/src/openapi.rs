//! `/openapi/v2` and `/openapi/v3`: documents by hash, so that clients and caches keep them.

use crate::body::{Body, Response};
use crate::encode;
use crate::negotiate;
use crate::request::{Known, header};
use crate::router::Shared;
use fairlead_codec::gnostic;
use fairlead_discovery::{Document, RoutingSnapshot};
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderValue, StatusCode};

/// Answers a path below `/openapi/`; `None` where there is no such document.
pub fn serve(shared: &Shared, snapshot: &RoutingSnapshot, known: &Known) -> Option<Response> {
    let components = &*shared.services.components;
    match known.info.path.strip_prefix("/openapi/")? {
        "v2" => Some(match form(known) {
            Some(Form::Json) => v2(snapshot.openapi_v2(components), "application/json", known),
            Some(Form::Protobuf) => {
                v2(snapshot.openapi_v2_encoded(components, gnostic::encode), gnostic::MEDIA_TYPE, known)
            }
            None => not_acceptable(),
        }),
        "v3" | "v3/" => {
            let index = snapshot.openapi_v3_index(components);
            // COMPAT: upstream leaves the media type to be guessed, and gives no tag.
            let index = Document { json: index.json.clone(), etag: None };
            Some(document(&index, "text/plain; charset=utf-8", known))
        }
        path => {
            let found = snapshot.openapi_v3(path.strip_prefix("v3/")?, components);
            Some(found.map_or_else(missing, |document| v3(&document, known)))
        }
    }
}

/// The forms of the v2 document.
enum Form {
    Json,
    Protobuf,
}

/// The form the client likes best; `None` where it likes none.
fn form(known: &Known) -> Option<Form> {
    let accept = header(&known.parts.headers, ACCEPT);
    if accept.is_empty() {
        return Some(Form::Json);
    }
    negotiate::clauses(accept).iter().find_map(|c| match (c.kind, c.subtype) {
        ("*", "*") | ("application", "*" | "json") => Some(Form::Json),
        // COMPAT: client-go spells it with an `@`.
        ("application", "com.github.proto-openapi.spec.v2.v1.0+protobuf" | "com.github.proto-openapi.spec.v2@v1.0+protobuf") => {
            Some(Form::Protobuf)
        }
        _ => None,
    })
}

fn v2(found: &Document, media_type: &'static str, known: &Known) -> Response {
    let mut response = document(found, media_type, known);
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    response
}

fn v3(found: &Document, known: &Known) -> Response {
    if !accepts_json(known) {
        return not_acceptable();
    }
    let hash = known.query("hash").filter(|h| !h.is_empty());
    let current = found.etag.as_deref().unwrap_or_default().trim_matches('"');
    if let Some(hash) = hash.filter(|h| *h != current) {
        tracing::debug!(hash, current, "an OpenAPI document was asked for by an old hash");
        return moved(found, known, current);
    }
    let mut response = document(found, "application/json", known);
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    if hash.is_some() {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

fn document(found: &Document, content_type: &'static str, known: &Known) -> Response {
    let etag = found.etag.as_deref().and_then(|e| HeaderValue::from_str(e).ok());
    let asked = header(&known.parts.headers, IF_NONE_MATCH);
    let unchanged = found.etag.as_deref().is_some_and(|e| asked.split(',').any(|a| a.trim() == e || a.trim() == "*"));
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let gzip = encode::accepts_gzip(&known.parts.headers);
        encode::whole(200, content_type, found.json.clone(), gzip)
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

fn accepts_json(known: &Known) -> bool {
    let accept = header(&known.parts.headers, ACCEPT);
    let json = |kind: &str, subtype: &str| {
        matches!((kind, subtype), ("*", "*") | ("application", "*") | ("application", "json"))
    };
    accept.is_empty() || negotiate::clauses(accept).iter().any(|c| json(c.kind, c.subtype))
}

/// COMPAT: no body.
fn not_acceptable() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
}
