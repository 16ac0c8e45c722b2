//! [`Routes`]: keeps the routing snapshot in line with built-in definitions, custom ones, and APIServices.

use crate::caches::CacheSet;
use crate::core_backend::is_own;
use compact_str::CompactString;
use fairlead_api::{GroupVersion, Node};
use fairlead_discovery::{Origin, Registration, RemoteGroupVersion, Router, RoutingSnapshot};
use fairlead_gateway::discovery::Dialect;
use fairlead_gateway::objects::{API_SERVICES, ObjectSource};
use fairlead_gateway::openapi;
use fairlead_gateway::pace::Pace;
use fairlead_gateway::policy::DiscoveryMode;
use fairlead_gateway::registration::{self, Managed};
use fairlead_gateway::{Freshness, Gateway, RemoteGroup};
use fairlead_resource::ResourceDefinition;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::watch;

/// The one builder of snapshots. Cheap to clone.
#[derive(Clone)]
pub struct Routes(Arc<Inner>);

struct Inner {
    router: Router,
    /// Of what is kept here, whether or not clients are shown it: less than `router` where backends serve more, and more
    /// behind a core.
    own: Router,
    /// Whether clients are shown built-in groups from here, or from the core.
    behind_core: bool,
    caches: CacheSet,
    built_in: Vec<Arc<ResourceDefinition>>,
    objects: Arc<dyn ObjectSource>,
    gateway: OnceLock<Gateway>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// APIServices that the registrar should keep.
    wanted: watch::Sender<Arc<Vec<Node>>>,
}

#[derive(Default)]
struct State {
    custom: Vec<Arc<ResourceDefinition>>,
    core: Vec<Registration>,
    /// What each remote group was turned into: as long as it is the same, so is its part of every document.
    remote: HashMap<CompactString, (Option<Arc<RemoteGroup>>, Arc<RemoteGroupVersion>)>,
}

/// The group of APIServices has none of its own, and comes before all others.
const FIRST: i64 = 20_000;

impl Routes {
    /// Serves the built-in definitions at once.
    pub fn new(built_in: Vec<Arc<ResourceDefinition>>, caches: CacheSet, objects: Arc<dyn ObjectSource>) -> Routes {
        let router = Router::new(RoutingSnapshot::default());
        Routes::made(built_in, caches, objects, (router.clone(), router), Vec::new())
    }

    /// Serves what is this server's own beside what the core serves. Everything else is kept, and shown to nobody.
    pub fn behind_core(
        built_in: Vec<Arc<ResourceDefinition>>,
        caches: CacheSet,
        objects: Arc<dyn ObjectSource>,
        core: Vec<Registration>,
    ) -> Routes {
        let own = Router::new(RoutingSnapshot::build(None, &built_in, &[]));
        Routes::made(
            built_in,
            caches,
            objects,
            (Router::new(RoutingSnapshot::default()), own),
            core,
        )
    }

    fn made(
        built_in: Vec<Arc<ResourceDefinition>>,
        caches: CacheSet,
        objects: Arc<dyn ObjectSource>,
        (router, own): (Router, Router),
        core: Vec<Registration>,
    ) -> Routes {
        caches.register(&built_in);
        let routes = Routes(Arc::new(Inner {
            router,
            own,
            behind_core: !core.is_empty(),
            caches,
            built_in,
            objects,
            gateway: OnceLock::new(),
            state: Mutex::new(State {
                core,
                ..State::default()
            }),
            changed: watch::Sender::new(0),
            wanted: watch::Sender::new(Arc::default()),
        }));
        routes.rebuild();
        routes
    }

    pub fn router(&self) -> Router {
        self.0.router.clone()
    }

    /// What is kept here; the same router where there is no core.
    pub fn own(&self) -> Router {
        self.0.own.clone()
    }

    /// Replaces what the core serves.
    pub fn publish_core(&self, registrations: Vec<Registration>) {
        {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.core = registrations;
        }
        self.rebuild();
    }

    /// A number that changes whenever the snapshot does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The APIServices that should be there for what is served here.
    pub fn wanted(&self) -> watch::Receiver<Arc<Vec<Node>>> {
        self.0.wanted.subscribe()
    }

