//! Service addresses and node ports: who has which, in memory, fed from the stored services at start.

use crate::value::{int, list};
use fairlead_api::Node;
use fairlead_resource::hooks::{Claim, Entropy};
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

/// All ranges services are given something from. Cheap to clone.
#[derive(Clone)]
pub struct Allocators {
    shared: Arc<Shared>,
}

struct Shared {
    ranges: Vec<IpNet>,
    ports: RangeInclusive<u16>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Address(IpAddr),
    Port(u16),
}

/// What one write takes and gives back: taken at once, given back when the write has happened.
pub struct Reservation {
    allocators: Allocators,
    taken: Vec<Item>,
    returned: Vec<Item>,
    /// The ports a dry run has named. As upstream, it does not care whether they are in the range.
    named: Vec<i64>,
    dry_run: bool,
}

impl Allocators {
    /// The first range decides which family comes first.
    pub fn new(ranges: Vec<IpNet>, ports: RangeInclusive<u16>) -> Allocators {
        Allocators {
            shared: Arc::new(Shared {
                ranges,
                ports,
                taken: Mutex::default(),
            }),
        }
    }

    /// Notes what a stored service has.
    pub fn adopt(&self, service: &Node) {
        let mut taken = self.lock();
        for item in items(service) {
            taken.insert(item);
        }
    }

    /// Takes back what a deleted service had.
    pub fn release(&self, service: &Node) {
        let mut taken = self.lock();
        for item in items(service) {
            taken.remove(item);
        }
    }

    pub fn reserve(&self, dry_run: bool) -> Reservation {
        Reservation {
            allocators: self.clone(),
            taken: Vec::new(),
            returned: Vec::new(),
            named: Vec::new(),
            dry_run,
        }
    }

    /// `IPv4` or `IPv6`, one a configured range, the default one first.
    pub fn families(&self) -> impl Iterator<Item = &'static str> {
        self.shared
            .ranges
            .iter()
            .map(|range| if range.addr().is_ipv4() { "IPv4" } else { "IPv6" })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.shared
            .taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Reservation {
    /// Takes this address.
    ///
    /// # Errors
    /// Upstream's words for an address that is taken or in no range.
    pub fn address(&mut self, address: IpAddr) -> Result<(), &'static str> {
        let Some(range) = self.allocators.shared.ranges.iter().find(|r| r.contains(&address)) else {
            return Err("the provided network does not match the current range");
        };
        if is_reserved(range, address) {
            return Err("the provided IP is not in the valid range");
        }
        self.take(Item::Address(address))
            .then_some(())
            .ok_or("provided IP is already allocated")
    }

    /// Takes any free address of a family. The upper part of the range is used first, so that the lower one is left to
    /// those who choose for themselves (KEP-3070).
    pub fn any_address(&mut self, family: &str, entropy: &dyn Entropy) -> Option<IpAddr> {
        let range = *self
            .allocators
            .shared
            .ranges
            .iter()
            .find(|r| r.addr().is_ipv4() == (family == "IPv4"))?;
        let size = range_size(&range);
        let band = band(size, 256);
        let found = self.pick(size, band, entropy, |n| address_at(&range, n + 1).map(Item::Address))?;
        match found {
            Item::Address(address) => Some(address),
            Item::Port(_) => None,
        }
    }

