//! The stores that the flags ask for.

use crate::config::etcd::EtcdSettings;
use crate::config::{Config, DataDir};
use crate::files;
use crate::observer::{self, StoreMetrics};
use anyhow::{Context, Result};
use fairlead_api::GroupResource;
use fairlead_storage::etcd::compactor;
use fairlead_storage::{Embedded, EmbeddedConfig, Etcd, EtcdConfig, Memory, Store, StoreObserver, compaction};
use fairlead_telemetry::{Families, SystemClock};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Where the objects of each resource are stored. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    default: Arc<dyn Store>,
    overrides: Arc<[(GroupResource, Arc<dyn Store>)]>,
}

/// Stores that are open.
pub struct Opened {
    pub stores: Stores,
    /// To be closed in the end.
    pub embedded: Option<Embedded>,
    /// What keeps them small. Run until they are dropped.
    pub loops: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

/// How long etcd may take to answer at the start: it may be starting, too.
const PATIENCE: Duration = Duration::from_secs(20);

impl Stores {
    /// One store for everything.
    pub fn one(store: Arc<dyn Store>) -> Stores {
        Stores {
            default: store,
            overrides: Arc::new([]),
        }
    }

    /// The store of a resource's objects.
    pub fn of(&self, resource: &GroupResource) -> &Arc<dyn Store> {
        let own = self.overrides.iter().find(|(named, _)| named == resource);
        own.map_or(&self.default, |(_, store)| store)
    }

    /// The store of everything that has none of its own.
    pub fn default(&self) -> &Arc<dyn Store> {
        &self.default
    }

    /// The other stores, each once.
    pub fn others(&self) -> Vec<Arc<dyn Store>> {
        let mut others: Vec<Arc<dyn Store>> = Vec::new();
        for (_, store) in self.overrides.iter() {
            if !others.iter().any(|known| Arc::ptr_eq(known, store)) {
                others.push(store.clone());
            }
        }
        others
    }
}

/// Opens the stores.
///
/// # Errors
/// One sentence that says what an operator has to change.
pub async fn open(config: &Config, clock: Arc<SystemClock>, families: &Families) -> Result<Opened> {
    let observer: Arc<dyn StoreObserver> = Arc::new(StoreMetrics::register(families));
    if let Some(settings) = &config.etcd {
        return open_etcd(settings, observer, families, config.measure_every).await;
    }
    let (store, embedded): (Arc<dyn Store>, _) = match &config.data {
        DataDir::Memory(_) => (Arc::new(Memory::observed(clock, Some(observer))), None),
        DataDir::Directory(path) => {
            let directory = path.join("store");
            files::make_directory(&directory)?;
            let opened = {
                let directory = directory.clone();
                let settings = EmbeddedConfig {
                    observer: Some(observer),
                    ..EmbeddedConfig::new(clock)
                };
                tokio::task::spawn_blocking(move || Embedded::open(&directory, settings)).await?
            };
            let store = opened.with_context(|| format!("cannot open the data in {}", directory.display()))?;
            (Arc::new(store.clone()), Some(store))
        }
    };
    let mut loops: Vec<(&'static str, BoxFuture<'static, ()>)> = Vec::new();
    if !config.compaction_window.is_zero() {
        let compacting = compaction::run(store.clone(), config.compaction_window);
        loops.push(("compaction", Box::pin(compacting)));
    }
    if let Some(store) = embedded.clone().filter(|_| !config.measure_every.is_zero()) {
        let measuring = observer::measure(store, families.clone(), config.measure_every);
        loops.push(("store-size", Box::pin(measuring)));
    }
    Ok(Opened {
        stores: Stores::one(store),
        embedded,
        loops,
    })
}

/// The clusters, each once, however many resources live there.
async fn open_etcd(
    settings: &EtcdSettings,
    observer: Arc<dyn StoreObserver>,
    families: &Families,
    measure_every: Duration,
) -> Result<Opened> {
    let connect = async |servers: &[String]| {
        let config = EtcdConfig {
            servers: servers.to_vec(),
            prefix: settings.prefix.clone(),
            tls: settings.tls.clone(),
            lease_reuse: settings.lease_reuse,
            observer: Some(observer.clone()),
        };
        let connected = Etcd::connect(config, PATIENCE).await;
        connected.with_context(|| format!("--etcd-servers={} cannot be used", servers.join(",")))
    };
    let mut clusters: Vec<(Vec<String>, Etcd)> = vec![(settings.servers.clone(), connect(&settings.servers).await?)];
    let mut overrides: Vec<(GroupResource, Arc<dyn Store>)> = Vec::new();
    let default: Arc<dyn Store> = Arc::new(clusters[0].1.clone());
    let mut stores = vec![default.clone()];
    for own in &settings.overrides {
        let mut servers = own.servers.clone();
        servers.sort();
        let index = match clusters.iter().position(|(known, _)| *known == servers) {
            Some(index) => index,
            None => {
                let cluster = connect(&own.servers).await?;
                stores.push(Arc::new(cluster.clone()));
                clusters.push((servers, cluster));
                clusters.len() - 1
            }
        };
        overrides.push((own.resource.clone(), stores[index].clone()));
    }
    let mut loops: Vec<(&'static str, BoxFuture<'static, ()>)> = Vec::new();
    for (_, cluster) in &clusters {
        if let Some(interval) = settings.compaction_interval {
            loops.push(("compaction", Box::pin(compactor::run(cluster.clone(), interval))));
        }
        if !measure_every.is_zero() {
            let measuring = measure(cluster.clone(), families.clone(), measure_every);
            loops.push(("store-size", Box::pin(measuring)));
        }
    }
    Ok(Opened {
        stores: Stores {
            default,
            overrides: overrides.into(),
        },
        embedded: None,
        loops,
    })
}

/// Tells how large a cluster is, until it is dropped.
async fn measure(cluster: Etcd, families: Families, every: Duration) {
    let gauge = families.gauges(
        "apiserver_storage_size_bytes",
        "Size of the storage database file physically allocated in bytes.",
        &["storage_cluster_id"],
    );
    let names = cluster.names();
    loop {
        if let Ok(bytes) = cluster.size().await {
            gauge
                .with(&[names.as_str()])
                .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        tokio::time::sleep(every).await;
    }
}
