//! Composition: from a configuration to a running server. Values are made once, in the order they need each other.

use crate::access::{Access, Behind, CreateByUpdate};
use crate::admission::{self, Late, Outside};
use crate::aggregation::{EngineApiServices, GatewayObjects, GatewayRemote};
use crate::allocation::StoredLedger;
use crate::allocation::repair::{Leaks, Patience};
use crate::audit;
use crate::authentication_info::{self, Required};
use crate::backup::EmbeddedBackup;
use crate::bootstrap::Bootstrap;
use crate::caches::CacheSet;
use crate::config::Config;
use crate::connections::{Connections, Needs};
use crate::core_backend::{CoreBackend, CoreObjects};
use crate::endpoints::Endpoints;
use crate::entropy::RandomEntropy;
use crate::health;
use crate::identity::{self, Identity};
use crate::objects::CachedObjects;
use crate::routes::Routes;
use crate::scheme::{AllKinds, BuiltinKinds};
use crate::store::{self, Opened};
use crate::{conflicts, controllers, custom, encryption, files, shared, sight, version};
use anyhow::{Context, Result};
use bytes::Bytes;
use fairlead_api::{Clock, json};
use fairlead_audit::Auditor;
use fairlead_auth::authentication::keys;
use fairlead_builtin::allocators::Allocators;
use fairlead_builtin::{Builtins, Deps};
use fairlead_crd::hooks::DefinitionHooks;
use fairlead_discovery::Router;
use fairlead_gateway::availability::Probing;
use fairlead_gateway::objects::ObjectSource;
use fairlead_gateway::tls::ClientIdentity;
use fairlead_gateway::{AddressPolicy, Gateway, Policy, Registrar, Routing, Tuning};
use fairlead_resource::at_rest::Form;
use fairlead_resource::{Client, Engine, EngineConfig, ResourceDefinition};
use fairlead_server::backup::BackupSource;
use fairlead_server::chain::{Chain, OpenId, Services, Settings};
use fairlead_server::drain::Drain;
use fairlead_server::listener::{self, Listener, ListenerConfig};
use fairlead_server::metrics::Metrics;
use fairlead_server::tls::{Certificates, TlsConfig};
use fairlead_storage::Embedded;
use fairlead_telemetry::{Families, Health, Hook, SystemClock, task};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

/// A server that answers.
pub struct Running {
    pub address: SocketAddr,
    pub kubeconfig: PathBuf,
    pub authority_pem: String,
    pub chain: Chain,
    serving: Hook,
    drain: Drain,
    shutdown_delay: Duration,
    listener: JoinHandle<()>,
    auditor: Option<Arc<Auditor>>,
    loops: Vec<JoinHandle<()>>,
    controllers: Vec<JoinHandle<()>>,
    objects: Arc<GatewayObjects>,
    embedded: Option<Embedded>,
}

/// What keys in etcd begin with, and what ciphers authenticate with them.
const KEY_PREFIX: &str = "/registry";

/// How long the built-in loops may take to end.
const CONTROLLERS_END: Duration = Duration::from_secs(2);

/// How long the last audit events may take.
const AUDIT_END: Duration = Duration::from_secs(10);

