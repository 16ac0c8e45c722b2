//! Requests for local resources: from HTTP to the engine and back.
// PERFORMANCE: per-request path

use crate::audit;
use crate::body::{ReadError, Response};
use crate::encode::{self, Wanted};
use crate::filters::warnings::Warnings;
use crate::measured::Measured;
use crate::negotiate::{self, Format, Offer, Route, Tables};
use crate::request::{Identified, Known};
use crate::request_info::RequestInfo;
use crate::router::{Shared, failure};
use crate::watch::{self, Events, Form, Watching};
use crate::websocket;
use fairlead_api::{Status, StatusResult};
use fairlead_resource::{Answer, Request, ResourceDefinition, Response as Outcome, Scope, Verb};
use http::Method;
use http::header::{CONTENT_TYPE, USER_AGENT};
use std::sync::Arc;
use std::time::Duration;

/// Answers a request for a resource that is served here.
pub async fn serve(shared: Arc<Shared>, request: Identified, definition: Arc<ResourceDefinition>) -> Response {
    let measured = Measured::resource(&shared.metrics, &request.known, &definition);
    let info = &request.known.info;
    let connects = !info.verb_in_path && shared.services.remote.connects(&definition, &info.subresource);
    let handled = match connects {
        true => connect(&shared, request, definition).await,
        false => handle(&shared, request, definition).await,
    };
    let mut response = match handled {
        Ok(response) | Err(response) => response,
    };
    measured.finish_with(&mut response);
    response
}

/// Passes a request on to somebody in the cluster, if the path has the method.
async fn connect(
    shared: &Arc<Shared>,
    request: Identified,
    definition: Arc<ResourceDefinition>,
) -> Result<Response, Response> {
    let known = &request.known;
    let verbs = verbs_of_path(&known.info, &definition).map_err(|status| failure(&status, known))?;
    // COMPAT: a path has more methods than its verbs tell.
    let methods: &[Method] = match (verbs.contains(&Verb::Delete), verbs.contains(&Verb::Create)) {
        (true, _) => &EVERY_METHOD,
        (_, true) => &[Method::GET, Method::POST],
        _ => &[Method::GET],
    };
    if !methods.contains(&known.parts.method) {
        return Err(failure(&Status::method_not_allowed(), known));
    }
    Ok(shared.services.remote.connect(request, definition).await)
}

const EVERY_METHOD: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
];

