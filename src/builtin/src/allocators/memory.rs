//! [`MemoryLedger`]: who has what, for one process and for as long as it lives.

use super::ports::PortMap;
use super::{ChoosePort, Item, Ledger, Owner};
use fairlead_api::StatusResult;
use futures_util::future::{BoxFuture, ready};
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Forgets everything in the end. For tests, and for tools that only look at definitions.
pub struct MemoryLedger {
    ranges: Vec<IpNet>,
    taken: Mutex<(HashSet<IpAddr>, PortMap)>,
}

impl MemoryLedger {
    pub fn new(ranges: Vec<IpNet>, ports: RangeInclusive<u16>) -> MemoryLedger {
        MemoryLedger {
            ranges,
            taken: Mutex::new((HashSet::new(), PortMap::new(ports))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (HashSet<IpAddr>, PortMap)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for MemoryLedger {
    fn ranges(&self) -> Vec<IpNet> {
        self.ranges.clone()
    }

    fn has(&self, address: IpAddr) -> bool {
        self.lock().0.contains(&address)
    }

    fn claim<'a>(&'a self, address: IpAddr, _: &'a Owner) -> BoxFuture<'a, StatusResult<bool>> {
        Box::pin(ready(Ok(self.lock().0.insert(address))))
    }

    fn claim_port<'a>(&'a self, choose: &'a ChoosePort<'a>) -> BoxFuture<'a, StatusResult<Option<u16>>> {
        let ports = &mut self.lock().1;
        let port = choose(ports);
        port.iter().for_each(|port| ports.take(*port));
        Box::pin(ready(Ok(port)))
    }

    fn port_map(&self) -> BoxFuture<'_, StatusResult<PortMap>> {
        Box::pin(ready(Ok(self.lock().1.clone())))
    }

    fn give_back(&self, _: &Owner, items: Vec<Item>) {
        let (addresses, ports) = &mut *self.lock();
        for item in items {
            match item {
                Item::Address(address) => drop(addresses.remove(&address)),
                Item::Port(port) => ports.free(port),
            }
        }
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
