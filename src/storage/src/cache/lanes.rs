//! [`Lanes`]: which of a ring's events a scope has, and who waits for more, so that an event costs only those who want it.
// PERFORMANCE: per-request path

use crate::cache::WatchScope;
use crate::cache::ring::Event;
use crate::cache::waves::{Moment, Waiters};
use crate::cached::Cached;
use compact_str::CompactString;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The events of one scope that has watchers.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// All of the lane's events above this revision are listed.
    pub floor: u64,
    /// Sequence numbers.
    pub events: VecDeque<u64>,
    pub waiters: Waiters,
}

type ByName = HashMap<CompactString, Lane>;

/// A lane for each scope that has watchers, besides the one that has everything.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    namespaces: ByName,
    keys: ByName,
    /// By field, value and namespace; the empty namespace stands for all.
    fields: HashMap<CompactString, HashMap<CompactString, ByName>>,
}

impl Lanes {
    pub fn get(&self, scope: &WatchScope) -> Option<&Lane> {
        match scope {
            WatchScope::All => None,
            WatchScope::Namespace(name) => self.namespaces.get(name),
            WatchScope::Key(key) => self.keys.get(key),
            WatchScope::Field {
                namespace,
                field,
                value,
            } => self.fields.get(field)?.get(value)?.get(namespace),
        }
    }

    /// The lane of a scope, made where there is none; none for [`WatchScope::All`].
    pub fn entry(&mut self, scope: &WatchScope) -> Option<&mut Lane> {
        Some(match scope {
            WatchScope::All => return None,
            WatchScope::Namespace(name) => self.namespaces.entry(name.clone()).or_default(),
            WatchScope::Key(key) => self.keys.entry(key.clone()).or_default(),
            WatchScope::Field {
                namespace,
                field,
                value,
            } => self
                .fields
                .entry(field.clone())
                .or_default()
                .entry(value.clone())
                .or_default()
                .entry(namespace.clone())
                .or_default(),
        })
    }

    /// Takes a watcher out, and its lane with the last one.
    pub fn leave(&mut self, scope: &WatchScope, id: u64) {
        match scope {
            WatchScope::All => {}
            WatchScope::Namespace(name) => leave(&mut self.namespaces, name, id),
            WatchScope::Key(key) => leave(&mut self.keys, key, id),
            WatchScope::Field {
                namespace,
                field,
                value,
            } => {
                let Some(values) = self.fields.get_mut(field) else {
                    return;
                };
                let Some(namespaces) = values.get_mut(value) else {
                    return;
                };
                leave(namespaces, namespace, id);
                if namespaces.is_empty() {
                    values.remove(value);
                }
                if values.is_empty() {
                    self.fields.remove(field);
                }
            }
        }
    }

    /// The lanes that an event belongs to, each once.
    pub fn each_of(&mut self, event: &Event, mut tell: impl FnMut(&mut Lane)) {
        let namespace = event.object.namespace();
        // Most caches have no lanes: spare them the hash.
        if !self.namespaces.is_empty()
            && let Some(lane) = self.namespaces.get_mut(namespace)
        {
            tell(lane);
        }
        if !self.keys.is_empty()
            && let Some(lane) = self.keys.get_mut(&*event.object.key)
        {
            tell(lane);
        }
        for (field, values) in &mut self.fields {
            for value in values_of(event, field) {
                let Some(namespaces) = values.get_mut(value) else {
                    continue;
                };
                if let Some(lane) = namespaces.get_mut("") {
                    tell(lane);
                }
                if !namespace.is_empty()
                    && let Some(lane) = namespaces.get_mut(namespace)
                {
                    tell(lane);
                }
            }
        }
    }

    pub fn each(&mut self, tell: impl FnMut(&mut Lane)) {
        let fields = self.fields.values_mut().flat_map(HashMap::values_mut);
        self.namespaces
            .values_mut()
            .chain(self.keys.values_mut())
            .chain(fields.flat_map(HashMap::values_mut))
            .for_each(tell);
    }

    /// Tells whoever wants one of the changes: what an object became, and what it was. Those who are to be woken later
    /// are put into `owed`.
    pub fn tell(&self, changed: &[(Arc<Cached>, Option<Arc<Cached>>)], at: Moment, owed: &mut Vec<(u64, WatchScope)>) {
        let mut tell = |lane: Option<&Lane>, scope: &dyn Fn() -> WatchScope| {
            let due = lane.and_then(|lane| lane.waiters.tell(at));
            owed.extend(due.map(|due| (due, scope())));
        };
        if !self.namespaces.is_empty() || !self.keys.is_empty() {
            let mut keys: Vec<&str> = changed.iter().map(|(object, _)| &*object.key).collect();
            keys.sort_unstable();
            keys.dedup();
            let mut last_namespace = None;
            for key in keys {
                let namespace = key.rsplit_once('/').map_or("", |(namespace, _)| namespace);
                if last_namespace != Some(namespace) {
                    last_namespace = Some(namespace);
                    tell(self.namespaces.get(namespace), &|| {
                        WatchScope::Namespace(namespace.into())
                    });
                }
                tell(self.keys.get(key), &|| WatchScope::Key(key.into()));
            }
        }
        for (field, values) in &self.fields {
            for (object, previous) in changed {
                let shown = std::iter::once(object).chain(previous).map(|o| o.field(field));
                for (value, namespaces) in shown.filter_map(|value| Some((value, values.get(value)?))) {
                    for namespace in ["", object.namespace()] {
                        tell(namespaces.get(namespace), &|| WatchScope::Field {
                            namespace: namespace.into(),
                            field: field.clone(),
                            value: value.into(),
                        });
                    }
                }
            }
        }
    }

    pub fn watchers(&self) -> usize {
        self.iter().map(|lane| lane.waiters.len()).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        let fields = self.fields.values().flat_map(HashMap::values).flat_map(HashMap::values);
        self.namespaces.values().chain(self.keys.values()).chain(fields)
    }
}

/// The values a field has before and after an event, where they differ both.
fn values_of<'a>(event: &'a Event, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let now = event.object.field(field);
    let before = event.previous.as_ref().map(|previous| previous.field(field));
    std::iter::once(now).chain(before.filter(|before| *before != now))
}

fn leave(lanes: &mut ByName, name: &str, id: u64) {
    let Some(lane) = lanes.get_mut(name) else { return };
    lane.waiters.remove(id);
    if lane.waiters.is_empty() {
        lanes.remove(name);
    }
}