/// Starts a server and waits until it is ready.
///
/// # Errors
/// One sentence that says what an operator has to change.
pub async fn start(config: Config) -> Result<Running> {
    // The port first: a second server on it must not touch the data of the first.
    let socket = listener::take_port(config.listen).await?;
    let address = socket.local_addr().context("the listener has no address")?;
    let clock: Arc<SystemClock> = Arc::new(SystemClock);
    let entropy = Arc::new(RandomEntropy);
    let now = OffsetDateTime::now_utc();
    let mut identity = Identity::prepare(&config, now)?;

    let families = Families::default();
    let auditor = audit::start(&config.audit, &families, clock.clone())?;
    let Opened {
        stores,
        embedded,
        loops: upkeep,
    } = store::open(&config, clock.clone(), &families).await?;
    families
        .gauges(
            "kubernetes_build_info",
            "The version this server implements.",
            &version::build_info().iter().map(|(k, _)| *k).collect::<Vec<_>>(),
        )
        .with(&version::build_info().iter().map(|(_, v)| *v).collect::<Vec<_>>())
        .set(1);
    let health = Health::default();
    let (steps, serving) = health::register(&health, &stores, health::Patience::of(&config));

    let encryption = match &config.encryption {
        None => None,
        Some(file) => {
            let prefix = config.etcd.as_ref().map_or(KEY_PREFIX, |etcd| &etcd.prefix);
            let server = server_id(&config, address);
            let started = encryption::start(file, prefix, &server, clock.clone(), &families).await;
            let (encryption, reloader) = started.context("--encryption-provider-config")?;
            encryption::watch_over(&health, file, &encryption);
            Some((encryption, reloader))
        }
    };
    let (encryption, reloader) = encryption.unzip();
    let caches = CacheSet::new(stores, encryption.clone());
    let objects = Arc::new(CachedObjects::new(caches.clone()));
    let core = match &config.core_backend {
        Some(path) => Some(CoreBackend::connect(path, &families).await?),
        None => None,
    };
    // Whom the core's own groups are asked for, known once there are routes.
    let public: Arc<OnceLock<Router>> = Arc::default();
    let behind = core.as_ref().map(|c| Behind {
        core: c.core.clone(),
        router: public.clone(),
    });
    let access = Access::new(&config, &identity, objects.clone(), clock.clone(), &families, behind)?;
    let signing = identity.tokens.sign.take();
    let hooks = Arc::new(access.hooks(&config, signing, objects.clone()));
    let (first, last) = config.network.node_ports;
    let form = config.etcd.as_ref().map_or(Form::Json, |etcd| etcd.form);
    let ranges = &config.network.service_ranges;
    let ledger = StoredLedger::new(caches.clone(), ranges.clone(), first..=last, form);

    // Custom definitions are published to the routes, which are made of definitions with the hook that publishes.
    let published: Arc<OnceLock<Routes>> = Arc::default();
    let late = Late::default();
    let lifecycle = custom::lifecycle(published.clone(), clock.clone(), late.clone());
    let builtins = fairlead_builtin::load(&Deps {
        auth: Some(hooks),
        allocators: Allocators::new(ranges, Arc::new(ledger.clone())),
        custom: Some(Arc::new(DefinitionHooks {
            lifecycle: lifecycle.clone(),
        })),
        enabled: config.enabled.clone(),
        form,
    });
    let kinds = BuiltinKinds(Arc::new(builtins));
    let gateway_objects = Arc::new(GatewayObjects::new(objects, caches.clone()));
    let copies = core
        .as_ref()
        .map(|_| Arc::new(CoreObjects::new(gateway_objects.clone())));
    let cluster: Arc<dyn ObjectSource> = match &copies {
        Some(copies) => copies.clone(),
        None => gateway_objects.clone(),
    };
    let definitions = kinds.0.definitions.clone();
    let routes = match &core {
        Some(core) => Routes::behind_core(definitions, caches.clone(), cluster.clone(), core.registrations()),
        None => Routes::new(definitions, caches.clone(), cluster.clone()),
    };
    published.get_or_init(|| routes.clone());
    sight::count_aggregations(&families, &routes);
    public.get_or_init(|| routes.router());
    let router = routes.own();

    let admission = Arc::new(admission::chain(
        &config,
        caches.clone(),
        access.authorizer.clone(),
        clock.clone(),
        &families,
        late.clone(),
    )?);
    let engine = Engine::new(EngineConfig {
        caches: Arc::new(caches.clone()),
        scheme: Arc::new(AllKinds {
            built_in: kinds.clone(),
            router: router.clone(),
        }),
        admission: admission.clone(),
        authorize_create: Arc::new(CreateByUpdate(access.authorizer.clone())),
        clock: clock.clone(),
        entropy: entropy.clone(),
    });
    let client = Client::new(engine.clone(), "kube-apiserver");
    let api_services = Arc::new(EngineApiServices {
        client: client.clone(),
        router: router.clone(),
    });
    let gateway = gateway(&config, &identity, cluster, api_services.clone(), address, &families)?;
    late.get_or_init(|| Outside {
        client: client.clone(),
        router: router.clone(),
        webhooks: gateway.webhooks(None),
    });
    routes.set_gateway(gateway.clone());

    for cache in caches.all() {
        cache.ready().await.context("the stored objects cannot be loaded")?;
    }
    let mut leaks = Leaks::default();
    if let Some(addresses) = stored(&kinds.0, "ipaddresses") {
        ledger.write_with(client.clone(), addresses);
        let patience = if config.etcd.is_some() {
            Patience::SHARED
        } else {
            Patience::ALONE
        };
        ledger.repair(clock.now(), patience, &mut leaks).await;
    }
    Bootstrap::new(engine.clone(), router.clone())
        .run(&config, &access, address, &*clock, &steps)
        .await?;
    let endpoints = endpoints(&config, &kinds.0, &caches, &client, address);
    if let Some(endpoints) = &endpoints {
        endpoints.begin().await;
    }
    let policies = api_services.clone();
    let mut registrar = Registrar::new(gateway_objects.clone(), api_services.clone(), routes.wanted());
    registrar.reconcile().await;
    steps.finish("kube-apiserver-autoregistration");
    custom::start(&lifecycle, &router, &engine, &kinds.0).await?;
    steps.finish("crd-informer-synced");

    let drain = Drain::default();
    let mut loops = vec![
        task::spawn("routes", routes.clone().run()),
        task::spawn("gateway", gateway.clone().run(stop(&drain))),
        task::spawn("backend-policies", gateway.clone().run_policies(policies, stop(&drain))),
        task::spawn("registrar", registrar.run(stop(&drain))),
        task::spawn(
            "conflicts",
            conflicts::run(
                routes.clone(),
                gateway_objects.clone(),
                api_services,
                Arc::new(kinds.clone()),
                clock.clone(),
            ),
        ),
        task::spawn(
            "authentication-info",
            authentication_info::run(
                Required::new(&config, &access),
                gateway_objects.clone(),
                client.clone(),
                router.clone(),
                clock.clone(),
            ),
        ),
        task::spawn("service-ranges", ledger.clone().run(clock.clone(), leaks)),
        task::spawn("service-addresses", ledger.watch_over()),
        task::spawn("count-objects", caches.clone().count(families.clone())),
    ];
    if config.etcd.is_some()
        && let Some(stored) = caches.of(custom::GROUP, custom::PLURAL)
    {
        let following = shared::definitions(stored, lifecycle.clone(), engine.clone());
        loops.push(task::spawn("shared-definitions", following));
    }
    loops.extend(upkeep.into_iter().map(|(name, upkeep)| task::spawn(name, upkeep)));
    if let Some((encryption, reloader)) = encryption.zip(reloader) {
        loops.push(task::spawn("reload-encryption", reloader.run(encryption)));
    }
    let acted = controllers::Acted {
        engine: engine.clone(),
        routes: routes.clone(),
        gateway: gateway.clone(),
        clock: clock.clone(),
        root_ca_pem: identity.root_ca_pem(&config)?,
    };
    let mut controllers = controllers::start(&config, acted, &drain, &*entropy);
    controllers.extend(endpoints.map(|endpoints| task::spawn("endpoints", endpoints.run(drain.subscribe()))));
    let mut settings = settings(&config, &identity, &access, address)?;
    let behind = core.as_ref().map(|c| c.core.clone());
    let connections = Needs {
        client: client.clone(),
        router: router.clone(),
        admission,
        authorizer: access.authorizer.clone(),
        entropy: entropy.clone(),
        metrics: Metrics::register(&families).of(routes.router()),
    };
    let connections = Connections::new(connections, &config.kubelets, addresses(&config, address), &families)?;
    if let (Some(core), Some(copies)) = (core, copies) {
        if let Some(version) = core.version().await {
            settings.version = version.into();
        }
        loops.extend(core.start(routes.clone(), copies, client));
    }

    let services = Services {
        router: routes.router(),
        engine,
        remote: Arc::new(GatewayRemote {
            gateway,
            clock: clock.clone(),
            metrics: Metrics::register(&families).of(routes.router()),
            core: behind,
            connections,
        }),
        protobuf: kinds.0.protobuf.clone(),
        components: Arc::new(kinds),
        authenticator: access.authenticator.clone(),
        authorizer: access.authorizer.clone(),
        auditor: auditor.clone(),
        backup: embedded
            .clone()
            .map(|store| Arc::new(EmbeddedBackup(store)) as Arc<dyn BackupSource>),
        entropy,
        families: families.clone(),
        health,
        drain: drain.clone(),
    };
    let chain = Chain::new(services, settings);
    let listening = ListenerConfig {
        tls: identity.tls.clone(),
        max_streams: config.tls.max_streams,
        drain_timeout: config.limits.request_timeout,
    };
    let listener = Listener::new(socket, listening)?;
    loops.push(task::spawn(
        "reload-certificates",
        reload(listener.certificates(), identity.tls.clone()),
    ));
    let metrics = Metrics::register(&families);
    let listener = task::spawn("listener", listener.run(chain.clone(), drain.clone(), metrics));

    let kubeconfig = identity.write_kubeconfig(&config, address)?;
    steps.finish_all();
    serving.finish();
    if let Some(path) = &config.ready_file {
        files::write_public(path, format!("{}\n", identity::url(address)).as_bytes())?;
    }
    Ok(Running {
        address,
        kubeconfig,
        authority_pem: identity.authority_pem,
        chain,
        serving,
        drain,
        shutdown_delay: config.limits.shutdown_delay,
        listener,
        auditor,
        loops,
        controllers,
        objects: gateway_objects,
        embedded,
    })
}

