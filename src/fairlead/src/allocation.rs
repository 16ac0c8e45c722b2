//! [`StoredLedger`]: service addresses and node ports as all servers over one store know them, kube-apiserver included.
//!
//! An address is claimed by creating the IPAddress object of that name, a port by a bit in one stored bitmap. [`repair`]
//! mends what crashes leave.
//!
//! Source of the form: kubernetes pkg/registry/core/service/ipallocator and portallocator.

pub mod repair;

use crate::caches::CacheSet;
use fairlead_api::{GroupResource, Node, Status, StatusResult, json, node};
use fairlead_builtin::allocators::ports::{PortMap, Stored};
use fairlead_builtin::allocators::{ChoosePort, Item, Ledger, Owner, family_of, items};
use fairlead_resource::at_rest::Form;
use fairlead_resource::{Client, ResourceDefinition, store_error};
use fairlead_storage::{Error, Expect, Snapshot, Store};
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock, PoisonError};
use tokio::sync::{Mutex, MutexGuard, Notify};

/// Cheap to clone.
#[derive(Clone)]
pub struct StoredLedger(Arc<Inner>);

struct Inner {
    caches: CacheSet,
    configured: Vec<IpNet>,
    ports: RangeInclusive<u16>,
    form: Form,
    writer: OnceLock<Writer>,
    /// The bitmap as it was written last. Who holds it changes it.
    known: Mutex<Option<Known>>,
    returned: std::sync::Mutex<Vec<(Owner, Item)>>,
    /// Held while what was returned is being freed.
    settling: Mutex<()>,
    told: Notify,
}

struct Writer {
    client: Client,
    addresses: Arc<ResourceDefinition>,
}

struct Known {
    expect: Expect,
    map: PortMap,
}

const PORTS_KEY: &str = "/ranges/servicenodeports";
const NETWORKING: &str = "networking.k8s.io";
/// Of the ServiceCIDR that is made of the flags.
const DEFAULT_RANGE: &str = "kubernetes";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

impl StoredLedger {
    /// Nothing can be claimed before [`StoredLedger::write_with`].
    pub fn new(caches: CacheSet, configured: Vec<IpNet>, ports: RangeInclusive<u16>, form: Form) -> StoredLedger {
        StoredLedger(Arc::new(Inner {
            caches,
            configured,
            ports,
            form,
            writer: OnceLock::new(),
            known: Mutex::new(None),
            returned: std::sync::Mutex::default(),
            settling: Mutex::new(()),
            told: Notify::new(),
        }))
    }

    /// `addresses` is the definition of IPAddresses.
    pub fn write_with(&self, client: Client, addresses: Arc<ResourceDefinition>) {
        self.0.writer.get_or_init(|| Writer { client, addresses });
    }

    fn writer(&self) -> StatusResult<&Writer> {
        let writer = self.0.writer.get();
        writer.ok_or_else(|| Status::internal("IPAddresses are not served, so that none can be given out"))
    }

    /// Of the bitmap. COMPAT: upstream does not encrypt it.
    fn store(&self) -> Arc<dyn Store> {
        self.0.caches.store_of(&services())
    }

    fn snapshot(&self, group: &str, plural: &str) -> Snapshot {
        self.0
            .caches
            .of(group, plural)
            .map(|cache| cache.latest())
            .unwrap_or_default()
    }

    fn all_services(&self) -> impl Iterator<Item = Node> {
        let stored = self.snapshot("", "services");
        let all: Vec<_> = stored.range("", "").cloned().collect();
        all.into_iter()
            .filter_map(|object| json::parse(&object.json.text()).ok())
    }

