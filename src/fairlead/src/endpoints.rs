//! Where the `kubernetes` service leads: to every server over the store that is alive.
//!
//! Over etcd each server keeps a key with its address, which expires when it is not written again; the Endpoints and the
//! EndpointSlice are made of those that are there, by whichever server looks first. With a store of its own a server
//! knows that it is the only one. One that only its own machine reaches is nobody's endpoint: pods have another loopback.
//!
//! Source of the form: kubernetes pkg/controlplane/reconcilers (lease.go).

use fairlead_api::{Node, Status, StatusResult, json, node};
use fairlead_resource::{Client, ResourceDefinition, at_rest};
use fairlead_storage::{Error, Expect, Store};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One server's part in it.
pub struct Endpoints {
    pub client: Client,
    pub endpoints: Arc<ResourceDefinition>,
    pub slices: Arc<ResourceDefinition>,
    /// Where the addresses of all servers are; `None` where there is only this one.
    pub shared: Option<Arc<dyn Store>>,
    pub address: IpAddr,
    pub port: u16,
}

const PREFIX: &str = "/masterleases/";
const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const EVERY: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_secs(15);
/// More servers than anybody runs.
const SERVERS: usize = 1000;

impl Endpoints {
    /// Tells of this server, and sets right what is written about all. The ports are those of the server that started
    /// last. What cannot be written now is tried again later.
    pub async fn begin(&self) {
        if self.address.is_loopback() {
            return;
        }
        report(match self.announce().await {
            Ok(()) => self.reconcile(Ports::Own).await,
            error => error,
        });
    }

