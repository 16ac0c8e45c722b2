//! What is recorded of requests for local resources: their bodies, and what is answered.
// PERFORMANCE: per-request path

use crate::encode;
use bytes::Bytes;
use fairlead_api::{Node, json};
use fairlead_audit::{Recorded, Trail};
use fairlead_codec::yaml;
use fairlead_resource::{Body, Recording, Response, Verb};

/// What the engine keeps of a body.
pub fn recording(trail: Option<&Trail>) -> Recording {
    match trail {
        None => Recording::Nothing,
        Some(trail) if trail.wants_request() => Recording::Object,
        Some(_) => Recording::Metadata,
    }
}

/// A patch is recorded as it came.
pub fn patched(trail: &Trail, verb: Verb, body: &Body) {
    if verb != Verb::Patch || !trail.wants_request() {
        return;
    }
    match body.media_type.as_str() {
        "application/apply-patch+yaml" => {
            if let Ok(patch) = yaml::parse(&body.bytes) {
                trail.request_text(&json::to_vec(&patch));
            }
        }
        _ => trail.request_text(&body.bytes),
    }
}

/// What the engine has kept of a body.
pub fn recorded(trail: &Trail, object: Node) {
    let of = |key: &str| object.str_at(&["metadata", key]).into();
    trail.recorded(Recorded {
        namespace: of("namespace"),
        name: of("name"),
        uid: of("uid"),
        resource_version: of("resourceVersion"),
    });
    trail.request(object);
}

/// What is answered.
pub fn answered(trail: &Trail, response: &Response) {
    match response {
        Response::Node { node, .. } if node.str("kind") == "Status" => trail.answered(node),
        Response::Warned { response, .. } => answered(trail, response),
        // What a watch sends is not recorded.
        Response::Watch(_) => {}
        _ if !trail.wants_response() => {}
        Response::Node { node, .. } => trail.response(node.clone()),
        Response::Cached { object, .. } => text(trail, object.json.text().into_owned().into()),
        Response::List(list) => text(trail, encode::list_text(list)),
        Response::Assembled(assembled) => text(trail, assembled.to_vec().into()),
    }
}

/// A document is answered.
pub fn document(trail: Option<&Trail>, json: &Bytes) {
    if let Some(trail) = trail {
        trail.response_text(json.clone());
    }
}

fn text(trail: &Trail, object: Bytes) {
    if !trail.omits_managed_fields() {
        trail.response_text(object);
    } else if let Ok(object) = json::parse(&object) {
        trail.response(object);
    }
}
