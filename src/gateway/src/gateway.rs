//! [`Gateway`]: all backends of one server, and the loops that keep their state.

use crate::apiservice::{
    ApiService, Available, ConditionStatus, ServiceReference, is_available, is_remote, says, set_available,
};
use crate::availability::{self, Probing};
use crate::backend::{Backend, Shared};
use crate::body::{Body, BoxError};
use crate::discovery::RemoteGroups;
use crate::endpoint::Readers;
use crate::health::active;
use crate::learning::Learning;
use crate::metrics::Metrics;
use crate::objects::{
    API_SERVICES, ApiServices, BACKEND_POLICIES, BackendPolicies, ENDPOINT_SLICES, ObjectSource, SERVICES,
};
use crate::pace::Pace;
use crate::policy::Policy;
use crate::policy::assigned::Assigned;
use crate::policy::status::{LOOK_EVERY, PolicyStatus};
use crate::proxy::{RequestContext, proxy};
use crate::resolve::{AddressPolicy, Resolver, Routing, Target};
use crate::tls::ClientIdentity;
use crate::webhook::Webhooks;
use arc_swap::ArcSwap;
use bytes::Bytes;
use compact_str::CompactString;
use fairlead_api::{Clock, Node, UserInfo};
use fairlead_telemetry::Families;
use fairlead_telemetry::task::spawn;
use fairlead_telemetry::work::Work;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use rustls::RootCertStore;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

pub struct Config {
    pub routing: Routing,
    pub addresses: AddressPolicy,
    /// What holds for backends without a BackendPolicy.
    pub policy: Policy,
    /// Where backends listen, by group or APIService name, unless a BackendPolicy says so.
    pub static_addresses: Vec<(String, Target)>,
    pub probing: Probing,
    /// For backends without a caBundle; see [`crate::tls::system_roots`].
    pub system_roots: Arc<RootCertStore>,
    /// `--proxy-client-cert-file` and `--proxy-client-key-file`.
    pub identity: Option<ClientIdentity>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    shared: Shared,
    source: Arc<dyn ObjectSource>,
    api_services: Arc<dyn ApiServices>,
    clock: Arc<dyn Clock>,
    probing: Probing,
    checks: Work,
    backends: ArcSwap<HashMap<CompactString, Arc<Backend>>>,
    policy: Policy,
    static_addresses: Vec<(String, Target)>,
    registered: watch::Receiver<u64>,
    policies: watch::Receiver<u64>,
    /// The changes of APIServices and of BackendPolicies that `backends` was made from, plus one; 0 before the first
    /// time.
    synced: AtomicU64,
    synced_policies: AtomicU64,
    /// Held while `backends` is made.
    syncing: Mutex<MadeFrom>,
    /// Moves when another backend stands for an APIService than before.
    replaced: watch::Sender<u64>,
    learning: Arc<Learning>,
}

/// What the backends there are were made from: what is the same is not read again.
#[derive(Default)]
struct MadeFrom {
    api_services: HashMap<CompactString, Arc<Node>>,
    policies: u64,
}

/// Between two looks at everything without another reason.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Between two checks of a backend, however much trouble there is.
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// Between a status that could not be written and the next try.
const WRITE_PAUSE: Duration = Duration::from_millis(250);

// === impl Gateway ===

impl Gateway {
    pub fn new(
        config: Config,
        source: Arc<dyn ObjectSource>,
        api_services: Arc<dyn ApiServices>,
        clock: Arc<dyn Clock>,
        families: &Families,
    ) -> Gateway {
        let resolver = Resolver {
            source: source.clone(),
            routing: config.routing,
            policy: Arc::new(config.addresses),
        };
        let metrics = Metrics::new(families);
        let learning = Learning::new(clock.clone(), metrics.clone());
        let inner = Arc::new(Inner {
            learning: Arc::new(learning),
            shared: Shared {
                resolver,
                metrics,
                system_roots: config.system_roots,
                identity: ArcSwap::from_pointee(config.identity),
                readers: Readers::default(),
            },
            policy: config.policy,
            static_addresses: config.static_addresses,
            registered: source.changes(API_SERVICES),
            policies: source.changes(BACKEND_POLICIES),
            source,
            api_services,
            clock,
            probing: config.probing,
            checks: Work::of(families, "RemoteAvailabilityController"),
            backends: ArcSwap::default(),
            synced: AtomicU64::new(0),
            synced_policies: AtomicU64::new(0),
            syncing: Mutex::default(),
            replaced: watch::Sender::new(0),
        });
        let measured = Arc::downgrade(&inner);
        families.before_reading(move || {
            if let Some(inner) = measured.upgrade() {
                inner.measure();
            }
        });
        Gateway(inner)
    }

