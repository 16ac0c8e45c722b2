//! [`Changes`]: tells apart whose object was written, so that a backend hears of its own and of no other.

use crate::objects::{ENDPOINT_SLICES, Resource, SERVICE_NAME_LABEL};
use compact_str::CompactString;
use fairlead_api::Node;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A number for every object that somebody waits for.
#[derive(Default)]
pub struct Changes(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    of: HashMap<Whose, watch::Sender<u64>>,
    /// With this many, those that nobody waits for any longer are dropped.
    sweep_at: usize,
}

/// Resource, namespace and name; of EndpointSlices, the name of their Service.
type Whose = (Resource, CompactString, CompactString);

const SWEEP: usize = 64;

impl Changes {
    /// A number that changes whenever somebody tells of this object.
    pub fn of(&self, resource: Resource, namespace: &str, name: &str) -> watch::Receiver<u64> {
        let mut numbers = self.lock();
        if numbers.of.len() >= numbers.sweep_at {
            numbers.of.retain(|_, number| number.receiver_count() > 0);
            numbers.sweep_at = numbers.of.len() * 2 + SWEEP;
        }
        let whose = (resource, namespace.into(), name.into());
        let number = numbers.of.entry(whose).or_insert_with(|| watch::Sender::new(1));
        number.subscribe()
    }

    pub fn tell(&self, resource: Resource, namespace: &str, name: &str) {
        let whose = (resource, namespace.into(), name.into());
        if let Some(number) = self.lock().of.get(&whose) {
            number.send_modify(|n| *n += 1);
        }
    }

    /// Nobody knows what was written.
    pub fn tell_all(&self, resource: Resource) {
        let numbers = self.lock();
        let all = numbers.of.iter().filter(|((of, ..), _)| *of == resource);
        all.for_each(|(_, number)| number.send_modify(|n| *n += 1));
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which a change of this object is told.
pub fn told_as(resource: Resource, object: &Node) -> &str {
    match resource {
        ENDPOINT_SLICES => service_of(object),
        _ => object.name(),
    }
}

/// The Service of an EndpointSlice; empty where it names none.
pub fn service_of(slice: &Node) -> &str {
    let labels = slice.labels();
    let label = labels.and_then(|l| l.get(SERVICE_NAME_LABEL)).and_then(Node::as_str);
    label.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::SERVICES;

    #[test]
    fn only_those_concerned_are_told() {
        let changes = Changes::default();
        let (mut one, mut other) = (changes.of(SERVICES, "n", "one"), changes.of(SERVICES, "n", "other"));
        let mut slices = changes.of(ENDPOINT_SLICES, "n", "one");
        changes.tell(SERVICES, "n", "one");
        let moved = |number: &mut watch::Receiver<u64>| std::mem::take(&mut number.has_changed().unwrap());
        assert!(moved(&mut one) && !moved(&mut other) && !moved(&mut slices));
        one.borrow_and_update();
        changes.tell_all(SERVICES);
        assert!(moved(&mut one) && moved(&mut other) && !moved(&mut slices));
    }

    #[test]
    fn what_nobody_waits_for_is_dropped() {
        let changes = Changes::default();
        let kept = changes.of(SERVICES, "n", "kept");
        for i in 0..1000 {
            drop(changes.of(SERVICES, "n", &i.to_string()));
        }
        assert!(changes.lock().of.len() < 3 * SWEEP);
        changes.tell(SERVICES, "n", "kept");
        assert!(kept.has_changed().unwrap());
    }
}