    /// The bitmap as it is stored, or as the services say where there is none.
    async fn read_ports(&self) -> StatusResult<Known> {
        let (entry, _) = self.store().get(PORTS_KEY).await.map_err(failed)?;
        let Some(entry) = entry else {
            let mut map = PortMap::new(self.0.ports.clone());
            for item in self.all_services().flat_map(|service| items(&service)) {
                if let Item::Port(port) = item {
                    map.take(port);
                }
            }
            return Ok(Known {
                expect: Expect::Absent,
                map,
            });
        };
        let stored = Stored::read(&entry.value).map_err(|why| {
            let why = format!("{PORTS_KEY} cannot be read: {why}");
            failed(Error::Corrupt(why))
        })?;
        let map = PortMap::of(self.0.ports.clone(), &stored).ok_or_else(|| {
            // COMPAT: upstream's words.
            failed(Error::Corrupt(
                "the provided range does not match the current range".into(),
            ))
        })?;
        Ok(Known {
            expect: Expect::Unchanged(entry.mod_revision),
            map,
        })
    }

    /// Changes the bitmap until that goes through. `change` answers whether there is anything to write.
    async fn change_ports<T>(
        &self,
        known: &mut MutexGuard<'_, Option<Known>>,
        mut change: impl FnMut(&mut PortMap) -> Option<T> + Send,
    ) -> StatusResult<Option<T>> {
        let store = self.store();
        loop {
            let (Known { expect, mut map }, read) = match known.take() {
                Some(known) => (known, false),
                None => (self.read_ports().await?, true),
            };
            let Some(changed) = change(&mut map) else {
                if read {
                    **known = Some(Known { expect, map });
                    return Ok(None);
                }
                // What is known may be old: a refusal counts only against what is stored.
                continue;
            };
            let value = map.write(self.0.form).into();
            match store.put(PORTS_KEY, value, expect, None).await {
                Ok(revision) => {
                    let expect = Expect::Unchanged(revision);
                    **known = Some(Known { expect, map });
                    return Ok(Some(changed));
                }
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn free_address(&self, address: IpAddr, owner: &Owner) -> StatusResult<()> {
        let writer = self.writer()?;
        let name = address.to_string();
        let stored = match writer.client.get(&writer.addresses, "", &name).await {
            Ok(stored) => stored,
            Err(status) if status.reason() == "NotFound" => return Ok(()),
            Err(status) => return Err(status),
        };
        // It may have been given to somebody else since.
        if !is_of(&stored, owner) {
            return Ok(());
        }
        self.delete_address(&stored).await
    }

    /// Deletes an IPAddress as it is known here, and no newer one of its name.
    async fn delete_address(&self, stored: &Node) -> StatusResult<()> {
        let writer = self.writer()?;
        let options = node!({"preconditions": {"uid": stored.uid()}});
        match writer
            .client
            .delete(&writer.addresses, "", stored.name(), &options)
            .await
        {
            Err(status) if !matches!(status.reason(), "NotFound" | "Conflict") => Err(status),
            _ => Ok(()),
        }
    }

    async fn free_ports(&self, ports: &HashSet<u16>) -> StatusResult<()> {
        let mut known = self.0.known.lock().await;
        let free = |map: &mut PortMap| {
            let taken = ports.iter().any(|port| map.has(*port));
            ports.iter().for_each(|port| map.free(*port));
            taken.then_some(())
        };
        self.change_ports(&mut known, free).await.map(drop)
    }

    async fn free_returned(&self) {
        let _settling = self.0.settling.lock().await;
        let returned = std::mem::take(&mut *self.0.returned.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ports = HashSet::new();
        for (owner, item) in returned {
            match item {
                Item::Port(port) => drop(ports.insert(port)),
                Item::Address(address) => {
                    if let Err(error) = self.free_address(address, &owner).await {
                        tracing::warn!(%error, %address, "an address is not free yet");
                    }
                }
            }
        }
        if !ports.is_empty()
            && let Err(error) = self.free_ports(&ports).await
        {
            tracing::warn!(%error, ?ports, "node ports are not free yet");
        }
    }
}

impl Ledger for StoredLedger {
    fn ranges(&self) -> Vec<IpNet> {
        let stored = self.snapshot(NETWORKING, "servicecidrs");
        let mut ranges = Vec::new();
        let mut default = true;
        for object in stored.range("", "") {
            default &= object.name() != DEFAULT_RANGE;
            let Ok(object) = json::parse(&object.json.text()) else {
                continue;
            };
            if is_ready(&object) {
                let cidrs = object.at(&["spec", "cidrs"]).and_then(Node::as_list);
                ranges.extend(
                    cidrs
                        .into_iter()
                        .flatten()
                        .filter_map(|cidr| cidr.as_str()?.parse::<IpNet>().ok()),
                );
            }
        }
        if default {
            ranges.extend(&self.0.configured);
        }
        ranges
    }

    fn has(&self, address: IpAddr) -> bool {
        self.snapshot(NETWORKING, "ipaddresses")
            .get(&address.to_string())
            .is_some()
    }

    fn claim<'a>(&'a self, address: IpAddr, owner: &'a Owner) -> BoxFuture<'a, StatusResult<bool>> {
        Box::pin(async move {
            self.settle().await;
            let writer = self.writer()?;
            let object = address_of(address, owner);
            match writer.client.create(&writer.addresses, "", &object).await {
                Ok(_) => Ok(true),
                Err(status) if status.reason() == "AlreadyExists" => Ok(false),
                Err(status) => Err(status),
            }
        })
    }

    fn claim_port<'a>(&'a self, choose: &'a ChoosePort<'a>) -> BoxFuture<'a, StatusResult<Option<u16>>> {
        Box::pin(async move {
            self.settle().await;
            let mut known = self.0.known.lock().await;
            let take = |map: &mut PortMap| choose(map).inspect(|port| map.take(*port));
            self.change_ports(&mut known, take).await
        })
    }

    fn port_map(&self) -> BoxFuture<'_, StatusResult<PortMap>> {
        Box::pin(async move {
            self.settle().await;
            let mut known = self.0.known.lock().await;
            if known.is_none() {
                *known = Some(self.read_ports().await?);
            }
            Ok(known.as_ref().expect("it has just been read").map.clone())
        })
    }

    fn give_back(&self, owner: &Owner, items: Vec<Item>) {
        let mut returned = self.0.returned.lock().unwrap_or_else(PoisonError::into_inner);
        returned.extend(items.into_iter().map(|item| (owner.clone(), item)));
        drop(returned);
        self.0.told.notify_one();
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.free_returned())
    }
}