    /// Gives the gateway whose knowledge of backends is folded in.
    pub fn set_gateway(&self, gateway: Gateway) {
        let _only_once = self.0.gateway.set(gateway);
        self.rebuild();
    }

    /// Replaces the custom definitions. They are served when this returns.
    pub fn publish_custom(&self, definitions: &[Arc<ResourceDefinition>]) {
        {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            // A cache reads objects by the schemas it was started with: it ends with them. While a definition is being deleted
            // it is another one, of the same schemas: whoever watches sees its objects go.
            let kept: HashSet<_> = definitions.iter().map(Arc::as_ptr).collect();
            let changed = state.custom.iter().filter(|old| !kept.contains(&Arc::as_ptr(old)));
            for definition in changed.filter(|old| !read_alike(&state.custom, definitions, &old.storage.prefix)) {
                self.0
                    .caches
                    .forget(&definition.storage.prefix, &definition.group_resource());
            }
            self.0.caches.register(definitions);
            state.custom = definitions.to_vec();
        }
        self.rebuild();
    }

    /// Follows APIServices and backends until it is dropped.
    pub async fn run(self) {
        let mut services = self.0.objects.changes(API_SERVICES);
        let mut groups = match self.0.gateway.get() {
            Some(gateway) => gateway.group_changes(),
            None => return,
        };
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                changed = services.changed() => if changed.is_err() { return },
                changed = groups.changed() => if changed.is_err() { return },
            }
            pace.turn().await;
            services.borrow_and_update();
            groups.borrow_and_update();
            self.rebuild();
            pace.done();
        }
    }

    /// Folds everything into a new snapshot. Parts that did not change are taken over.
    pub fn rebuild(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut definitions: Vec<_> = self.shown().cloned().collect();
        definitions.extend(state.custom.iter().cloned());
        let mut registrations = self.registrations(&mut state);
        if self.0.behind_core {
            let all: Vec<_> = self.0.built_in.iter().chain(&state.custom).cloned().collect();
            let previous = self.0.own.load();
            self.0
                .own
                .store(RoutingSnapshot::build(Some(&previous), &all, &registrations));
            // A registration here takes a group-version over from the core, as it does from built-in ones.
            let known: Vec<GroupVersion> = registrations.iter().map(|r| r.group_version.clone()).collect();
            registrations.extend(state.core.iter().filter(|r| !known.contains(&r.group_version)).cloned());
        }
        let previous = self.0.router.load();
        self.0
            .router
            .store(RoutingSnapshot::build(Some(&previous), &definitions, &registrations));
        let wanted = self.local_services(&state.custom);
        self.0.wanted.send_if_modified(|now| {
            let differs = **now != wanted;
            *now = Arc::new(wanted);
            differs
        });
        self.0.changed.send_modify(|n| *n += 1);
    }

    /// What APIServices say; for built-in group-versions also before they have one.
    fn registrations(&self, state: &mut State) -> Vec<Registration> {
        let mut found: HashMap<GroupVersion, Registration> = HashMap::new();
        for gv in self.built_in_versions() {
            let service = registration::api_service(&gv, Managed::OnStart);
            let mut registered = local(&service);
            if gv.group == API_SERVICES.0 {
                registered.group_priority = FIRST;
            }
            found.insert(gv, registered);
        }
        let known = self.0.gateway.get().map(Gateway::remote_groups).unwrap_or_default();
        let mut remote = HashMap::new();
        for service in self.0.objects.list(API_SERVICES) {
            let mut registered = local(&service);
            if service.at(&["spec", "service"]).is_some_and(|s| !s.is_null()) {
                let name = CompactString::from(service.name());
                let group = known.get(&name).cloned();
                let version = match state.remote.remove(&name) {
                    Some((old, version)) if same(&old, &group) => version,
                    _ => Arc::new(remote_version(&name, &registered.group_version, group.as_deref())),
                };
                registered.remote = Some(version.clone());
                remote.insert(name, (group, version));
            }
            found.insert(registered.group_version.clone(), registered);
        }
        state.remote = remote;
        found.into_values().collect()
    }

    /// The built-in definitions that clients are shown from here.
    fn shown(&self) -> impl Iterator<Item = &Arc<ResourceDefinition>> {
        let all = !self.0.behind_core;
        self.0.built_in.iter().filter(move |d| all || is_own(&d.group))
    }

    fn built_in_versions(&self) -> Vec<GroupVersion> {
        let mut versions: Vec<GroupVersion> = self.shown().map(|d| d.group_version()).collect();
        versions.sort();
        versions.dedup();
        versions
    }

    fn local_services(&self, custom: &[Arc<ResourceDefinition>]) -> Vec<Node> {
        let built_in = self.built_in_versions();
        let mut versions: Vec<GroupVersion> = custom.iter().map(|d| d.group_version()).collect();
        versions.sort();
        versions.dedup();
        versions.retain(|gv| !built_in.contains(gv));
        let own = |gv: &&GroupVersion| gv.group != API_SERVICES.0;
        let built_in = built_in
            .iter()
            .filter(own)
            .map(|gv| registration::api_service(gv, Managed::OnStart));
        built_in
            .chain(versions.iter().map(|gv| registration::api_service(gv, Managed::Always)))
            .collect()
    }
}

