//! Mends the ledger: what a crash, a clock or a person's hand has left without an owner is freed, what an owner has is
//! written down.
//!
//! Other servers write at the same time, so what looks ownerless may belong to a write that is under way: it is given
//! time. Source of the patience: kubernetes pkg/registry/core/service/{ipallocator,portallocator}/controller.

use super::{FAMILY, Known, MANAGED_BY, MANAGER, NETWORKING, PORTS_KEY, StoredLedger, failed, owner_of};
use fairlead_api::{Clock, Node, StatusResult, Timestamp, json};
use fairlead_builtin::allocators::ports::PortMap;
use fairlead_builtin::allocators::{Item, Ledger, Owner, family_of, is_usable, items};
use fairlead_storage::{CacheEvent, Cached, Error, Expect, Snapshot, WatchScope};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long things without an owner may belong to somebody.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Of ports: in how many repairs they are passed over.
    rounds: u8,
    /// Of addresses, since they were made.
    age: Duration,
}

impl Patience {
    /// Others may be writing.
    pub const SHARED: Patience = Patience {
        rounds: 3,
        age: Duration::from_secs(60),
    };
    /// Nobody else has the store, and nothing is under way.
    pub const ALONE: Patience = Patience {
        rounds: 0,
        age: Duration::ZERO,
    };
}

/// What is kept from one repair to the next.
#[derive(Default)]
pub struct Leaks {
    /// How often a port has been seen without an owner.
    ports: HashMap<u16, u8>,
}

const EVERY: Duration = Duration::from_secs(180);
/// Before a cache that cannot be followed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

impl StoredLedger {
    /// Frees what is given back, and mends every few minutes, until it is dropped.
    pub async fn run(self, clock: Arc<dyn Clock>, mut leaks: Leaks) {
        let mut repairs = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
        loop {
            tokio::select! {
                () = self.0.told.notified() => self.settle().await,
                _ = repairs.tick() => self.repair(clock.now(), Patience::SHARED, &mut leaks).await,
            }
        }
    }

    /// Mends once. What cannot be mended now is tried again the next time.
    pub async fn repair(&self, now: Timestamp, patience: Patience, leaks: &mut Leaks) {
        if let Err(error) = self.repair_ports(patience, leaks).await {
            tracing::warn!(%error, "node ports cannot be compared with the services");
        }
        if let Err(error) = self.repair_addresses(now, patience).await {
            tracing::warn!(%error, "service addresses cannot be compared with the services");
        }
    }

    /// Writes addresses down again that are deleted while a service has them, until it is dropped.
    pub async fn watch_over(self) {
        loop {
            let cache = self.0.caches.of(NETWORKING, "ipaddresses");
            let watched = cache.map(|cache| cache.watch(Some(cache.latest().revision), WatchScope::All));
            let Some(Ok(mut watcher)) = watched else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while let Ok(event) = watcher.next().await {
                let CacheEvent::Delete { object, .. } = event else {
                    continue;
                };
                let owner = json::parse(&object.json.text())
                    .ok()
                    .and_then(|object| owner_of(&object));
                let address = object.name().parse().ok();
                if let Some((owner, address)) = owner.zip(address)
                    && has(&self.snapshot("", "services"), &owner, address)
                {
                    tracing::warn!(%address, service = %key(&owner), "a service's address was deleted, it is written down again");
                    report(self.claim(address, &owner).await.map(drop));
                }
            }
        }
    }