impl Running {
    /// Stops: not ready first, then no new connections, then the running requests end, then the store closes.
    pub async fn stop(self) {
        self.serving.reopen();
        tokio::time::sleep(self.shutdown_delay).await;
        self.drain.begin();
        if let Err(error) = self.listener.await {
            tracing::error!(%error, "the listener did not end well");
        }
        if let Some(auditor) = self.auditor {
            auditor.close(AUDIT_END).await;
        }
        // One of them may have a Lease to let go of.
        let until = tokio::time::Instant::now() + CONTROLLERS_END;
        for mut running in self.controllers {
            if tokio::time::timeout_at(until, &mut running).await.is_err() {
                running.abort();
            }
        }
        for running in &self.loops {
            running.abort();
        }
        self.objects.stop();
        if let Some(store) = self.embedded {
            store.close().await;
        }
    }
}

/// A name for this server in metrics, where several are scraped.
fn server_id(config: &Config, address: SocketAddr) -> String {
    format!("apiserver-{}", SocketAddr::new(config.advertise, address.port()))
}

/// Resolves when the server drains.
fn stop(drain: &Drain) -> impl Future<Output = ()> + Send + use<> {
    let drain = drain.clone();
    async move { drain.wait().await }
}

fn endpoints(
    config: &Config,
    kinds: &Builtins,
    caches: &CacheSet,
    client: &Client,
    address: SocketAddr,
) -> Option<Endpoints> {
    Some(Endpoints {
        client: client.clone(),
        endpoints: stored(kinds, "endpoints")?,
        slices: stored(kinds, "endpointslices")?,
        shared: config.etcd.as_ref().map(|_| caches.store().clone()),
        address: config.advertise,
        port: address.port(),
    })
}

