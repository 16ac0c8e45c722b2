//! Service addresses and node ports: what a service asks for, and how one is chosen where it does not care.
//!
//! Who has which is written down in a [`Ledger`]: claimed before a service is stored, given back when it is not or when
//! it goes, so that no two servers over one store hand out the same. [`ports`]: the bitmap of node ports. [`memory`]: a
//! ledger of one process.

pub mod memory;
pub mod ports;

use crate::value::{int, list};
use fairlead_api::{Node, StatusResult};
use fairlead_resource::hooks::{Claim, Entropy};
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use memory::MemoryLedger;
use ports::PortMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What services are given something from. Cheap to clone.
#[derive(Clone)]
pub struct Allocators {
    families: Arc<[&'static str]>,
    ledger: Arc<dyn Ledger>,
}

/// A service that has, or is to have, addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
}

/// One thing a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    Address(IpAddr),
    Port(u16),
}

/// Who has which address and port, for all servers over one store.
///
/// # Guarantees
/// A claim is somebody's for whoever asks from the moment it is answered until it is given back. What a process gives
/// back is free before the same process's next claim is decided.
pub trait Ledger: Send + Sync {
    /// What addresses may be taken from now, in the order in which they are used.
    fn ranges(&self) -> Vec<IpNet>;

    /// Whether somebody has this address, as far as this server has heard.
    fn has(&self, address: IpAddr) -> bool;

    /// Writes an address down as an owner's. `false` where it is somebody's.
    ///
    /// # Errors
    /// What the store says.
    fn claim<'a>(&'a self, address: IpAddr, owner: &'a Owner) -> BoxFuture<'a, StatusResult<bool>>;

    /// Writes a port down as taken: the one that is chosen. Asks again where somebody else was faster. `None` where none
    /// is chosen.
    ///
    /// # Errors
    /// What the store says.
    fn claim_port<'a>(&'a self, choose: &'a ChoosePort<'a>) -> BoxFuture<'a, StatusResult<Option<u16>>>;

    /// Which ports are taken.
    ///
    /// # Errors
    /// What the store says.
    fn port_map(&self) -> BoxFuture<'_, StatusResult<PortMap>>;

    /// Gives back what an owner has. Returns at once; [`Ledger::settle`] waits.
    fn give_back(&self, owner: &Owner, items: Vec<Item>);

    /// Waits until everything that was given back is free.
    fn settle(&self) -> BoxFuture<'_, ()>;
}

/// Picks one of the free ports.
pub type ChoosePort<'a> = dyn Fn(&PortMap) -> Option<u16> + Send + Sync + 'a;

/// What one write takes and gives back: taken at once, given back when the write has happened.
pub struct Reservation {
    ledger: Arc<dyn Ledger>,
    owner: Owner,
    taken: Vec<Item>,
    returned: Vec<Item>,
    /// The ports a dry run has named. As upstream, it does not care whether they are in the range.
    named: Vec<i64>,
    dry_run: bool,
}

impl Allocators {
    /// The first of the configured ranges decides which family comes first.
    pub fn new(configured: &[IpNet], ledger: Arc<dyn Ledger>) -> Allocators {
        let family = |range: &IpNet| family_of(range.addr());
        Allocators {
            families: configured.iter().map(family).collect(),
            ledger,
        }
    }

    /// For a process that shares its store with none, and keeps nothing.
    pub fn in_memory(ranges: Vec<IpNet>, ports: RangeInclusive<u16>) -> Allocators {
        Allocators::new(&ranges.clone(), Arc::new(MemoryLedger::new(ranges, ports)))
    }

    /// Takes back what a deleted service had.
    pub async fn release(&self, service: &Node) {
        let items = items(service);
        if !items.is_empty() {
            self.ledger.give_back(&Owner::of(service), items);
            self.ledger.settle().await;
        }
    }

    pub fn reserve(&self, owner: Owner, dry_run: bool) -> Reservation {
        Reservation {
            ledger: self.ledger.clone(),
            owner,
            taken: Vec::new(),
            returned: Vec::new(),
            named: Vec::new(),
            dry_run,
        }
    }

