//! [`Backend`]: the target of one APIService, as requests find it.
// PERFORMANCE: per-request path

use crate::apiservice::{ApiService, Available, ConditionStatus, Remote, ServiceReference};
use crate::body::Body;
use crate::connect::Connector;
use crate::endpoint::{Endpoint, Readers};
use crate::health::outlier::State;
use crate::layers::{self, Refusal, Stack};
use crate::metrics::{BackendMetrics, EndpointNow, Metrics};
use crate::objects::{ENDPOINT_SLICES, SERVICES};
use crate::policy::{Live, Policy};
use crate::pool::routes::{Route, Routes};
use crate::pool::{Outgoing, Pool};
use crate::resolve::{ResolveError, Resolver, Target};
use crate::tls::{self, ClientIdentity, TlsSetupError, Trust};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderMap, Response};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tower::ServiceExt;

/// What all backends have in common.
pub struct Shared {
    pub resolver: Resolver,
    pub metrics: Metrics,
    pub system_roots: Arc<RootCertStore>,
    /// The certificate shown to backends; replaced when its file changes.
    pub identity: ArcSwap<Option<ClientIdentity>>,
    pub readers: Readers,
}

pub struct Backend {
    pub api_service: ApiService,
    remote: Remote,
    live: Live,
    routes: Arc<Routes>,
    /// What requests pass on their way to a pool.
    stack: Stack,
    available: watch::Sender<Available>,
    metrics: BackendMetrics,
    /// Told when an endpoint fails under a request.
    trouble: Arc<Notify>,
    /// Told when there is another policy.
    configured: watch::Sender<u64>,
}

/// What a Service leads to, resolved again whenever it or one of its EndpointSlices has changed.
pub struct LiveTargets {
    resolver: Resolver,
    reference: ServiceReference,
    services: watch::Receiver<u64>,
    slices: watch::Receiver<u64>,
    resolved: ArcSwapOption<Resolved>,
    resolving: Mutex<()>,
}

struct Resolved {
    /// The changes of the Service and its EndpointSlices that this was made from.
    seen: (u64, u64),
    result: Result<(), ResolveError>,
}

impl Backend {
    /// `None` for an APIService that names no service. Nothing is dialed yet.
    pub fn new(api_service: ApiService, policy: Policy, available: bool, shared: &Shared) -> Option<Arc<Backend>> {
        let remote = api_service.remote.clone()?;
        let metrics = shared.metrics.backend(&api_service.name);
        let live = policy.live();
        let routes = Arc::new(Routes::new(live.clone(), Vec::new()));
        let status = if available { Available::passed() } else { unknown() };
        let backend = Backend {
            api_service,
            remote,
            stack: layers::stack(routes.clone(), live.clone(), &metrics),
            live,
            routes,
            available: watch::Sender::new(status),
            metrics,
            trouble: Arc::new(Notify::new()),
            configured: watch::Sender::new(0),
        };
        backend.routes.replace(backend.arranged(&backend.policy(), shared));
        Some(Arc::new(backend))
    }

    pub fn name(&self) -> &str {
        &self.api_service.name
    }

    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    pub fn metrics(&self) -> &BackendMetrics {
        &self.metrics
    }

    /// What holds for it now.
    pub fn policy(&self) -> Arc<Policy> {
        self.live.load_full()
    }

    /// Changes what holds from the next request on. Connections stay, to all endpoints that do.
    pub fn set_policy(&self, policy: Policy, shared: &Shared) {
        if **self.live.load() == policy {
            return;
        }
        // Until all requests go by the new policy there are routes for both.
        let new = self.arranged(&policy, shared);
        let old = self.routes.all().to_vec();
        self.routes.replace(new.iter().cloned().chain(old).collect());
        self.live.store(Arc::new(policy));
        self.routes.replace(new);
        self.configured.send_modify(|n| *n += 1);
    }

    /// A number that changes with the policy.
    pub fn configurations(&self) -> watch::Receiver<u64> {
        self.configured.subscribe()
    }

    /// A route to every Service of a policy, taking over those there are.
    fn arranged(&self, policy: &Policy, shared: &Shared) -> Vec<Arc<Route>> {
        let own = std::slice::from_ref(&self.remote.service);
        let services: Vec<&ServiceReference> = match policy.traffic.as_slice() {
            [] => own.iter().collect(),
            shares => shares.iter().map(|s| &s.service).collect(),
        };
        let old = self.routes.all();
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(services.len());
        for service in services {
            if routes.iter().any(|r| r.service == *service) {
                continue;
            }
            let known = old.iter().find(|r| r.service == *service).cloned();
            routes.push(known.unwrap_or_else(|| Arc::new(self.route(service, shared))));
        }
        routes
    }

    fn route(&self, service: &ServiceReference, shared: &Shared) -> Route {
        let pool = connector(&self.remote, service, shared).map(|connector| {
            Arc::new(Pool::new(
                connector,
                self.live.clone(),
                self.metrics.clone(),
                self.trouble.clone(),
            ))
        });
        let targets = LiveTargets::new(shared.resolver.clone(), service.clone());
        Route::new(service.clone(), targets, pool)
    }