async fn handle(
    shared: &Arc<Shared>,
    request: Identified,
    definition: Arc<ResourceDefinition>,
) -> Result<Response, Response> {
    let Identified { mut known, user, .. } = request;
    let verb = verb(&known, &definition).map_err(|status| failure(&status, &known))?;
    if definition.is_custom() || !known.info.verb_in_path {
        let route = match verb {
            Verb::List | Verb::Watch => Route::Collection,
            _ => Route::Object,
        };
        if !definition.is_custom() {
            crate::router::producible(route, &known)?;
        }
    }
    let answered = verb == Verb::Create && definition.hooks.answers(&known.info.subresource).is_some();
    let offer = Offer::Resource {
        protobuf: !definition.is_custom(),
        tables: match definition.prints(&known.info.subresource) {
            true if !answered => Tables::Shown,
            _ => Tables::None,
        },
    };
    let agreed = negotiate::agree(&known.parts.headers, &known.query, offer).map_err(|s| failure(&s, &known))?;
    let trail = known.trail.clone();
    if let Some(trail) = trail.as_deref().filter(|_| definition.warning.is_some()) {
        trail.annotate("k8s.io/deprecated", "true");
    }
    if verb == Verb::Watch && agreed.format == Format::Yaml {
        return Err(failure(&negotiate::no_such_stream(), &known));
    }
    let media_type = media_type(verb, &known, &definition).map_err(|status| failure(&status, &known))?;
    let payload = std::mem::take(&mut known.payload);
    let bytes = match verb {
        Verb::Get | Verb::List | Verb::Watch => bytes::Bytes::new(),
        _ => match payload.read(shared.settings.max_body_bytes).await {
            Ok(bytes) => bytes,
            Err(error @ ReadError::TooLarge(_)) => {
                return Err(failure(
                    &Status::too_large(format!("Request entity too large: {error}")),
                    &known,
                ));
            }
            Err(error @ ReadError::Broken(_)) => return Err(failure(&Status::bad_request(error.to_string()), &known)),
        },
    };
    if !bytes.is_empty() {
        let labels = [known.info.group.as_str(), known.info.resource.as_str(), verb.as_str()];
        shared.metrics.body_sizes.with(&labels).observe(bytes.len() as f64);
    }
    let media_type = match media_type {
        MediaType::Given(media_type) => media_type,
        MediaType::IfAny(result) if bytes.is_empty() => result.unwrap_or_default(),
        MediaType::IfAny(result) => result.map_err(|status| failure(&status, &known))?,
    };
    let wanted = Wanted::new(agreed, &known.parts.headers, &shared.services.protobuf);
    let namespaced = definition.namespaced();
    if known.info.verb_in_path && !known.info.name.is_empty() {
        // A watch of one object by path is a watch with a field selector.
        known
            .query
            .push(("fieldSelector".into(), format!("metadata.name={}", known.info.name)));
    }
    let collection = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
    let request = Request {
        verb,
        namespace: if namespaced {
            known.info.namespace.clone()
        } else {
            Default::default()
        },
        name: if collection {
            Default::default()
        } else {
            known.info.name.clone()
        },
        subresource: known.info.subresource.clone(),
        subpath: known.info.rest.clone().unwrap_or_default(),
        query: known.query.clone(),
        body: fairlead_resource::Body {
            bytes,
            media_type: media_type.to_owned(),
        },
        view: agreed.view,
        user,
        user_agent: known.header(USER_AGENT).split('/').next().unwrap_or("").to_owned(),
        deadline: known.deadline.map(tokio::time::Instant::into_std),
        internal: false,
        recording: audit::recording(trail.as_deref()),
        definition: definition.clone(),
    };
    if let Some(trail) = &trail {
        audit::patched(trail, verb, &request.body);
    }
    let Answer {
        result,
        mut warnings,
        audit: annotations,
        recorded,
    } = shared.services.engine.handle(request).await;
    if let Some(trail) = &trail {
        if let Some(object) = recorded {
            audit::recorded(trail, object);
        }
        annotations
            .into_iter()
            .for_each(|(key, value)| trail.annotate(key, value));
        if let Ok(outcome) = &result {
            audit::answered(trail, outcome);
        }
    }
    if wanted.agreed.format == Format::Protobuf {
        let unmade = encode::protobuf::unmade(&result);
        encode::protobuf::prepare(unmade, &definition, wanted.protobuf).await;
    }
    let mut response = match result {
        Ok(outcome) => respond(shared, &definition, outcome, &mut known, wanted),
        Err(status) => failure(&status, &known),
    };
    if let Some(warning) = &definition.warning {
        warnings.insert(0, warning.clone());
    }
    if !warnings.is_empty() {
        response.extensions_mut().insert(Warnings(warnings));
    }
    Ok(response)
}

fn respond(
    shared: &Arc<Shared>,
    definition: &Arc<ResourceDefinition>,
    outcome: Outcome,
    known: &mut Known,
    wanted: Wanted,
) -> Response {
    match outcome {
        Outcome::Cached { code, object } => encode::cached(code, &object, definition, wanted),
        Outcome::Node { code, node } => encode::node(code, &node, wanted),
        Outcome::List(list) => encode::list(list, definition, wanted),
        Outcome::Assembled(assembled) => encode::assembled(assembled, wanted),
        Outcome::Watch(stream) => {
            let form = match wanted.agreed.format {
                Format::Protobuf => Form::Protobuf {
                    protobuf: shared.services.protobuf.clone(),
                    definition: definition.clone(),
                },
                _ => Form::Json,
            };
            let watching = Watching {
                drain: shared.services.drain.clone(),
                timeout: Some(watch_timeout(shared, known)),
                events: Events::of(&shared.metrics, &known.info),
            };
            match websocket::is_wanted(&known.parts.headers) {
                true => websocket::serve(stream, form, watching, &mut known.parts),
                false => watch::frames(stream, form, watching),
            }
        }
        Outcome::Warned { response, warnings } => {
            let mut response = respond(shared, definition, *response, known, wanted);
            response.extensions_mut().insert(Warnings(warnings));
            response
        }
    }
}

/// What the client asked for, or once to twice the server's minimum: watches that began together end apart.
fn watch_timeout(shared: &Shared, known: &Known) -> Duration {
    if let Some(seconds) = known
        .query("timeoutSeconds")
        .and_then(|s| s.parse::<u64>().ok())
        .filter(|s| *s > 0)
    {
        return Duration::from_secs(seconds.min(1 << 32));
    }
    let minimum = shared.settings.min_request_timeout;
    let fraction = (shared.services.entropy.bits() >> 11) as f64 / (1u64 << 53) as f64;
    minimum.mul_f64(1.0 + fraction)
}