/// The definition of a built-in resource in the version it is stored in.
fn stored(kinds: &Builtins, plural: &str) -> Option<Arc<ResourceDefinition>> {
    let is_it = |d: &&Arc<ResourceDefinition>| d.plural == plural && d.gvk() == d.storage.kind;
    kinds.definitions.iter().find(is_it).cloned()
}

fn gateway(
    config: &Config,
    identity: &Identity,
    objects: Arc<dyn ObjectSource>,
    api_services: Arc<EngineApiServices>,
    own: SocketAddr,
    families: &Families,
) -> Result<Gateway> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let client = &identity.front_proxy.client;
    let shown = ClientIdentity::from_pem(&read(&client.certificate)?, &read(&client.key)?).with_context(|| {
        format!(
            "{} and {} cannot be shown to backends",
            client.certificate.display(),
            client.key.display()
        )
    })?;
    let gateway = fairlead_gateway::Config {
        routing: if config.aggregator_routing {
            Routing::Endpoints
        } else {
            Routing::ClusterIp
        },
        addresses: addresses(config, own),
        static_addresses: config.backends.addresses.clone(),
        policy: standard_policy(config),
        probing: Probing::default(),
        system_roots: fairlead_gateway::tls::system_roots(),
        identity: Some(shown),
    };
    Ok(Gateway::new(
        gateway,
        objects,
        api_services,
        Arc::new(SystemClock),
        families,
    ))
}