    /// `IPv4` or `IPv6`, one a configured range, the default one first.
    pub fn families(&self) -> impl Iterator<Item = &'static str> {
        self.families.iter().copied()
    }
}

impl Owner {
    pub fn of(service: &Node) -> Owner {
        Owner {
            namespace: service.namespace().to_owned(),
            name: service.name().to_owned(),
        }
    }
}

impl Reservation {
    /// Takes this address. `Err` inside: upstream's words for an address that is taken or in no range.
    ///
    /// # Errors
    /// What the store says.
    pub async fn address(&mut self, address: IpAddr) -> StatusResult<Result<(), String>> {
        let ranges = self.ledger.ranges();
        let contains = |range: &IpNet| range.contains(&address) && !is_reserved(range, address);
        if self.dry_run {
            // COMPAT: a dry run is told by any of the ranges, and not whether the address is taken.
            return Ok(
                match ranges.iter().find(|r| family_of(r.addr()) == family_of(address)) {
                    Some(range) if !ranges.iter().any(contains) => Err(format!(
                        "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
                    )),
                    _ => Ok(()),
                },
            );
        }
        if !ranges.iter().any(contains) {
            return Ok(Err("the provided network does not match the current range".into()));
        }
        let free = self.claim(address).await?;
        Ok(free
            .then_some(())
            .ok_or_else(|| "provided IP is already allocated".into()))
    }

    /// Takes any free address of a family. The upper part of a range is used first, so that the lower one is left to
    /// those who choose for themselves (KEP-3070).
    ///
    /// # Errors
    /// What the store says.
    pub async fn any_address(&mut self, family: &str, entropy: &dyn Entropy) -> StatusResult<Option<IpAddr>> {
        let mut ranges = self.ledger.ranges();
        ranges.retain(|range| family_of(range.addr()) == family);
        if self.dry_run {
            // COMPAT: nothing is looked for.
            return Ok(ranges.first().map(|range| range.network()));
        }
        for range in ranges {
            let size = range_size(&range);
            for n in once_around(size, band(size, 16, 256), entropy.bits()) {
                let Some(address) = address_at(&range, n + 1).filter(|a| !self.ledger.has(*a)) else {
                    continue;
                };
                // Somebody else may have been faster.
                if self.claim(address).await? {
                    return Ok(Some(address));
                }
            }
        }
        Ok(None)
    }

    /// Takes this node port. `Err` inside: upstream's words for a port that is taken or out of range.
    ///
    /// # Errors
    /// What the store says.
    pub async fn port(&mut self, port: i64) -> StatusResult<Result<(), String>> {
        const TAKEN: &str = "provided port is already allocated";
        let map = self.ledger.port_map().await?;
        let wanted = u16::try_from(port).ok().filter(|p| map.range().contains(p));
        if self.dry_run {
            if wanted.is_some_and(|port| map.has(port)) || self.named.contains(&port) {
                return Ok(Err(TAKEN.into()));
            }
            self.named.push(port);
            return Ok(Ok(()));
        }
        let Some(wanted) = wanted else {
            let why = "provided port is not in the valid range. The range of valid ports is";
            return Ok(Err(format!("{why} {}", map.spec())));
        };
        let choose = |map: &PortMap| (!map.has(wanted)).then_some(wanted);
        let taken = self.ledger.claim_port(&choose).await?;
        self.taken.extend(taken.map(Item::Port));
        Ok(taken.map(drop).ok_or_else(|| TAKEN.into()))
    }

    /// Takes any free node port, the upper ones first (KEP-3668). A dry run answers a likely one.
    ///
    /// # Errors
    /// What the store says.
    pub async fn any_port(&mut self, entropy: &dyn Entropy) -> StatusResult<Option<i64>> {
        if self.dry_run {
            let port = self.named.iter().max().map_or(32768, |last| (*last).max(0)) + 1;
            self.named.push(port);
            return Ok(Some(port));
        }
        let seed = entropy.bits();
        let choose = |map: &PortMap| {
            let size = u64::from(map.range().end() - map.range().start()) + 1;
            let at = |n| map.range().start() + u16::try_from(n).expect("a range of ports");
            once_around(size, band(size, 32, 128), seed)
                .map(at)
                .find(|port| !map.has(*port))
        };
        let port = self.ledger.claim_port(&choose).await?;
        self.taken.extend(port.map(Item::Port));
        Ok(port.map(i64::from))
    }