    /// Goes on telling until the receiver turns true, and takes it back then.
    pub async fn run(self, mut drain: watch::Receiver<bool>) {
        if self.address.is_loopback() || self.shared.is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = drain.changed() => break,
            }
            report(match self.announce().await {
                Ok(()) => self.reconcile(Ports::Any).await,
                error => error,
            });
        }
        if let Err(error) = self.end().await {
            tracing::warn!(%error, "this server stays an endpoint of the kubernetes service until its key expires");
        }
    }

    async fn end(&self) -> StatusResult<()> {
        let Some(store) = &self.shared else {
            return Ok(());
        };
        let key = self.key();
        if let (Some(entry), _) = store.get(&key).await.map_err(failed)? {
            store
                .delete(&key, Expect::Unchanged(entry.mod_revision))
                .await
                .map_err(failed)?;
        }
        self.reconcile(Ports::Any).await
    }

    /// Writes this server's key anew.
    async fn announce(&self) -> StatusResult<()> {
        let Some(store) = &self.shared else {
            return Ok(());
        };
        let key = self.key();
        let (entry, _) = store.get(&key).await.map_err(failed)?;
        let generation = entry
            .as_ref()
            .and_then(|entry| self.read(&entry.value))
            .map_or(0, |old| old.generation());
        let object = node!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"generation": generation + 1},
            "subsets": [{"addresses": [{"ip": self.address.to_string()}]}],
        });
        let expect = entry.map_or(Expect::Absent, |entry| Expect::Unchanged(entry.mod_revision));
        let value = at_rest::write(&self.endpoints, object).into();
        match store.put(&key, value, expect, Some(LIFETIME)).await {
            // Another server of this address has just written it.
            Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn alive(&self) -> StatusResult<BTreeSet<String>> {
        let Some(store) = &self.shared else {
            return Ok(BTreeSet::from([self.address.to_string()]));
        };
        let range = store.range(PREFIX, "", SERVERS, None).await.map_err(failed)?;
        let objects = range.entries.iter().filter_map(|entry| self.read(&entry.value));
        // COMPAT: kube-apiserver tells of loopback addresses, too, and then fails to write them.
        let reachable = |ip: &String| ip.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback());
        let first = |object: Node| addresses(&object).into_iter().next();
        Ok(objects.filter_map(first).filter(reachable).collect())
    }

    async fn reconcile(&self, ports: Ports) -> StatusResult<()> {
        let alive = self.alive().await?;
        let stored = self.get(&self.endpoints).await?;
        let mut wanted = stored.clone().unwrap_or_else(
            || node!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": SERVICE, "namespace": NAMESPACE}}),
        );
        wanted.set_at(&["metadata", "labels", SKIP_MIRROR], "true");
        let own = vec![node!({"name": "https", "port": self.port, "protocol": "TCP"})];
        let subset = match subsets(&wanted) {
            [subset] => Some(subset),
            _ => None,
        };
        let written = subset.and_then(|subset| subset.get("ports")).and_then(Node::as_list);
        let written = written.filter(|_| ports == Ports::Any).cloned().unwrap_or(own);
        let same = subset.is_some() && addresses(&wanted).into_iter().collect::<BTreeSet<_>>() == alive;
        // The order is that of whoever wrote them.
        let addresses: Vec<String> = match same {
            true => addresses(&wanted),
            false => alive.into_iter().collect(),
        };
        let subsets = match addresses.is_empty() {
            true => Vec::new(),
            false => {
                let addresses: Vec<Node> = addresses.iter().map(|ip| node!({"ip": ip.as_str()})).collect();
                vec![node!({"addresses": addresses, "ports": written.clone()})]
            }
        };
        wanted.set("subsets", subsets);
        self.write(&self.endpoints, stored.as_ref(), &wanted).await?;
        self.write_slice(&addresses, written).await
    }

    async fn write_slice(&self, addresses: &[String], ports: Vec<Node>) -> StatusResult<()> {
        let stored = self.get(&self.slices).await?;
        let v6 = !addresses.is_empty() && addresses.iter().all(|ip| ip.contains(':'));
        let family = if v6 { "IPv6" } else { "IPv4" };
        let mut wanted = stored.clone().unwrap_or_else(|| {
            node!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": SERVICE, "namespace": NAMESPACE}, "addressType": family,
            })
        });
        wanted.set_at(&["metadata", "labels"], node!({"kubernetes.io/service-name": SERVICE}));
        let of_family = addresses.iter().filter(|ip| ip.contains(':') == v6);
        let endpoints: Vec<Node> = of_family
            .map(|ip| node!({"addresses": [ip.as_str()], "conditions": {"ready": true}}))
            .collect();
        wanted.set("endpoints", endpoints);
        wanted.set("ports", if addresses.is_empty() { Vec::new() } else { ports });
        if wanted.str("addressType") != family && stored.is_some() {
            // It cannot be changed.
            self.client
                .delete(&self.slices, NAMESPACE, SERVICE, &Node::Null)
                .await?;
            wanted.set("addressType", family);
            wanted.set(
                "metadata",
                node!({
                    "name": SERVICE, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": SERVICE},
                }),
            );
            return self.write(&self.slices, None, &wanted).await;
        }
        self.write(&self.slices, stored.as_ref(), &wanted).await
    }

    async fn get(&self, definition: &Arc<ResourceDefinition>) -> StatusResult<Option<Node>> {
        match self.client.get(definition, NAMESPACE, SERVICE).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.reason() == "NotFound" => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Somebody else may write the same at the same time: that is as good.
    async fn write(
        &self,
        definition: &Arc<ResourceDefinition>,
        stored: Option<&Node>,
        wanted: &Node,
    ) -> StatusResult<()> {
        let written = match stored {
            Some(stored) if stored == wanted => return Ok(()),
            Some(_) => self.client.update(definition, wanted).await,
            None => self.client.create(definition, NAMESPACE, wanted).await,
        };
        match written {
            Err(status) if !matches!(status.reason(), "Conflict" | "AlreadyExists") => Err(status),
            _ => Ok(()),
        }
    }

    fn read(&self, value: &[u8]) -> Option<Node> {
        let object = at_rest::read(&self.endpoints, value).ok()?;
        json::parse(&object).ok()
    }

    fn key(&self) -> String {
        format!("{PREFIX}{}", self.address)
    }
}

/// Which ports the endpoints get.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    /// This server's.
    Own,
    /// Those that are written there, where some are.
    Any,
}

fn subsets(endpoints: &Node) -> &[Node] {
    endpoints
        .get("subsets")
        .and_then(Node::as_list)
        .map_or(&[], Vec::as_slice)
}

/// Of the first subset.
fn addresses(endpoints: &Node) -> Vec<String> {
    let first = subsets(endpoints).first().and_then(|subset| subset.get("addresses"));
    let addresses = first.and_then(Node::as_list).into_iter().flatten();
    addresses.map(|address| address.str("ip").to_owned()).collect()
}

fn report(result: StatusResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the endpoints of the kubernetes service cannot be written now");
    }
}

fn failed(error: Error) -> Status {
    let resource = fairlead_api::GroupResource::new("", "endpoints");
    fairlead_resource::store_error::status(error, &resource, "update")
}