    /// The backend of an APIService; `None` where there is none, or it names no service.
    pub fn backend(&self, api_service: &str) -> Option<Arc<Backend>> {
        self.0.sync();
        self.0.backends.load().get(api_service).cloned()
    }

    /// Proxies a request to the backend of an APIService. `None` where there is no such backend.
    pub async fn proxy<B>(
        &self,
        api_service: &str,
        request: Request<B>,
        user: &UserInfo,
        context: &RequestContext<'_>,
    ) -> Option<Response<Body>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let backend = self.backend(api_service)?;
        Some(proxy(&backend, request, user, context).await)
    }

    /// A client for webhooks that finds services as this gateway does.
    pub fn webhooks(&self, identity: Option<ClientIdentity>) -> Webhooks {
        let shared = &self.0.shared;
        Webhooks::new(
            shared.resolver.clone(),
            shared.metrics.clone(),
            shared.system_roots.clone(),
            identity,
        )
    }

    /// What is known of remote groups, for the merge.
    pub fn remote_groups(&self) -> Arc<RemoteGroups> {
        self.0.learning.groups()
    }

    /// A number that changes whenever `remote_groups` does.
    pub fn group_changes(&self) -> watch::Receiver<u64> {
        self.0.learning.changes()
    }

    /// Shows backends another certificate from now on.
    pub fn set_identity(&self, identity: Option<ClientIdentity>) {
        self.0.shared.identity.store(Arc::new(identity));
        let mut made_from = self.0.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        *made_from = MadeFrom::default();
        self.0.build(&HashMap::new(), &mut made_from);
    }

    /// Keeps conditions and documents up to date until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut registered = self.0.registered.clone();
        let mut policies = self.0.policies.clone();
        let inner = self.0.clone();
        let backends = move || {
            inner.sync();
            inner.backends.load_full()
        };
        let learning = self.0.learning.clone();
        let learning = learning.run(backends, registered.clone(), policies.clone());
        let _learning = Watched(vec![spawn("remote discovery", learning)]);
        let mut replaced = self.0.replaced.subscribe();
        let mut tasks: HashMap<CompactString, (Arc<Backend>, Watched)> = HashMap::new();
        let mut measured: HashSet<CompactString> = HashSet::new();
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                () = pace.turn() => {}
                () = &mut stop => return,
            }
            replaced.borrow_and_update();
            registered.borrow_and_update();
            policies.borrow_and_update();
            self.0.sync();
            let backends = self.0.backends.load_full();
            tasks.retain(|name, (watched, _)| backends.get(name).is_some_and(|b| Arc::ptr_eq(b, watched)));
            for (name, backend) in backends.iter() {
                if !tasks.contains_key(name) {
                    let watching = spawn("apiservice availability", self.0.clone().watch(backend.clone()));
                    let checking = spawn("apiservice health", active::run(backend.clone()));
                    tasks.insert(name.clone(), (backend.clone(), Watched(vec![watching, checking])));
                }
            }
            let objects = self.0.source.list(API_SERVICES);
            let written = self.0.write_local_conditions(&objects).await;
            let present = objects.iter().map(|o| o.name().into()).collect();
            for gone in measured.difference(&present) {
                self.0.shared.metrics.forget(gone);
            }
            measured = present;
            pace.done();
            let retry = Instant::now() + if written { LOOK_INTERVAL } else { WRITE_PAUSE };
            tokio::select! {
                changed = registered.changed() => if changed.is_err() { return },
                Ok(()) = policies.changed() => {}
                Ok(()) = replaced.changed() => {}
                () = sleep_until(retry) => {}
                () = &mut stop => return,
            }
        }
    }

    /// Keeps the status of BackendPolicies up to date until `stop` resolves.
    pub async fn run_policies(self, writer: Arc<dyn BackendPolicies>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut policies = self.0.policies.clone();
        let mut status = PolicyStatus::default();
        loop {
            policies.borrow_and_update();
            self.0.sync();
            let inner = &self.0;
            let backend = |name: &str| inner.backends.load().get(name).cloned();
            let known = |name: &str| inner.backends.load().contains_key(name);
            let now = inner.clock.now();
            status
                .look(inner.source.as_ref(), backend, known, writer.as_ref(), now)
                .await;
            let some = !inner.source.list(BACKEND_POLICIES).is_empty();
            tokio::select! {
                changed = policies.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY), if some => {}
                () = &mut stop => return,
            }
        }
    }
}

