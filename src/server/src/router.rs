//! Who answers an authorized request: a local resource, a backend, a document, or one of the server's own endpoints.
// PERFORMANCE: per-request path

use crate::body::Response;
use crate::chain::{Services, Settings};
use crate::encode;
use crate::endpoints;
use crate::filters::authorization::Authorized;
use crate::measured::Measured;
use crate::metrics::Metrics;
use crate::negotiate;
use crate::request::{Identified, Known};
use crate::resources;
use fairlead_api::Status;
use fairlead_discovery::snapshot::Serves;
use fairlead_discovery::{RemoteGroupVersion, Route, RoutingSnapshot};
use fairlead_telemetry::Families;
use futures_util::future::BoxFuture;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;

/// The end of the chain. Cheap to clone.
#[derive(Clone)]
pub struct RequestRouter(Arc<Shared>);

/// What handlers share.
pub struct Shared {
    pub services: Services,
    pub settings: Settings,
    pub metrics: Metrics,
    /// What `/metrics/slis` tells, and `/metrics` does not.
    pub health_families: Families,
}

impl RequestRouter {
    pub fn new(services: Services, settings: Settings, metrics: Metrics) -> RequestRouter {
        RequestRouter(Arc::new(Shared {
            services,
            settings,
            metrics,
            health_families: Families::default(),
        }))
    }
}

impl Service<Authorized<Identified>> for RequestRouter {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Authorized<Identified>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move { Ok(route(shared, request.into_inner()).await) })
    }
}

async fn route(shared: Arc<Shared>, request: Identified) -> Response {
    if request.known.info.resource_request {
        return find(shared, request).await;
    }
    let measured = Measured::document(&shared.metrics, &request.known);
    let mut response = find(shared, request).await;
    if let Some(measured) = measured {
        measured.finish_with(&mut response);
    }
    response
}

async fn find(shared: Arc<Shared>, request: Identified) -> Response {
    let snapshot = shared.services.router.load();
    let info = &request.known.info;
    if info.resource_request {
        return match snapshot.route(&info.group, &info.version, &info.resource) {
            Some(Route::Local(definition)) => resources::serve(shared, request, definition).await,
            Some(Route::Remote(backend)) => shared.services.remote.proxy(request, backend).await,
            None => nowhere(&snapshot, &info.group, &request.known),
        };
    }
    let path = info.path.trim_end_matches('/').to_owned();
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("api"), None, ..) => documents::versions_of_core(&shared, &snapshot, &request.known),
        (Some("api"), Some(version), None, _) => match remote(&snapshot, "", version) {
            Some(backend) => shared.services.remote.proxy(request, backend).await,
            None => documents::resources(&shared, &snapshot, &request.known, "", version),
        },
        (Some("apis"), None, ..) => documents::groups(&shared, &snapshot, &request.known),
        (Some("apis"), Some(group), None, _) if !group.is_empty() => {
            documents::group(&shared, &snapshot, &request.known, group)
        }
        (Some("apis"), Some(""), ..) => encode::page_not_found(),
        (Some("apis"), Some(group), Some(version), None) => match remote(&snapshot, group, version) {
            Some(backend) if !backend.from_memory() => shared.services.remote.proxy(request, backend).await,
            _ => documents::resources(&shared, &snapshot, &request.known, group, version),
        },
        _ => endpoints::serve(&shared, &snapshot, &request.known).await,
    }
}

/// Who serves a group-version, if it is not this server.
fn remote(snapshot: &RoutingSnapshot, group: &str, version: &str) -> Option<Arc<RemoteGroupVersion>> {
    match &snapshot.version(group, version)?.serves {
        Serves::Remote(backend) => Some(backend.clone()),
        Serves::Local(_) => None,
    }
}

/// Neither a resource nor a document. COMPAT: built-in groups answer with a `Status`, everybody else with a line of text.
fn nowhere(snapshot: &RoutingSnapshot, group: &str, known: &Known) -> Response {
    if snapshot.group(group).is_some_and(|g| g.is_built_in()) {
        return failure(&Status::no_such_resource(), known);
    }
    encode::page_not_found()
}

/// A failure in the form the client accepts.
pub fn failure(status: &Status, known: &Known) -> Response {
    if let Some(trail) = &known.trail {
        trail.failed(status);
    }
    encode::status(status, &known.parts.headers, &known.query)
}

/// The discovery documents, as clients of every age ask for them.
mod documents {
    use super::{Shared, failure, nowhere};
    use crate::audit;
    use crate::body::Response;
    use crate::encode::{self, Wanted};
    use crate::negotiate::{self, Agreed, Clause, Format, Offer, Route};
    use crate::request::{Known, header};
    use bytes::Bytes;
    use fairlead_api::{Status, json, node};
    use fairlead_discovery::{Document, RoutingSnapshot};
    use http::header::{ACCEPT, ETAG, HOST, IF_NONE_MATCH, VARY};
    use http::{HeaderValue, Method, StatusCode};

    const AGGREGATED: &str = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