    async fn repair_ports(&self, patience: Patience, leaks: &mut Leaks) -> StatusResult<()> {
        let mut known = self.0.known.lock().await;
        *known = None;
        loop {
            let (stored, _) = self.store().get(PORTS_KEY).await.map_err(failed)?;
            let expect = stored.map_or(Expect::Absent, |entry| Expect::Unchanged(entry.mod_revision));
            // A bitmap of another range is replaced: the flags of the server that started last count.
            let map = match self.read_ports().await {
                Ok(known) if known.expect == expect => known.map,
                Ok(_) => continue,
                Err(_) => PortMap::new(self.0.ports.clone()),
            };
            // Read behind the bitmap: who has a port there by now has its service here, or is still writing it.
            let services = self.fresh("", "services").await?;
            let had = parsed(&services)
                .flat_map(|service| items(&service))
                .filter_map(only_port);
            let (rebuilt, seen) = rebuilt(&map, had, patience, &leaks.ports);
            if rebuilt == map && expect != Expect::Absent {
                leaks.ports = seen;
                *known = Some(Known { expect, map });
                return Ok(());
            }
            let value = rebuilt.write(self.0.form).into();
            match self.store().put(PORTS_KEY, value, expect, None).await {
                Ok(revision) => {
                    leaks.ports = seen;
                    let expect = Expect::Unchanged(revision);
                    *known = Some(Known { expect, map: rebuilt });
                    return Ok(());
                }
                Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn repair_addresses(&self, now: Timestamp, patience: Patience) -> StatusResult<()> {
        let services = self.fresh("", "services").await?;
        let addresses = self.fresh(NETWORKING, "ipaddresses").await?;
        let ranges = self.ranges();
        for service in parsed(&services) {
            let owner = Owner::of(&service);
            for address in items(&service).into_iter().filter_map(only_address) {
                if !ranges.iter().any(|range| is_usable(range, address)) {
                    tracing::warn!(%address, service = %key(&owner), "a service has an address that is in no range");
                    continue;
                }
                let stored = addresses.get(&address.to_string()).and_then(|object| parse(object));
                report(self.mend(address, &owner, stored, &services).await);
            }
        }
        // Read behind the addresses: who has one by now has its service here, or is still writing it.
        let services = self.fresh("", "services").await?;
        for object in parsed(&addresses).filter(|object| label(object, MANAGED_BY) == MANAGER) {
            let address: Option<IpAddr> = object.name().parse().ok();
            let owned = address
                .zip(owner_of(&object))
                .is_some_and(|(address, owner)| has(&services, &owner, address));
            let made = Timestamp::parse(object.str_at(&["metadata", "creationTimestamp"])).unwrap_or(now);
            if !owned && now >= Timestamp(made.0 + patience.age.as_nanos() as i128) {
                tracing::info!(address = object.name(), "an address without a service is free again");
                report(self.delete_address(&object).await);
            }
        }
        Ok(())
    }

    /// Makes `stored` what it has to be for a service with this address.
    async fn mend(
        &self,
        address: IpAddr,
        owner: &Owner,
        stored: Option<Node>,
        services: &Snapshot,
    ) -> StatusResult<()> {
        if let Some(stored) = stored {
            let named = owner_of(&stored);
            let labelled = label(&stored, FAMILY) == family_of(address) && label(&stored, MANAGED_BY) == MANAGER;
            match named {
                Some(named) if named == *owner && labelled => return Ok(()),
                Some(named) if named != *owner && has(services, &named, address) => {
                    tracing::warn!(
                        %address, service = %key(owner), other = %key(&named),
                        "two services have one address, one of them must be made anew",
                    );
                    return Ok(());
                }
                _ => self.delete_address(&stored).await?,
            }
        }
        self.claim(address, owner).await.map(drop)
    }

    async fn fresh(&self, group: &str, plural: &str) -> StatusResult<Snapshot> {
        match self.0.caches.of(group, plural) {
            Some(cache) => cache.fresh().await.map_err(failed),
            None => Ok(Snapshot::default()),
        }
    }
}

/// The bitmap as the services say, and how often each port that nobody has was seen so far.
fn rebuilt(
    map: &PortMap,
    ports: impl Iterator<Item = u16>,
    patience: Patience,
    seen: &HashMap<u16, u8>,
) -> (PortMap, HashMap<u16, u8>) {
    let mut rebuilt = PortMap::new(map.range().clone());
    let mut had: HashSet<u16> = HashSet::new();
    for port in ports {
        if !had.insert(port) {
            tracing::warn!(port, "two services have one node port, one of them must be made anew");
        }
        rebuilt.take(port);
    }
    let mut leaked = HashMap::new();
    for port in map.taken().filter(|port| !had.contains(port)) {
        let times = seen.get(&port).copied().unwrap_or(0);
        if times < patience.rounds {
            rebuilt.take(port);
            leaked.insert(port, times + 1);
        } else {
            tracing::info!(port, "a node port without a service is free again");
        }
    }
    (rebuilt, leaked)
}

fn has(services: &Snapshot, owner: &Owner, address: IpAddr) -> bool {
    let service = services.get(&key(owner)).and_then(|object| parse(object));
    service.is_some_and(|service| items(&service).contains(&Item::Address(address)))
}

fn key(owner: &Owner) -> String {
    format!("{}/{}", owner.namespace, owner.name)
}

fn label<'a>(object: &'a Node, key: &str) -> &'a str {
    object.str_at(&["metadata", "labels", key])
}

fn only_address(item: Item) -> Option<IpAddr> {
    match item {
        Item::Address(address) => Some(address),
        Item::Port(_) => None,
    }
}

fn only_port(item: Item) -> Option<u16> {
    match item {
        Item::Port(port) => Some(port),
        Item::Address(_) => None,
    }
}

fn parsed(objects: &Snapshot) -> impl Iterator<Item = Node> {
    objects.range("", "").filter_map(|object| parse(object))
}

fn parse(object: &Cached) -> Option<Node> {
    json::parse(&object.json.text()).ok()
}

fn report(result: StatusResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a service address cannot be mended now");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_nobody_has_are_freed_after_some_repairs() {
        let mut map = PortMap::new(30000..=30009);
        [30001, 30002].into_iter().for_each(|port| map.take(port));
        let mut seen = HashMap::new();
        for round in 0..=Patience::SHARED.rounds {
            let (next, leaked) = rebuilt(&map, [30002, 30003].into_iter(), Patience::SHARED, &seen);
            let kept = round < Patience::SHARED.rounds;
            assert_eq!(next.has(30001), kept, "round {round}");
            assert!(next.has(30002) && next.has(30003));
            (map, seen) = (next, leaked);
        }
        map.take(30001);
        let (alone, _) = rebuilt(&map, std::iter::empty(), Patience::ALONE, &HashMap::new());
        assert_eq!(alone.taken().count(), 0);
    }

    #[test]
    fn a_leak_that_finds_an_owner_is_forgotten() {
        let mut map = PortMap::new(30000..=30009);
        map.take(30001);
        let seen = HashMap::from([(30001, 2)]);
        let (_, leaked) = rebuilt(&map, [30001].into_iter(), Patience::SHARED, &seen);
        assert!(leaked.is_empty());
    }
}