    /// All Services requests may go to.
    pub fn routes(&self) -> Vec<Arc<Route>> {
        self.routes.all().to_vec()
    }

    /// The endpoints as they are now, of the Service that gets most requests where there are several.
    pub fn pool(&self) -> Result<Arc<Pool>, PoolError> {
        self.routes.any()
    }

    /// The endpoints as they were when they were last needed.
    pub fn known_endpoints(&self) -> Vec<EndpointNow> {
        let now = |pool: &Pool, endpoint: &Arc<Endpoint>| EndpointNow {
            backend: self.api_service.name.clone(),
            endpoint: endpoint.authority.clone(),
            healthy: !matches!(pool.state(endpoint), State::Ejected(_)),
            in_flight: endpoint.load(),
        };
        let routes = self.routes.all();
        let pools = routes.iter().filter_map(|route| route.known_pool());
        let known = pools.flat_map(|pool| pool.endpoints().iter().map(|e| now(pool, e)).collect::<Vec<_>>());
        known.collect()
    }

    /// The endpoints for a request with these headers.
    pub fn pool_for(&self, headers: &HeaderMap) -> Result<Arc<Pool>, PoolError> {
        self.routes.choose(headers)
    }

    /// Requests to a backend that is not available are refused at once.
    pub fn is_available(&self) -> bool {
        self.available.borrow().is_true()
    }

    /// The latest verdict, and those to come.
    pub fn verdicts(&self) -> watch::Receiver<Available> {
        self.available.subscribe()
    }

    pub fn set_available(&self, available: Available) {
        self.available.send_if_modified(|old| {
            let changed = *old != available;
            *old = available;
            changed
        });
    }

    /// Makes it be looked at soon: somebody has a reason to think that it does not answer.
    pub fn suspect(&self) {
        self.trouble.notify_one();
    }

    /// Resolves when an endpoint has failed under a request since the last call.
    pub async fn troubled(&self) {
        self.trouble.notified().await;
    }

    /// Sends a request through the stack.
    pub async fn forward(&self, outgoing: Outgoing) -> Result<Response<Body>, Refusal> {
        match self.stack.clone().oneshot(outgoing).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

impl LiveTargets {
    pub fn new(resolver: Resolver, reference: ServiceReference) -> LiveTargets {
        let changes = |of| resolver.source.changes_of(of, &reference.namespace, &reference.name);
        LiveTargets {
            services: changes(SERVICES),
            slices: changes(ENDPOINT_SLICES),
            resolver,
            reference,
            resolved: ArcSwapOption::empty(),
            resolving: Mutex::default(),
        }
    }

    /// Gives a pool the endpoints as they are now.
    pub fn refresh(&self, pool: &Pool) -> Result<(), ResolveError> {
        let now = (*self.services.borrow(), *self.slices.borrow());
        let known = || {
            self.resolved
                .load()
                .as_ref()
                .filter(|r| r.seen == now)
                .map(|r| r.result.clone())
        };
        if let Some(result) = known() {
            return result;
        }
        let _turn = self.turn();
        if let Some(result) = known() {
            return result;
        }
        let found = self.resolver.resolve(&self.reference);
        pool.update(found.as_deref().unwrap_or_default());
        let result = found.map(drop);
        self.resolved.store(Some(Arc::new(Resolved {
            seen: now,
            result: result.clone(),
        })));
        result
    }

    /// Gives a pool other endpoints than the Service's. What that leads to is found out anew afterwards.
    pub fn replace(&self, pool: &Pool, targets: &[Target]) {
        if pool.leads_to(targets) {
            return;
        }
        let _turn = self.turn();
        pool.update(targets);
        self.resolved.store(None);
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.resolving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a backend has nowhere to send requests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("{0}")]
    Setup(TlsSetupError),
    #[error("{0}")]
    Resolve(ResolveError),
}

fn unknown() -> Available {
    Available {
        status: ConditionStatus::Unknown,
        reason: "",
        message: String::new(),
    }
}

/// The APIService says whom to trust; the name is that of the Service.
fn connector(remote: &Remote, service: &ServiceReference, shared: &Shared) -> Result<Connector, TlsSetupError> {
    let trust = match (remote.insecure_skip_tls_verify, remote.ca_bundle.as_slice()) {
        (true, _) => Trust::Insecure,
        (false, []) => Trust::System,
        (false, bundle) => Trust::Bundle(bundle),
    };
    let identity = shared.identity.load();
    let config = |protocols: &[&str]| {
        tls::client_config(trust, &shared.system_roots, identity.as_ref().as_ref(), protocols).map(Arc::new)
    };
    let name = service.server_name();
    Ok(Connector {
        tls: config(&["h2", "http/1.1"])?,
        tls_http1: config(&["http/1.1"])?,
        // Validated names always are DNS names; anything else matches no certificate.
        server_name: ServerName::try_from(name)
            .unwrap_or_else(|_| ServerName::try_from("invalid").expect("a DNS name")),
        policy: shared.resolver.policy.clone(),
        readers: shared.readers.clone(),
    })
}