/// Where backends, pods and Services may be.
fn addresses(config: &Config, own: SocketAddr) -> AddressPolicy {
    AddressPolicy {
        allow_loopback: config.backends.allow_loopback,
        // The listener's own address may be a wildcard: what others reach it by is refused, too.
        forbidden: vec![own, SocketAddr::new(config.advertise, own.port())],
    }
}

/// What holds for backends without a BackendPolicy. One that is slow never has more than half of what the server has.
fn standard_policy(config: &Config) -> Policy {
    let mut policy = Policy::standard(Tuning::default(), Vec::new());
    policy.discovery = config.aggregated_discovery;
    policy.passes_redirects = !config.aggregator_reject_redirects;
    if let half @ 1.. = config.limits.reads_in_flight.div_ceil(2) {
        policy.bound.in_flight = half;
    }
    policy
}

fn settings(config: &Config, identity: &Identity, access: &Access, address: SocketAddr) -> Result<Settings> {
    let accounts = &config.service_accounts;
    let host = match &config.external_hostname {
        Some(host) => format!("{host}:{}", address.port()),
        None => SocketAddr::new(config.advertise, address.port()).to_string(),
    };
    let jwks_uri = accounts
        .jwks_uri
        .clone()
        .unwrap_or_else(|| format!("https://{host}{}", keys::JWKS_PATH));
    let issuer = accounts.issuers.first().map_or("", String::as_str);
    let openid = keys::openid_configuration(issuer, &jwks_uri, &identity.tokens.verify).map(|configuration| OpenId {
        configuration: json::to_vec(&configuration).into(),
        keys: json::to_vec(&keys::jwks(&identity.tokens.verify)).into(),
    });
    Ok(Settings {
        sampling: config.sight.sampling()?,
        pages: config.sight.pages(),
        page: config.sight.page,
        request_timeout: config.limits.request_timeout,
        min_request_timeout: config.limits.min_request_timeout,
        max_reads_in_flight: config.limits.reads_in_flight,
        max_writes_in_flight: config.limits.writes_in_flight,
        allowed_origins: config.allowed_origins.clone(),
        strict_transport_security: config.strict_transport_security.clone(),
        identity_headers: access.identity_headers.clone(),
        version: Bytes::from(version::document()),
        openid,
        ..Settings::default()
    })
}

/// Reads the serving certificates again when their files change.
async fn reload(certificates: Certificates, config: TlsConfig) {
    let mut seen = stamps(&config);
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let now = stamps(&config);
        if now == seen {
            continue;
        }
        match certificates.reload(&config) {
            Ok(()) => {
                tracing::info!("serving certificates were read again");
                seen = now;
            }
            Err(error) => tracing::warn!(%error, "changed serving certificates cannot be used, the old ones stay"),
        }
    }
}

fn stamps(config: &TlsConfig) -> Vec<Option<std::time::SystemTime>> {
    std::iter::once(&config.certificate)
        .chain(config.by_name.iter().map(|(_, files)| files))
        .flat_map(|files| [&files.certificate, &files.key])
        .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
        .collect()
}