    /// `/api`.
    pub(super) fn versions_of_core(shared: &Shared, snapshot: &RoutingSnapshot, known: &Known) -> Response {
        if let Err(response) = readable(known) {
            return response;
        }
        if let Some(agreed) = wants_aggregated(known) {
            return aggregated(shared, snapshot.aggregated(true), agreed, known);
        }
        let versions: Vec<_> = snapshot
            .group("")
            .map(|g| {
                g.versions
                    .iter()
                    .map(|v| v.group_version.version.as_str().into())
                    .collect()
            })
            .unwrap_or_default();
        let address = match header(&known.parts.headers, HOST) {
            "" => known.parts.uri.authority().map_or(String::new(), ToString::to_string),
            host => host.to_owned(),
        };
        let mut document = node!({
            "kind": "APIVersions",
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        });
        document.set("versions", versions);
        plain(shared, &json::to_vec(&document).into(), known)
    }

    /// `/apis`. COMPAT: any method will do.
    pub(super) fn groups(shared: &Shared, snapshot: &RoutingSnapshot, known: &Known) -> Response {
        if let Some(agreed) = wants_aggregated(known) {
            return aggregated(shared, snapshot.aggregated(false), agreed, known);
        }
        plain(shared, &snapshot.group_list().json, known)
    }

    /// `/apis/GROUP`. COMPAT: any method will do.
    pub(super) fn group(shared: &Shared, snapshot: &RoutingSnapshot, known: &Known, group: &str) -> Response {
        let Some(document) = snapshot.group_document(group).filter(|_| !group.is_empty()) else {
            return encode::page_not_found();
        };
        plain(shared, &document.json, known)
    }

    /// `/api/VERSION` and `/apis/GROUP/VERSION`.
    pub(super) fn resources(
        shared: &Shared,
        snapshot: &RoutingSnapshot,
        known: &Known,
        group: &str,
        version: &str,
    ) -> Response {
        let Some(document) = snapshot.resource_list(group, version) else {
            return nowhere(snapshot, group, known);
        };
        if snapshot.group(group).is_some_and(|g| g.is_built_in())
            && let Err(response) = readable(known)
        {
            return response;
        }
        plain(shared, &document.json, known)
    }

    /// Documents are read with GET, in a form that they have.
    fn readable(known: &Known) -> Result<(), Response> {
        if known.parts.method != Method::GET {
            return Err(failure(&Status::method_not_allowed(), known));
        }
        Route::Object
            .check(&known.parts.headers)
            .map_err(|status| failure(&status, known))
    }

    fn plain(shared: &Shared, json: &Bytes, known: &Known) -> Response {
        match negotiate::agree(&known.parts.headers, &known.query, Offer::Plain) {
            Ok(agreed) => {
                audit::document(known.trail.as_deref(), json);
                let wanted = Wanted::new(agreed, &known.parts.headers, &shared.services.protobuf);
                encode::document(json, "", wanted)
            }
            Err(status) => failure(&status, known),
        }
    }

    fn aggregated(shared: &Shared, document: &Document, agreed: Agreed, known: &Known) -> Response {
        let mut response = match &document.etag {
            Some(etag) if header(&known.parts.headers, IF_NONE_MATCH) == etag => {
                let mut unchanged = Response::new(crate::body::Body::empty());
                *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
                unchanged
            }
            _ => {
                audit::document(known.trail.as_deref(), &document.json);
                let wanted = Wanted::new(agreed, &known.parts.headers, &shared.services.protobuf);
                encode::document(&document.json, AGGREGATED, wanted)
            }
        };
        let headers = response.headers_mut();
        headers.append(VARY, HeaderValue::from_static("Accept"));
        if let Some(etag) = document.etag.as_ref().and_then(|e| HeaderValue::from_str(e).ok()) {
            headers.insert(ETAG, etag);
            headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("public"));
        }
        response
    }

    /// The format of the aggregated form, where the first clause that can be served at all asks for it.
    fn wants_aggregated(known: &Known) -> Option<Agreed> {
        let accept = header(&known.parts.headers, ACCEPT);
        if !accept.contains("apidiscovery.k8s.io") {
            return None;
        }
        for clause in &negotiate::clauses(accept) {
            if let Some(format) = aggregated_format(clause) {
                return Some(Agreed {
                    format,
                    ..Agreed::default()
                });
            }
            if ["as", "g", "v"].iter().all(|p| clause.parameter(p).is_none()) {
                return None;
            }
        }
        None
    }

    fn aggregated_format(clause: &Clause) -> Option<Format> {
        let asked = clause.parameter("g") == Some("apidiscovery.k8s.io")
            && clause.parameter("v") == Some("v2")
            && clause.parameter("as") == Some("APIGroupDiscoveryList");
        match (clause.kind, clause.subtype) {
            ("application", "json" | "*") | ("*", "*") if asked => Some(Format::Json),
            ("application", "yaml") if asked => Some(Format::Yaml),
            ("application", "vnd.kubernetes.protobuf") if asked => Some(Format::Protobuf),
            _ => None,
        }
    }
}

/// Whether a route of a built-in group can produce what the client accepts.
pub fn producible(route: negotiate::Route, known: &Known) -> Result<(), Response> {
    route
        .check(&known.parts.headers)
        .map_err(|status| failure(&status, known))
}
