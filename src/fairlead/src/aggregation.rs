//! The gateway, put together: how it reads and writes cluster objects, and how the chain hands requests to it.

use crate::caches::CacheSet;
use crate::connections::Connections;
use crate::objects::CachedObjects;
use crate::slices::Slices;
use dashmap::DashMap;
use fairlead_api::{Clock, Node, Status, StatusResult};
use fairlead_auth::ObjectSource as Objects;
use fairlead_discovery::openapi::Components;
use fairlead_discovery::{RemoteGroupVersion, Route, Router, RoutingSnapshot, report};
use fairlead_gateway::changes::Changes;
use fairlead_gateway::core::{CORE, Core};
use fairlead_gateway::objects::{
    API_SERVICES, ApiServices, BACKEND_POLICIES, BackendPolicies, ENDPOINT_SLICES, ObjectSource, Resource,
    SERVICE_NAME_LABEL,
};
use fairlead_gateway::proxy::NotAsked;
use fairlead_gateway::{Gateway, RequestContext};
use fairlead_resource::{Client, ResourceDefinition};
use fairlead_server::endpoints::{count_abort, count_proxy_termination};
use fairlead_server::measured;
use fairlead_server::metrics::Metrics;
use fairlead_server::remote::Remote;
use fairlead_server::request::Identified;
use fairlead_server::{Body, RequestInfo, Response};
use fairlead_storage::{CacheEvent, Cached, WatchScope};
use fairlead_telemetry::task;
use futures_util::future::BoxFuture;
use http::Method;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Cluster objects as the gateway reads them.
pub struct GatewayObjects {
    objects: Arc<CachedObjects>,
    caches: CacheSet,
    changes: DashMap<Resource, (watch::Sender<u64>, JoinHandle<()>)>,
    named: Arc<Changes>,
    slices: Slices,
}

impl GatewayObjects {
    pub fn new(objects: Arc<CachedObjects>, caches: CacheSet) -> GatewayObjects {
        GatewayObjects {
            objects,
            caches,
            changes: DashMap::new(),
            named: Arc::default(),
            slices: Slices::default(),
        }
    }

    /// Ends all following and lets go of the caches.
    pub fn stop(&self) {
        self.changes.iter().for_each(|followed| followed.1.abort());
        self.objects.clear();
        self.caches.clear();
    }
}

impl ObjectSource for GatewayObjects {
    fn get(&self, (group, plural): Resource, namespace: &str, name: &str) -> Option<Arc<Node>> {
        self.objects.get(group, plural, namespace, name)
    }

    fn list(&self, (group, plural): Resource) -> Vec<Arc<Node>> {
        self.objects.list(group, plural)
    }

    fn changes(&self, resource: Resource) -> watch::Receiver<u64> {
        let (caches, named) = (self.caches.clone(), self.named.clone());
        let followed = self.changes.entry(resource).or_insert_with(|| {
            let sender = watch::Sender::new(1);
            let task = task::spawn("gateway-changes", follow(caches, resource, sender.clone(), named));
            (sender, task)
        });
        followed.0.subscribe()
    }

    fn changes_of(&self, resource: Resource, namespace: &str, name: &str) -> watch::Receiver<u64> {
        drop(self.changes(resource));
        self.named.of(resource, namespace, name)
    }

    fn endpoint_slices(&self, namespace: &str, service: &str) -> Vec<Arc<Node>> {
        self.slices.of(&self.objects, namespace, service)
    }
}