    /// Takes this node port.
    ///
    /// # Errors
    /// Upstream's words for a port that is taken or out of range.
    pub fn port(&mut self, port: i64) -> Result<(), String> {
        if self.dry_run {
            let known = u16::try_from(port).is_ok_and(|port| self.allocators.lock().ports.contains(&port));
            if known || self.named.contains(&port) {
                return Err("provided port is already allocated".into());
            }
            self.named.push(port);
            return Ok(());
        }
        let ports = &self.allocators.shared.ports;
        match u16::try_from(port).ok().filter(|p| ports.contains(p)) {
            None => Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                ports.start(),
                ports.end()
            )),
            Some(port) => self
                .take(Item::Port(port))
                .then_some(())
                .ok_or_else(|| "provided port is already allocated".into()),
        }
    }

    /// Takes any free node port, the upper ones first (KEP-3668). A dry run answers a likely one.
    pub fn any_port(&mut self, entropy: &dyn Entropy) -> Option<i64> {
        if self.dry_run {
            let port = self.named.iter().max().map_or(32768, |last| (*last).max(0)) + 1;
            self.named.push(port);
            return Some(port);
        }
        let (start, end) = (
            *self.allocators.shared.ports.start(),
            *self.allocators.shared.ports.end(),
        );
        let size = u64::from(end.saturating_sub(start)) + 1;
        let found = self.pick(size, band(size, 128), entropy, |n| Some(Item::Port(start + n as u16)))?;
        match found {
            Item::Port(port) => Some(i64::from(port)),
            Item::Address(_) => None,
        }
    }

    /// Gives an address back when the write has happened.
    pub fn return_address(&mut self, address: IpAddr) {
        self.returned.push(Item::Address(address));
    }

    pub fn return_port(&mut self, port: i64) {
        self.returned.extend(u16::try_from(port).map(Item::Port));
    }

    fn pick(
        &mut self,
        size: u64,
        band: u64,
        entropy: &dyn Entropy,
        item: impl Fn(u64) -> Option<Item>,
    ) -> Option<Item> {
        for (start, len) in [(band, size.saturating_sub(band)), (0, band)] {
            if len == 0 {
                continue;
            }
            let first = entropy.bits() % len;
            // A range is walked once around; a huge one only as far as is worth it.
            let found = (0..len.min(1 << 20))
                .filter_map(|i| item(start + (first + i) % len))
                .find(|i| self.take(*i));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn take(&mut self, item: Item) -> bool {
        let taken = self.allocators.lock().insert(item);
        if taken {
            self.taken.push(item);
        }
        taken
    }
}

impl Claim for Reservation {
    fn commit(mut self: Box<Self>) {
        if self.dry_run {
            return;
        }
        let mut taken = self.allocators.lock();
        for item in &self.returned {
            taken.remove(*item);
        }
        drop(taken);
        self.taken.clear();
    }

    fn release(self: Box<Self>) {}
}

impl Drop for Reservation {
    /// What was taken and not committed is free again.
    fn drop(&mut self) {
        let mut taken = self.allocators.lock();
        for item in &self.taken {
            taken.remove(*item);
        }
    }
}

impl Taken {
    fn insert(&mut self, item: Item) -> bool {
        match item {
            Item::Address(address) => self.addresses.insert(address),
            Item::Port(port) => self.ports.insert(port),
        }
    }

    fn remove(&mut self, item: Item) {
        match item {
            Item::Address(address) => self.addresses.remove(&address),
            Item::Port(port) => self.ports.remove(&port),
        };
    }
}

fn items(service: &Node) -> Vec<Item> {
    let addresses = list(service, &["spec", "clusterIPs"]).iter().filter_map(Node::as_str);
    let mut items: Vec<Item> = addresses.filter_map(|a| a.parse().ok()).map(Item::Address).collect();
    let ports = list(service, &["spec", "ports"]).iter().map(|p| int(p, &["nodePort"]));
    let ports = ports
        .chain([int(service, &["spec", "healthCheckNodePort"])])
        .filter(|p| *p != 0);
    items.extend(ports.filter_map(|p| u16::try_from(p).ok()).map(Item::Port));
    items
}

/// The part of a range that is left to explicit choices: a sixteenth, at least 16, at most `max`.
fn band(size: u64, max: u64) -> u64 {
    match (size / 16).clamp(16, max) {
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

    struct Zero;
    impl Entropy for Zero {
        fn bits(&self) -> u64 {
            0
        }
    }

    fn allocators() -> Allocators {
        Allocators::new(vec!["10.0.0.0/24".parse().unwrap()], 30000..=30003)
    }

    #[test]
    fn what_is_not_committed_is_free_again() {
        let all = allocators();
        let mut one = all.reserve(false);
        let address = one.any_address("IPv4", &Zero).unwrap();
        assert_eq!(address.to_string(), "10.0.0.17");
        assert_eq!(
            all.reserve(false).address(address),
            Err("provided IP is already allocated")
        );
        drop(one);
        let mut two = all.reserve(false);
        assert_eq!(two.address(address), Ok(()));
        Box::new(two).commit();
        assert!(all.reserve(false).address(address).is_err());
        all.release(&node!({"spec": {"clusterIPs": ["10.0.0.17"]}}));
        assert!(all.reserve(false).address(address).is_ok());
    }

    #[test]
    fn a_dry_run_takes_nothing() {
        let all = allocators();
        let mut dry = all.reserve(true);
        let address = dry.any_address("IPv4", &Zero).unwrap();
        assert_eq!(dry.any_port(&Zero), Some(32769));
        assert_eq!(dry.any_port(&Zero), Some(32770));
        assert!(dry.port(32770).is_err());
        Box::new(dry).commit();
        assert_eq!(all.reserve(false).address(address), Ok(()));
    }

    #[test]
    fn ports_run_out() {
        let all = allocators();
        let mut all_ports = all.reserve(false);
        assert_eq!((0..4).filter_map(|_| all_ports.any_port(&Zero)).count(), 4);
        assert_eq!(all_ports.any_port(&Zero), None);
        assert!(
            all.reserve(false)
                .port(1)
                .unwrap_err()
                .ends_with("The range of valid ports is 30000-30003")
        );
    }

    #[test]
    fn the_ends_of_a_range_are_not_given_out() {
        let all = allocators();
        for address in ["10.0.0.0", "10.0.0.255", "10.0.1.1"] {
            assert!(
                all.reserve(false).address(address.parse().unwrap()).is_err(),
                "{address}"
            );
        }
    }
}