/// Tasks that end when this is dropped.
struct Watched(Vec<JoinHandle<()>>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

// === impl Inner ===

impl Inner {
    /// Makes backends of what APIServices say now. Those that stay keep their connections.
    fn sync(&self) {
        let is_new = || {
            self.synced.load(Ordering::Acquire) != self.registered.borrow().wrapping_add(1)
                || self.synced_policies.load(Ordering::Acquire) != self.policies.borrow().wrapping_add(1)
        };
        if !is_new() {
            return;
        }
        let mut made_from = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if is_new() {
            self.build(&self.backends.load(), &mut made_from);
        }
    }

    /// Makes all backends, taking over those of `old` that are the same. Called by one at a time.
    fn build(&self, old: &HashMap<CompactString, Arc<Backend>>, made_from: &mut MadeFrom) {
        let now = self.registered.borrow().wrapping_add(1);
        let now_policies = self.policies.borrow().wrapping_add(1);
        let assigned = Assigned::read(self.source.as_ref());
        let objects = self.source.list(API_SERVICES);
        let mut new = HashMap::with_capacity(old.len() + 1);
        let mut read = HashMap::with_capacity(objects.len());
        for object in objects {
            let name = CompactString::from(object.name());
            let known = made_from.api_services.get(&name);
            let unread = made_from.policies == now_policies && known.is_some_and(|known| Arc::ptr_eq(known, &object));
            let backend = match unread {
                true => old.get(&name).cloned(),
                false => self.made(&object, old.get(&name), &assigned),
            };
            if let Some(backend) = backend {
                new.insert(name.clone(), backend);
            }
            read.insert(name, object);
        }
        let stays = |(name, backend)| old.get(name).is_some_and(|b| Arc::ptr_eq(b, backend));
        let same = old.len() == new.len() && new.iter().all(stays);
        self.backends.store(Arc::new(new));
        *made_from = MadeFrom {
            api_services: read,
            policies: now_policies,
        };
        self.synced.store(now, Ordering::Release);
        self.synced_policies.store(now_policies, Ordering::Release);
        if !same {
            self.replaced.send_modify(|n| *n += 1);
        }
    }

    /// The backend of an APIService, if it names a service: the one it had, where it means the same.
    fn made(&self, object: &Node, old: Option<&Arc<Backend>>, assigned: &Assigned) -> Option<Arc<Backend>> {
        if !is_remote(object) {
            return None;
        }
        let api_service = ApiService::read(object);
        let policy = self.policy_of(&api_service, assigned);
        let same = |b: &&Arc<Backend>| {
            Some(b.remote()) == api_service.remote.as_ref() && b.api_service.group_version == api_service.group_version
        };
        match old.filter(same) {
            Some(backend) => {
                backend.set_policy(policy, &self.shared);
                Some(backend.clone())
            }
            None => Backend::new(api_service, policy, is_available(object), &self.shared),
        }
    }

    fn policy_of(&self, api_service: &ApiService, assigned: &Assigned) -> Policy {
        let group = &api_service.group_version.group;
        let addresses = self
            .static_addresses
            .iter()
            .filter(|(name, _)| *name == *group || *name == *api_service.name)
            .map(|(_, target)| target.clone());
        let standard = Policy {
            addresses: addresses.collect(),
            ..self.policy.clone()
        };
        match assigned.of_target(&api_service.name) {
            Some(policy) => Policy::read(policy, &standard),
            None => standard,
        }
    }

    /// Brings metrics up to date.
    fn measure(&self) {
        let metrics = &self.shared.metrics;
        for (name, group) in self.learning.groups().iter() {
            if let Some(at) = group.learnt.at() {
                metrics.discovery_confirmed(name, at);
            }
        }
        let endpoints: Vec<_> = self
            .backends
            .load()
            .values()
            .flat_map(|b| b.known_endpoints())
            .collect();
        metrics.refresh(self.clock.now(), &endpoints);
    }

    /// Groups served here are always available. Returns whether all conditions are written.
    async fn write_local_conditions(&self, objects: &[Arc<Node>]) -> bool {
        let (mut all, local) = (true, Available::local());
        for object in objects.iter().filter(|o| !is_remote(o)) {
            all &= self.write(object, &local).await;
        }
        all
    }

    /// Watches over one backend until its task is aborted.
    async fn watch(self: Arc<Inner>, backend: Arc<Backend>) {
        let mut watched = Watch::new(&self, &backend);
        let mut suspicious = false;
        loop {
            watched.mark(&self, &backend);
            let Some(object) = self.source.get(API_SERVICES, "", backend.name()) else {
                // It is gone, and this task soon will be; or it comes again as it was.
                match watched.registered.changed().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            };
            let timeout = if suspicious {
                self.probing.suspicious_timeout
            } else {
                self.probing.timeout
            };
            let working = self.checks.add().start();
            let verdict = availability::check(&backend, self.source.as_ref(), timeout).await;
            let available = verdict.is_true();
            backend.set_available(verdict.clone());
            let written = self.write(&object, &verdict).await;
            drop(working);
            if !(available && written) {
                self.checks.retry();
            }
            let pause = match (available, written) {
                (_, false) => WRITE_PAUSE,
                (true, true) => self.probing.interval,
                (false, true) => watched.next_pause(&self.probing),
            };
            if available {
                watched.failures = 0;
            }
            suspicious = watched.wait(&backend, &verdict, self.source.as_ref(), pause).await;
        }
    }

    /// Writes a condition where it differs. Returns whether the stored object says so now.
    async fn write(&self, object: &Node, verdict: &Available) -> bool {
        let name = object.name();
        let before = is_available(object);
        self.shared.metrics.set_available(name, verdict.is_true());
        if says(object, verdict) {
            return true;
        }
        let mut changed = object.clone();
        set_available(&mut changed, verdict, self.clock.now());
        if let Err(error) = self.api_services.update_status(changed).await {
            tracing::debug!(apiservice = name, %error, "the condition is not written");
            return false;
        }
        if before != verdict.is_true() {
            tracing::info!(
                apiservice = name,
                available = verdict.is_true(),
                reason = verdict.reason,
                message = verdict.message,
                "availability changed"
            );
            if before {
                self.shared.metrics.became_unavailable(name, verdict.reason);
            }
        }
        true
    }
}

/// What one backend's task waits for: changes of its own objects.
struct Watch {
    /// Of its Services and their EndpointSlices.
    objects: Vec<watch::Receiver<u64>>,
    registered: watch::Receiver<u64>,
    failures: u32,
}

impl Watch {
    fn new(inner: &Inner, backend: &Backend) -> Watch {
        Watch {
            objects: Vec::new(),
            registered: inner.source.changes_of(API_SERVICES, "", backend.name()),
            failures: 0,
        }
    }

    /// Everything up to now is about to be looked at.
    fn mark(&mut self, inner: &Inner, backend: &Backend) {
        let routes = backend.routes();
        let of = |service: &ServiceReference| {
            [SERVICES, ENDPOINT_SLICES].map(|of| inner.source.changes_of(of, &service.namespace, &service.name))
        };
        self.objects = routes.iter().flat_map(|route| of(&route.service)).collect();
        self.registered.borrow_and_update();
    }

    fn next_pause(&mut self, probing: &Probing) -> Duration {
        let pause = (probing.first_pause * (1 << self.failures.min(10))).min(probing.max_pause);
        self.failures += 1;
        pause
    }

    /// Waits until there may be something new to say: the objects say something else, an endpoint failed, or it is time.
    /// Returns whether an endpoint failed.
    async fn wait(
        &mut self,
        backend: &Arc<Backend>,
        verdict: &Available,
        source: &dyn ObjectSource,
        pause: Duration,
    ) -> bool {
        let (earliest, until) = (Instant::now() + MIN_PAUSE, Instant::now() + pause);
        let objects = || {
            let problem = availability::check_services(backend, source);
            let targets = backend
                .pool()
                .map(|pool| pool.endpoints().iter().map(|e| e.authority.clone()).collect::<Vec<_>>());
            (problem, targets.map_err(|e| e.to_string()))
        };
        let before = objects();
        let mut configured = backend.configurations();
        let mut timer = std::pin::pin!(sleep_until(until));
        loop {
            tokio::select! {
                () = moved(&mut self.objects) => {}
                Ok(()) = configured.changed() => return false,
                // The object may have been changed, or its condition by somebody else.
                Ok(()) = self.registered.changed() => {
                    if !is_told(source, backend, verdict) { return false }
                }
                () = backend.troubled(), if verdict.is_true() => {
                    sleep_until(earliest).await;
                    return true;
                }
                () = &mut timer => return false,
            }
            if objects() != before {
                return false;
            }
        }
    }
}

/// Resolves when one of these numbers has changed.
async fn moved(numbers: &mut [watch::Receiver<u64>]) {
    let changes = numbers.iter_mut().map(|number| {
        Box::pin(async move {
            if number.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let mut changes: FuturesUnordered<_> = changes.collect();
    if changes.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Whether the stored object is of this backend and carries this verdict.
fn is_told(source: &dyn ObjectSource, backend: &Backend, verdict: &Available) -> bool {
    let Some(object) = source.get(API_SERVICES, "", backend.name()) else {
        return false;
    };
    let same_remote = ApiService::read(&object).remote.as_ref() == Some(backend.remote());
    let same_status = verdict.status != ConditionStatus::Unknown && is_available(&object) == verdict.is_true();
    same_remote && same_status
}