/// Counts the events of a resource, and tells those of single objects, until nobody can be told any more.
async fn follow(caches: CacheSet, resource: Resource, sender: watch::Sender<u64>, named: Arc<Changes>) {
    let tell = |object: &Cached| match resource {
        ENDPOINT_SLICES => {
            let labels = object.header.labels.iter();
            for (_, service) in labels.filter(|(key, _)| *key == SERVICE_NAME_LABEL) {
                named.tell(resource, object.namespace(), service);
            }
        }
        _ => named.tell(resource, object.namespace(), object.name()),
    };
    loop {
        let Some(cache) = caches.of(resource.0, resource.1) else {
            return;
        };
        if let Ok(mut watcher) = cache.watch(None, WatchScope::All) {
            sender.send_modify(|n| *n += 1);
            named.tell_all(resource);
            while let Ok(event) = watcher.next().await {
                match &event {
                    CacheEvent::Progress(_) => continue,
                    CacheEvent::Put { object, previous } => {
                        tell(object);
                        previous.iter().for_each(|previous| tell(previous));
                    }
                    CacheEvent::Delete { object, previous } => {
                        tell(object);
                        tell(previous);
                    }
                }
                sender.send_modify(|n| *n += 1);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// APIServices, written through the engine.
pub struct EngineApiServices {
    pub client: Client,
    pub router: Router,
}

impl EngineApiServices {
    fn definition(&self) -> StatusResult<Arc<ResourceDefinition>> {
        self.find(API_SERVICES, "v1")
    }

    fn find(&self, (group, plural): Resource, version: &str) -> StatusResult<Arc<ResourceDefinition>> {
        match self.router.load().route(group, version, plural) {
            Some(Route::Local(definition)) => Ok(definition),
            _ => Err(Status::no_such_resource()),
        }
    }
}

impl BackendPolicies for EngineApiServices {
    fn update_policy_status(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        Box::pin(async move {
            let definition = self.find(BACKEND_POLICIES, "v1alpha1")?;
            self.client
                .update_subresource(&definition, "status", &object)
                .await
                .map(drop)
        })
    }
}

impl ApiServices for EngineApiServices {
    fn create(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        Box::pin(async move { self.client.create(&self.definition()?, "", &object).await.map(drop) })
    }

    fn update(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        Box::pin(async move { self.client.update(&self.definition()?, &object).await.map(drop) })
    }

    fn update_status(&self, object: Node) -> BoxFuture<'_, StatusResult<()>> {
        Box::pin(async move {
            self.client
                .update_subresource(&self.definition()?, "status", &object)
                .await
                .map(drop)
        })
    }

    fn delete<'a>(&'a self, name: &'a str, uid: &'a str) -> BoxFuture<'a, StatusResult<()>> {
        Box::pin(async move {
            let definition = self.definition()?;
            let options = fairlead_api::node!({"preconditions": {"uid": uid}});
            self.client.delete(&definition, "", name, &options).await.map(drop)
        })
    }
}

/// Requests of the chain, handed to the gateway.
pub struct GatewayRemote {
    pub gateway: Gateway,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    /// What this server stands in front of, if anything.
    pub core: Option<Core>,
    /// With kubelets, pods and Services.
    pub connections: Connections,
}

impl Remote for GatewayRemote {
    fn proxy(&self, request: Identified, backend: Arc<RemoteGroupVersion>) -> BoxFuture<'static, Response> {
        let (gateway, core, metrics) = (self.gateway.clone(), self.core.clone(), self.metrics.clone());
        Box::pin(async move {
            if backend.from_memory() {
                return remembered(&request, &backend);
            }
            let Identified { known, user, .. } = request;
            let known = *known;
            let verb = measured::verb(&known.info, &known.parts.method, false);
            let context = RequestContext {
                verb,
                long_running: known.info.long_running(),
                deadline: known.deadline,
                client: Some(known.connection.peer.ip()),
                audit_id: &known.audit_id,
            };
            let method = known.parts.method.clone();
            let request = http::Request::from_parts(known.parts, known.payload);
            let response = match core.filter(|_| backend.api_service == CORE) {
                Some(core) => {
                    let gv = (backend.group.as_str(), backend.version.as_str());
                    core.proxy(request, &user, &context, gv).await
                }
                None => {
                    let response = gateway.proxy(&backend.api_service, request, &user, &context).await;
                    response.unwrap_or_else(fairlead_gateway::proxy::unavailable)
                }
            };
            if response.extensions().get::<NotAsked>().is_some() {
                count_proxy_termination(&metrics, &known.info, &method, response.status().as_u16());
            }
            response.map(|body| passed_on(body, metrics, known.info, method))
        })
    }

    fn connects(&self, definition: &ResourceDefinition, subresource: &str) -> bool {
        self.connections.has(definition, subresource)
    }

    fn connect(&self, request: Identified, definition: Arc<ResourceDefinition>) -> BoxFuture<'static, Response> {
        Box::pin(self.connections.clone().serve(request, definition))
    }

    fn report(&self, snapshot: &RoutingSnapshot, components: &dyn Components) -> Option<Node> {
        Some(report::report(snapshot, components, self.clock.now()))
    }
}

/// What has come whole needs nobody to wait for the rest of it; what has not may break off.
pub(crate) fn passed_on(body: fairlead_gateway::Body, metrics: Metrics, info: RequestInfo, method: Method) -> Body {
    match body.into_whole() {
        Ok(bytes) => Body::full(bytes),
        Err(body) => Body::other(body.map_err(move |error| {
            count_abort(&metrics, &info, &method);
            error
        })),
    }
}

/// Clients know the kind, and nobody is there to ask for its objects.
fn remembered(request: &Identified, backend: &RemoteGroupVersion) -> Response {
    let status = Status::unavailable(format!(
        "the API server of {}/{} does not answer; what it serves is shown as it was last known",
        backend.group, backend.version
    ));
    fairlead_server::router::failure(&status, &request.known)
}
