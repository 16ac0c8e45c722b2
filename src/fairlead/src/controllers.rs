//! Which of the built-in loops run, and what they are given.

use crate::config::Config;
use crate::remote_content::GatewayContent;
use crate::remote_objects::GatewayRemoteObjects;
use crate::routes::Routes;
use anyhow::{Result, bail};
use fairlead_api::Clock;
use fairlead_controllers::{
    Context, cluster_roles, election, every_namespace, flow_schemas, garbage, namespace, quota,
};
use fairlead_gateway::Gateway;
use fairlead_resource::hooks::Entropy;
use fairlead_resource::{Client, Engine};
use fairlead_server::drain::Drain;
use fairlead_telemetry::task;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const NAMESPACE: &str = "namespace-controller";
pub const GARBAGE_COLLECTOR: &str = "garbage-collector-controller";
pub const SERVICE_ACCOUNT: &str = "serviceaccount-controller";
pub const ROOT_CA: &str = "root-ca-certificate-publisher-controller";
pub const CLUSTER_ROLES: &str = "clusterrole-aggregation-controller";
pub const RESOURCE_QUOTA: &str = "resourcequota-controller";

/// Names as kube-controller-manager has them, and shorter ones.
const NAMES: [(&str, &[&str]); 6] = [
    (NAMESPACE, &["namespace"]),
    (GARBAGE_COLLECTOR, &["garbagecollector", "garbage-collector"]),
    (SERVICE_ACCOUNT, &["serviceaccount", "service-account"]),
    (ROOT_CA, &["root-ca-cert-publisher", "root-ca"]),
    (CLUSTER_ROLES, &["clusterrole-aggregation"]),
    (RESOURCE_QUOTA, &["resourcequota", "resource-quota"]),
];

/// Reads a list as kube-controller-manager does: what is named first about a loop counts, then `*`.
///
/// # Errors
/// There is no loop of that name.
pub fn enabled(list: &[String]) -> Result<Vec<&'static str>> {
    for item in list {
        let name = item.strip_prefix('-').unwrap_or(item);
        if name != "*" && canonical(name).is_none() {
            let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            bail!("--controllers: there is no {name:?}, only {}", known.join(", "));
        }
    }
    let runs = |loop_name: &str| {
        let named = list.iter().find_map(|item| match item.strip_prefix('-') {
            Some(name) => (canonical(name) == Some(loop_name)).then_some(false),
            None => (canonical(item) == Some(loop_name)).then_some(true),
        });
        named.unwrap_or_else(|| list.iter().any(|item| item == "*"))
    };
    Ok(NAMES.iter().map(|(name, _)| *name).filter(|name| runs(name)).collect())
}

fn canonical(name: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(full, others)| *full == name || others.contains(&name))
        .map(|(full, _)| *full)
}

/// What loops act on.
#[derive(Clone)]
pub struct Acted {
    pub engine: Engine,
    pub routes: Routes,
    pub gateway: Gateway,
    pub clock: Arc<dyn Clock>,
    /// What clients inside the cluster verify this server by.
    pub root_ca_pem: String,
}

/// Starts the loops that `--controllers` names: now, or while this server leads.
pub fn start(config: &Config, acted: Acted, drain: &Drain, entropy: &dyn Entropy) -> Vec<JoinHandle<()>> {
    let mut loops = Vec::new();
    if config.core_backend.is_none() {
        // Of the API server itself: every one says the same, and no flag switches it off.
        let context = acted.context(&drain.subscribe());
        loops.push(task::spawn("flow-schemas", flow_schemas::run(context)));
    }
    loops.extend(start_named(config, acted, drain, entropy));
    loops
}

fn start_named(config: &Config, acted: Acted, drain: &Drain, entropy: &dyn Entropy) -> Vec<JoinHandle<()>> {
    // Behind a core, its own controllers do the rest.
    let runs = |name: &&'static str| config.core_backend.is_none() || *name == NAMESPACE;
    let names: Vec<&'static str> = config.controllers.iter().copied().filter(runs).collect();
    let Some(election) = config.election.clone().filter(|_| !names.is_empty()) else {
        return acted.start(&names, &drain.subscribe());
    };
    let context = acted.context(&drain.subscribe());
    let start = move |drain| acted.start(&names, &drain);
    vec![task::spawn(
        "leader-election",
        election::run(context, election, identity(entropy), start),
    )]
}

impl Acted {
    fn start(&self, names: &[&'static str], drain: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        names
            .iter()
            .map(|name| self.start_one(name, self.context(drain)))
            .collect()
    }

    fn start_one(&self, name: &str, context: Context) -> JoinHandle<()> {
        match name {
            NAMESPACE => {
                let remote = Arc::new(GatewayContent::new(self.gateway.clone()));
                task::spawn(NAMESPACE, namespace::run(context, remote))
            }
            GARBAGE_COLLECTOR => {
                let remote = Arc::new(GatewayRemoteObjects::new(self.gateway.clone()));
                task::spawn(GARBAGE_COLLECTOR, garbage::run(context, remote))
            }
            SERVICE_ACCOUNT => {
                let wanted = every_namespace::default_service_account();
                task::spawn(SERVICE_ACCOUNT, every_namespace::run(context, wanted))
            }
            ROOT_CA => {
                let wanted = every_namespace::root_ca(&self.root_ca_pem);
                task::spawn(ROOT_CA, every_namespace::run(context, wanted))
            }
            CLUSTER_ROLES => task::spawn(CLUSTER_ROLES, cluster_roles::run(context)),
            _ => task::spawn(RESOURCE_QUOTA, quota::run(context)),
        }
    }

    fn context(&self, drain: &watch::Receiver<bool>) -> Context {
        Context {
            // COMPAT: managed fields name whom clients know to do this.
            client: Client::new(self.engine.clone(), "kube-controller-manager"),
            router: self.routes.own(),
            routes: self.routes.changes(),
            drain: drain.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// Of this process: where it runs, and something that no other process has.
fn identity(entropy: &dyn Entropy) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}{:016x}", host.trim(), entropy.bits(), entropy.bits())
}

#[cfg(test)]
mod served;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_upstream_reads_them() {
        let of = |text: &str| {
            let list: Vec<String> = text.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect();
            enabled(&list).map_err(|e| e.to_string())
        };
        assert_eq!(of("*").unwrap().len(), NAMES.len());
        assert_eq!(of(""), Ok(vec![]));
        assert_eq!(
            of("namespace,resourcequota-controller"),
            Ok(vec![NAMESPACE, RESOURCE_QUOTA])
        );
        let rest = of("*,-garbagecollector,-namespace-controller").unwrap();
        assert!(!rest.contains(&GARBAGE_COLLECTOR) && !rest.contains(&NAMESPACE) && rest.contains(&ROOT_CA));
        assert_eq!(of("-namespace,namespace"), Ok(vec![]));
        assert!(of("*,-nope").unwrap_err().contains("there is no \"nope\""));
    }
}