    /// Gives an address back when the write has happened.
    pub fn return_address(&mut self, address: IpAddr) {
        self.returned.push(Item::Address(address));
    }

    pub fn return_port(&mut self, port: i64) {
        self.returned.extend(u16::try_from(port).map(Item::Port));
    }

    async fn claim(&mut self, address: IpAddr) -> StatusResult<bool> {
        let claimed = self.ledger.claim(address, &self.owner).await?;
        if claimed {
            self.taken.push(Item::Address(address));
        }
        Ok(claimed)
    }
}

impl Claim for Reservation {
    fn commit(mut self: Box<Self>) {
        self.taken.clear();
        if !self.dry_run && !self.returned.is_empty() {
            self.ledger.give_back(&self.owner, std::mem::take(&mut self.returned));
        }
    }

    fn release(self: Box<Self>) {}

    /// Better a leak, which is found and mended, than two services with one address.
    fn keep(mut self: Box<Self>) {
        self.taken.clear();
    }
}

impl Drop for Reservation {
    /// What was taken and not committed is free again.
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.ledger.give_back(&self.owner, std::mem::take(&mut self.taken));
        }
    }
}

/// What a service has, each once.
pub fn items(service: &Node) -> Vec<Item> {
    let addresses = list(service, &["spec", "clusterIPs"]).iter().filter_map(Node::as_str);
    let mut items: Vec<Item> = addresses.filter_map(|a| a.parse().ok()).map(Item::Address).collect();
    let ports = list(service, &["spec", "ports"]).iter().map(|p| int(p, &["nodePort"]));
    let ports = ports
        .chain([int(service, &["spec", "healthCheckNodePort"])])
        .filter(|p| *p != 0)
        .filter_map(|p| u16::try_from(p).ok());
    for port in ports.map(Item::Port) {
        if !items.contains(&port) {
            items.push(port);
        }
    }
    items
}

/// `IPv4` or `IPv6`.
pub fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Whether services may have this address of a range: neither its first one, nor in IPv4 its last one.
pub fn is_usable(range: &IpNet, address: IpAddr) -> bool {
    range.contains(&address) && !is_reserved(range, address)
}

/// The numbers below `size`, each once, those from `band` on first, each part from somewhere in it. A huge part is
/// walked only as far as is worth it.
fn once_around(size: u64, band: u64, seed: u64) -> impl Iterator<Item = u64> {
    [(band, size.saturating_sub(band)), (0, band)]
        .into_iter()
        .filter(|(_, len)| *len > 0)
        .flat_map(move |(start, len)| (0..len.min(1 << 20)).map(move |i| start + (seed % len + i) % len))
}

/// The part of a range that is left to explicit choices: a `step`th, at least 16, at most `max`.
fn band(size: u64, step: u64, max: u64) -> u64 {
    match (size / step).clamp(16, max) {
        band if band >= size => 0,
        band => band,
    }
}

/// How many addresses may be given out: the first one is never, and in IPv4 not the last one either.
fn range_size(range: &IpNet) -> u64 {
    match range {
        IpNet::V4(net) => (1u64 << (32 - u32::from(net.prefix_len()))).saturating_sub(2),
        IpNet::V6(net) => (1u64 << (128 - u32::from(net.prefix_len())).min(62)) - 1,
    }
}

fn address_at(range: &IpNet, n: u64) -> Option<IpAddr> {
    match range {
        IpNet::V4(net) => Some(IpAddr::V4(
            (u32::from(net.network()).checked_add(u32::try_from(n).ok()?)?).into(),
        )),
        IpNet::V6(net) => Some(IpAddr::V6(
            (u128::from(net.network()).checked_add(u128::from(n))?).into(),
        )),
    }
}