/// Whether the versions of a resource are the same in both, as far as reading goes.
fn read_alike(before: &[Arc<ResourceDefinition>], after: &[Arc<ResourceDefinition>], prefix: &str) -> bool {
    let versions = |all: &'_ [Arc<ResourceDefinition>]| -> Vec<Arc<ResourceDefinition>> {
        all.iter().filter(|d| d.storage.prefix == prefix).cloned().collect()
    };
    let (before, after) = (versions(before), versions(after));
    before.len() == after.len() && before.iter().zip(&after).all(|(old, new)| old.reads_like(new))
}

fn local(service: &Node) -> Registration {
    let number = |field| service.at(&["spec", field]).and_then(Node::as_i64).unwrap_or(0);
    Registration {
        group_version: GroupVersion::new(service.str_at(&["spec", "group"]), service.str_at(&["spec", "version"])),
        group_priority: number("groupPriorityMinimum"),
        version_priority: number("versionPriority"),
        remote: None,
    }
}

fn same(old: &Option<Arc<RemoteGroup>>, new: &Option<Arc<RemoteGroup>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

fn remote_version(name: &str, gv: &GroupVersion, group: Option<&RemoteGroup>) -> RemoteGroupVersion {
    let mut version = RemoteGroupVersion {
        api_service: name.into(),
        group: gv.group.clone(),
        version: gv.version.clone(),
        stale: true,
        ..RemoteGroupVersion::default()
    };
    if let Some(group) = group {
        let of = |known: &Option<openapi::Known>| known.as_ref().map_or("", |k| k.origin.as_str());
        let problems = group.problem.iter().map(ToString::to_string);
        version.resources = group.resources.clone();
        version.stale = group.freshness == Freshness::Stale;
        version.last_known = group.shown == DiscoveryMode::LastKnown;
        version.learnt = group
            .learnt
            .at()
            .map(|t| UNIX_EPOCH + Duration::from_secs(t.unix_seconds().max(0).unsigned_abs()));
        version.confirmed = group.learnt.shared();
        let v3 = group.openapi.v3.as_ref().map(|known| &known.document);
        version.openapi_v3 = v3.map(|d| (d.bytes.clone(), d.hash.clone()));
        version.openapi_v2 = group.openapi.v2.as_ref().map(|known| known.document.bytes.clone());
        version.origin = Origin {
            service: group.service.to_string(),
            discovery: match group.dialect {
                Dialect::Unknown => "",
                Dialect::Aggregated => "aggregated",
                Dialect::Legacy => "legacy",
            },
            openapi_v2: of(&group.openapi.v2),
            openapi_v3: of(&group.openapi.v3),
            problems: problems.chain(group.openapi.problems.iter().cloned()).collect(),
            claims: group.claims.iter().map(ToString::to_string).collect(),
        };
    }
    version
}
