//! The health checks every server has, in the order clients know, and the start-up steps behind them.

use crate::config::Config;
use crate::store::Stores;
use fairlead_storage::Store;
use fairlead_telemetry::health::Scope;
use fairlead_telemetry::{Health, Hook};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The start-up steps, to be finished by name.
#[derive(Clone, Default)]
pub struct Steps(HashMap<&'static str, Hook>);

/// Upstream's start-up steps, by the names that monitoring of clusters may exclude or ask for.
const STEPS: [&str; 29] = [
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "peer-endpoint-reconciler-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "storage-readiness",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "aggregator-reload-proxy-client-cert",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "autoregister-completion",
];
const LAST_STEPS: [&str; 2] = ["apiservice-openapi-controller", "apiservice-openapiv3-controller"];

/// How long a store may take to answer a check.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub health: Duration,
    pub ready: Duration,
}

impl Patience {
    pub fn of(config: &Config) -> Patience {
        let etcd = config.etcd.as_ref();
        Patience {
            health: etcd.map_or(PATIENCE, |etcd| etcd.health_timeout),
            ready: etcd.map_or(PATIENCE, |etcd| etcd.ready_timeout),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(2);

/// Registers all checks. The second value fails `/readyz` once it is reopened: the server drains.
pub fn register(health: &Health, stores: &Stores, patience: Patience) -> (Steps, Hook) {
    health.always("ping", Scope::All);
    health.always("log", Scope::All);
    health.always("loopback-serving-certificate", Scope::Live);
    let check = |name: &str, scope, store: &Arc<dyn Store>, patience| {
        store_check(health, name, scope, store.clone(), patience);
    };
    check("etcd", Scope::All, stores.default(), patience.health);
    check("etcd-readiness", Scope::Ready, stores.default(), patience.ready);
    for (i, store) in stores.others().iter().enumerate() {
        check(&format!("etcd-override-{i}"), Scope::All, store, patience.health);
        check(
            &format!("etcd-override-readiness-{i}"),
            Scope::Ready,
            store,
            patience.ready,
        );
    }
    let mut steps = Steps::default();
    steps
        .0
        .insert("informer-sync", health.hook("informer-sync", Scope::Ready));
    for step in STEPS.iter().chain(&LAST_STEPS) {
        let name = match *step {
            "autoregister-completion" => (*step).to_owned(),
            step => format!("poststarthook/{step}"),
        };
        steps.0.insert(step, health.hook(&name, Scope::All));
    }
    let serving = Hook::default();
    let seen = serving.clone();
    health.check("shutdown", Scope::Ready, move || {
        let outcome = if seen.finished() {
            Ok(())
        } else {
            Err("process is shutting down".to_owned())
        };
        Box::pin(std::future::ready(outcome))
    });
    (steps, serving)
}

fn store_check(health: &Health, name: &str, scope: Scope, store: Arc<dyn Store>, patience: Duration) {
    health.check(name, scope, move || {
        let store = store.clone();
        Box::pin(async move {
            match tokio::time::timeout(patience, store.health()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("the store did not answer within {patience:?}")),
            }
        })
    });
}

impl Steps {
    pub fn finish(&self, name: &str) {
        self.0.get(name).expect("the step is in the list").finish();
    }

    /// Finishes what has no step of its own here.
    pub fn finish_all(&self) {
        self.0.values().for_each(Hook::finish);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_telemetry::SystemClock;
    use fairlead_telemetry::health::Endpoint;

    #[tokio::test]
    async fn the_checks_are_upstreams() {
        let directory = std::env::var("FAIRLEAD_CONFORMANCE").unwrap_or_else(|_| "../../../shared/conformance".into());
        let health = Health::default();
        let store = Arc::new(fairlead_storage::Memory::new(Arc::new(SystemClock)));
        let patience = Patience {
            health: PATIENCE,
            ready: PATIENCE,
        };
        let (steps, serving) = register(&health, &Stores::one(store), patience);
        assert!(!health.all(Endpoint::Readyz, &[]).await.healthy);
        steps.finish_all();
        serving.finish();
        for endpoint in Endpoint::ALL {
            let Ok(golden) = std::fs::read_to_string(format!("{directory}/golden/{}.verbose.txt", endpoint.name()))
            else {
                println!("skipped: no conformance data");
                return;
            };
            assert_eq!(health.all(endpoint, &[]).await.text, golden);
        }
    }
}