/// What a request does with a resource; the path and method it has decide, before any media type is looked at.
///
/// # Errors
/// 404 where the resource has no such path, 405 where the path has no such method.
fn verb(known: &Known, definition: &ResourceDefinition) -> StatusResult<Verb> {
    let info = &known.info;
    let verbs = verbs_of_path(info, definition)?;
    let method = &known.parts.method;
    let verb = match info.verb.as_str() {
        "get" if *method == Method::GET || definition.is_custom() => Some(Verb::Get),
        "list" if *method == Method::GET || definition.is_custom() => Some(Verb::List),
        "watch" if *method == Method::GET || definition.is_custom() => Some(Verb::Watch),
        "create" => Some(Verb::Create),
        "update" => Some(Verb::Update),
        "patch" => Some(Verb::Patch),
        "delete" => Some(Verb::Delete),
        "deletecollection" => Some(Verb::DeleteCollection),
        _ => None,
    };
    // A field selector on a name turns a list into one of a named object: still the collection's path.
    match verb.filter(|v| verbs.contains(v)) {
        Some(verb) => Ok(verb),
        None if definition.is_custom() => Err(Status::method_not_supported(&definition.group_resource(), &info.verb)),
        None => Err(Status::method_not_allowed()),
    }
}

const COLLECTION: [Verb; 4] = [Verb::List, Verb::Watch, Verb::Create, Verb::DeleteCollection];
const OBJECT: [Verb; 4] = [Verb::Get, Verb::Update, Verb::Patch, Verb::Delete];

/// The verbs that a path has.
fn verbs_of_path(info: &RequestInfo, definition: &ResourceDefinition) -> StatusResult<Vec<Verb>> {
    let missing = || Err(Status::no_such_resource());
    let scoped = info.in_namespace;
    if scoped && definition.scope == Scope::Cluster {
        return missing();
    }
    let everywhere = !scoped && definition.scope == Scope::Namespaced;
    let of = |some: &[Verb]| -> Vec<Verb> { definition.verbs.iter().filter(|v| some.contains(v)).copied().collect() };
    let verbs = match info.depth {
        1 if everywhere => of(&COLLECTION[..2]),
        1 => of(&COLLECTION),
        2 if info.verb_in_path => of(&[Verb::Watch]),
        _ if everywhere => Vec::new(),
        2 => of(&OBJECT),
        depth => match definition.subresource(&info.subresource) {
            // Only subresources that pass whole requests on have paths of their own below.
            Some(subresource) if depth == 3 || subresource.verbs.len() > OBJECT.len() => subresource.verbs.clone(),
            // COMPAT: custom resources say it of the object.
            None if definition.is_custom() => return Err(Status::not_found(&definition.group_resource(), &info.name)),
            _ => Vec::new(),
        },
    };
    if verbs.is_empty() { missing() } else { Ok(verbs) }
}

enum MediaType {
    Given(&'static str),
    /// What counts only where there is a body.
    IfAny(StatusResult<&'static str>),
}

const BODIES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_PATCHES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

/// The media type of the body.
fn media_type(verb: Verb, known: &Known, definition: &ResourceDefinition) -> StatusResult<MediaType> {
    let header = known.header(CONTENT_TYPE);
    match verb {
        Verb::Get | Verb::List | Verb::Watch => Ok(MediaType::Given("")),
        Verb::Create | Verb::Update => negotiate::content_type(header, &BODIES).map(MediaType::Given),
        Verb::Delete | Verb::DeleteCollection => Ok(MediaType::IfAny(negotiate::content_type(header, &BODIES))),
        Verb::Patch => {
            let patches = if definition.is_custom() {
                &CUSTOM_PATCHES[..]
            } else {
                &PATCHES[..]
            };
            if !definition.is_custom() {
                negotiate::consumes(header, patches)?;
            }
            // COMPAT: parameters are cut off, letters compared as they are, and nothing is assumed.
            let media_type = header.split(';').next().unwrap_or("");
            match patches.iter().find(|p| **p == media_type) {
                Some(media_type) => Ok(MediaType::Given(media_type)),
                None => Err(negotiate::unsupported(patches)),
            }
        }
    }
}