/// The object that makes an address an owner's.
fn address_of(address: IpAddr, owner: &Owner) -> Node {
    node!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {FAMILY: family_of(address), MANAGED_BY: MANAGER},
        },
        "spec": {"parentRef": {
            "group": "", "resource": "services", "namespace": owner.namespace.as_str(), "name": owner.name.as_str(),
        }},
    })
}

/// Whose an IPAddress is; `None` where it is not a service's.
fn owner_of(address: &Node) -> Option<Owner> {
    let parent = address.at(&["spec", "parentRef"])?;
    (parent.str("group").is_empty() && parent.str("resource") == "services").then(|| Owner {
        namespace: parent.str("namespace").to_owned(),
        name: parent.str("name").to_owned(),
    })
}

fn is_of(address: &Node, owner: &Owner) -> bool {
    owner_of(address).as_ref() == Some(owner)
}

/// Without a condition a range is ready: nobody may be there who would say so.
fn is_ready(range: &Node) -> bool {
    let conditions = range.at(&["status", "conditions"]).and_then(Node::as_list);
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.str("type") == "Ready");
    range.deletion_timestamp().is_none() && ready.is_none_or(|condition| condition.str("status") == "True")
}

fn services() -> GroupResource {
    GroupResource::new("", "services")
}

fn failed(error: Error) -> Status {
    store_error::status(error, &GroupResource::new("", "servicenodeportallocations"), "update")
}
