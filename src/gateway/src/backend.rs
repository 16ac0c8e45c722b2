//! [`Backend`]: the target of one APIService, as requests find it.
// PERFORMANCE: per-request path

use crate::apiservice::{ApiService, Available, ConditionStatus, Remote, ServiceReference};
use crate::body::Body;
use crate::connect::Connector;
use crate::endpoint::Tuning;
use crate::layers::{self, Refusal, Stack};
use crate::metrics::{BackendMetrics, Metrics};
use crate::objects::{ENDPOINT_SLICES, SERVICES};
use crate::pool::{Outgoing, Pool, SendError};
use crate::resolve::{ResolveError, Resolver};
use crate::tls::{self, ClientIdentity, TlsSetupError, Trust};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::Response;
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};
use tower::ServiceExt;

/// What all backends have in common.
pub struct Shared {
    pub resolver: Resolver,
    pub tuning: Arc<Tuning>,
    pub metrics: Metrics,
    pub system_roots: Arc<RootCertStore>,
    /// The certificate shown to backends; replaced when its file changes.
    pub identity: ArcSwap<Option<ClientIdentity>>,
}

pub struct Backend {
    pub api_service: ApiService,
    remote: Remote,
    targets: LiveTargets,
    /// Why no connection can even be tried, else the endpoints.
    pool: Result<Arc<Pool>, TlsSetupError>,
    /// What requests pass on their way to the pool; `None` where there is none.
    stack: Option<Stack>,
    available: watch::Sender<Available>,
    metrics: BackendMetrics,
    /// Told when an endpoint fails under a request.
    trouble: Arc<Notify>,
}

/// What a Service leads to, resolved again whenever a Service or EndpointSlice has changed.
pub struct LiveTargets {
    resolver: Resolver,
    reference: ServiceReference,
    services: watch::Receiver<u64>,
    slices: watch::Receiver<u64>,
    resolved: ArcSwapOption<Resolved>,
    resolving: Mutex<()>,
}

struct Resolved {
    /// The changes of Services and EndpointSlices that this was made from.
    seen: (u64, u64),
    result: Result<(), ResolveError>,
}

impl Backend {
    /// `None` for an APIService that names no service. Nothing is dialed yet.
    pub fn new(api_service: ApiService, available: bool, shared: &Shared) -> Option<Arc<Backend>> {
        let remote = api_service.remote.clone()?;
        let metrics = shared.metrics.backend(&api_service.name);
        let trouble = Arc::new(Notify::new());
        let pool = connector(&remote, shared).map(|connector| {
            Arc::new(Pool::new(
                connector,
                shared.tuning.clone(),
                metrics.clone(),
                trouble.clone(),
            ))
        });
        let stack = pool
            .as_ref()
            .ok()
            .map(|pool| layers::stack(pool.clone(), metrics.in_flight.clone()));
        let targets = LiveTargets::new(shared.resolver.clone(), remote.service.clone());
        let status = if available { Available::passed() } else { unknown() };
        Some(Arc::new(Backend {
            api_service,
            remote,
            targets,
            pool,
            stack,
            available: watch::Sender::new(status),
            metrics,
            trouble,
        }))
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

    /// The endpoints as they are now; resolves again only after a Service or EndpointSlice has changed.
    pub fn pool(&self) -> Result<&Arc<Pool>, PoolError> {
        let pool = self.pool.as_ref().map_err(|e| PoolError::Setup(e.clone()))?;
        self.targets.refresh(pool).map_err(PoolError::Resolve)?;
        Ok(pool)
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

    /// Resolves when an endpoint has failed under a request since the last call.
    pub async fn troubled(&self) {
        self.trouble.notified().await;
    }

    /// Sends a request through the stack. The pool must be there.
    pub async fn forward(&self, outgoing: Outgoing) -> Result<Response<Body>, Refusal> {
        let Some(stack) = &self.stack else {
            return Err(Refusal::Send(SendError::from("no endpoints available".to_owned())));
        };
        match stack.clone().oneshot(outgoing).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

impl LiveTargets {
    pub fn new(resolver: Resolver, reference: ServiceReference) -> LiveTargets {
        LiveTargets {
            services: resolver.source.changes(SERVICES),
            slices: resolver.source.changes(ENDPOINT_SLICES),
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
        let _turn = self.resolving.lock().unwrap_or_else(PoisonError::into_inner);
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

fn connector(remote: &Remote, shared: &Shared) -> Result<Connector, TlsSetupError> {
    let trust = match (remote.insecure_skip_tls_verify, remote.ca_bundle.as_slice()) {
        (true, _) => Trust::Insecure,
        (false, []) => Trust::System,
        (false, bundle) => Trust::Bundle(bundle),
    };
    let identity = shared.identity.load();
    let config = |protocols: &[&str]| {
        tls::client_config(trust, &shared.system_roots, identity.as_ref().as_ref(), protocols).map(Arc::new)
    };
    let name = remote.service.server_name();
    Ok(Connector {
        tls: config(&["h2", "http/1.1"])?,
        tls_http1: config(&["http/1.1"])?,
        // Validated names always are DNS names; anything else matches no certificate.
        server_name: ServerName::try_from(name)
            .unwrap_or_else(|_| ServerName::try_from("invalid").expect("a DNS name")),
        policy: shared.resolver.policy.clone(),
        dial_timeout: shared.tuning.dial_timeout,
        handshake_timeout: shared.tuning.handshake_timeout,
    })
}