fn is_reserved(range: &IpNet, address: IpAddr) -> bool {
    address == range.network() || (address.is_ipv4() && address == range.broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;
    use futures_util::FutureExt;

    struct Zero;
    impl Entropy for Zero {
        fn bits(&self) -> u64 {
            0
        }
    }

    /// Nothing waits in a ledger in memory.
    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().unwrap()
    }

    fn allocators() -> Allocators {
        Allocators::in_memory(vec!["10.0.0.0/24".parse().unwrap()], 30000..=30003)
    }

    fn reserve(all: &Allocators, dry_run: bool) -> Reservation {
        all.reserve(
            Owner::of(&node!({"metadata": {"namespace": "a", "name": "b"}})),
            dry_run,
        )
    }

    fn address(reservation: &mut Reservation, text: &str) -> Result<(), String> {
        now(reservation.address(text.parse().unwrap())).unwrap()
    }

    #[test]
    fn what_is_not_committed_is_free_again() {
        let all = allocators();
        let mut one = reserve(&all, false);
        let given = now(one.any_address("IPv4", &Zero)).unwrap().unwrap();
        assert_eq!(given.to_string(), "10.0.0.17");
        assert_eq!(
            address(&mut reserve(&all, false), "10.0.0.17"),
            Err("provided IP is already allocated".into())
        );
        drop(one);
        let mut two = reserve(&all, false);
        assert_eq!(address(&mut two, "10.0.0.17"), Ok(()));
        Box::new(two).commit();
        assert!(address(&mut reserve(&all, false), "10.0.0.17").is_err());
        now(all.release(&node!({"spec": {"clusterIPs": ["10.0.0.17"]}})));
        assert!(address(&mut reserve(&all, false), "10.0.0.17").is_ok());
    }

    #[test]
    fn what_may_have_been_written_stays_taken() {
        let all = allocators();
        let mut one = reserve(&all, false);
        assert_eq!(address(&mut one, "10.0.0.9"), Ok(()));
        Box::new(one).keep();
        assert!(address(&mut reserve(&all, false), "10.0.0.9").is_err());
    }

    #[test]
    fn a_dry_run_takes_nothing() {
        let all = allocators();
        let mut dry = reserve(&all, true);
        assert_eq!(
            now(dry.any_address("IPv4", &Zero)).unwrap().unwrap().to_string(),
            "10.0.0.0"
        );
        assert_eq!(address(&mut dry, "10.0.0.9"), Ok(()));
        let why = "the provided IP (10.0.1.1) is not in the valid range. The range of valid IPs is 10.0.0.0/24";
        assert_eq!(address(&mut dry, "10.0.1.1"), Err(why.into()));
        assert_eq!(now(dry.any_port(&Zero)), Ok(Some(32769)));
        assert_eq!(now(dry.any_port(&Zero)), Ok(Some(32770)));
        assert!(now(dry.port(32770)).unwrap().is_err());
        Box::new(dry).commit();
        assert_eq!(address(&mut reserve(&all, false), "10.0.0.9"), Ok(()));
    }

    #[test]
    fn ports_run_out() {
        let all = allocators();
        let mut one = reserve(&all, false);
        assert_eq!((0..4).filter_map(|_| now(one.any_port(&Zero)).unwrap()).count(), 4);
        assert_eq!(now(one.any_port(&Zero)), Ok(None));
        let refused = now(reserve(&all, false).port(1)).unwrap().unwrap_err();
        assert!(
            refused.ends_with("The range of valid ports is 30000-30003"),
            "{refused}"
        );
    }

    #[test]
    fn the_ends_of_a_range_are_not_given_out() {
        let all = allocators();
        for text in ["10.0.0.0", "10.0.0.255", "10.0.1.1"] {
            let why = "the provided network does not match the current range";
            assert_eq!(address(&mut reserve(&all, false), text), Err(why.into()), "{text}");
        }
    }

    #[test]
    fn a_part_of_every_range_is_left_to_those_who_choose() {
        assert_eq!(
            (band(254, 16, 256), band(1 << 20, 16, 256), band(10, 16, 256)),
            (16, 256, 0)
        );
        assert_eq!((band(2768, 32, 128), band(1000, 32, 128)), (86, 31));
        let walked: Vec<u64> = once_around(5, 2, 4).collect();
        assert_eq!(walked, [3, 4, 2, 0, 1]);
    }
}
