//! What the watch caches do and hold, under the names that dashboards of kube-apiserver read, and some of our own.

use fairlead_api::GroupResource;
use fairlead_storage::Stats;
use fairlead_telemetry::Families;
use fairlead_telemetry::metrics::{Counters, Gauges};
use std::collections::BTreeMap;

/// Metrics of all caches, told now and then.
pub struct CacheMetrics {
    objects: Gauges,
    gauges: Vec<(Gauges, fn(&Stats) -> u64)>,
    counters: Vec<(Counters, fn(&Stats) -> u64)>,
    lists: Counters,
    fetched: Counters,
    /// What was told last, by resource.
    told: BTreeMap<GroupResource, Stats>,
}

const LABELS: [&str; 2] = ["group", "resource"];

impl CacheMetrics {
    pub fn register(families: &Families) -> CacheMetrics {
        let gauge = |name, help, of: fn(&Stats) -> u64| (families.gauges(name, help, &LABELS), of);
        let counter = |name, help, of: fn(&Stats) -> u64| (families.counters(name, help, &LABELS), of);
        CacheMetrics {
            objects: families.gauges(
                "apiserver_storage_objects",
                "Stored objects, by resource.",
                &["resource"],
            ),
            gauges: vec![
                gauge("apiserver_resource_objects", "Stored objects, by resource.", |s| {
                    s.objects
                }),
                gauge(
                    "apiserver_resource_size_estimate_bytes",
                    "Bytes of stored objects, by resource.",
                    |s| s.object_bytes,
                ),
                gauge(
                    "apiserver_watch_cache_resource_version",
                    "The version a watch cache has reached, modulo 10^15.",
                    |s| s.revision % 1_000_000_000_000_000,
                ),
                gauge("apiserver_watch_cache_capacity", "Events a watch cache holds.", |s| {
                    s.events
                }),
                gauge(
                    "fairlead_watch_cache_event_bytes",
                    "Bytes of the events that a watch cache holds.",
                    |s| s.event_bytes,
                ),
                gauge(
                    "fairlead_watch_cache_event_bytes_limit",
                    "Bytes that the events of a watch cache may take.",
                    |s| s.event_capacity,
                ),
                gauge("fairlead_watch_cache_watchers", "Watchers of a watch cache.", |s| {
                    s.watchers
                }),
            ],
            counters: vec![
                counter(
                    "apiserver_watch_cache_initializations_total",
                    "Loads of a watch cache from the store.",
                    |s| s.initializations,
                ),
                counter(
                    "apiserver_init_events_total",
                    "Objects read by loads of a watch cache.",
                    |s| s.init_events,
                ),
                counter(
                    "apiserver_watch_cache_events_received_total",
                    "Changes a watch cache got from the store.",
                    |s| s.events_received,
                ),
                counter(
                    "apiserver_watch_cache_events_dispatched_total",
                    "Events a watch cache handed to watchers.",
                    |s| s.events_dispatched,
                ),
                counter(
                    "apiserver_terminated_watchers_total",
                    "Watchers that fell too far behind.",
                    |s| s.terminated_watchers,
                ),
                counter(
                    "apiserver_cache_list_returned_objects_total",
                    "Objects that lists from a watch cache answered with.",
                    |s| s.listed,
                ),
                counter("apiserver_storage_list_total", "Lists that went to the store.", |s| {
                    s.initializations + s.store_lists
                }),
                counter(
                    "apiserver_storage_list_fetched_objects_total",
                    "Objects that lists read from the store.",
                    |s| s.init_events + s.store_list_objects,
                ),
                counter(
                    "apiserver_storage_list_returned_objects_total",
                    "Objects that lists from the store answered with.",
                    |s| s.init_events + s.store_list_objects,
                ),
            ],
            lists: families.counters(
                "apiserver_cache_list_total",
                "Lists from a watch cache, by the index they used.",
                &["group", "resource", "index"],
            ),
            fetched: families.counters(
                "apiserver_cache_list_fetched_objects_total",
                "Objects that lists from a watch cache looked at.",
                &["group", "resource", "index"],
            ),
            told: BTreeMap::new(),
        }
    }

    /// Tells how all caches are doing. Those that are gone have nothing any more.
    pub fn tell(&mut self, now: BTreeMap<GroupResource, Stats>) {
        let gone = self.told.keys().filter(|resource| !now.contains_key(*resource));
        for resource in gone {
            self.set(resource, &Stats::default());
        }
        for (resource, stats) in &now {
            self.set(resource, stats);
            self.count(resource, stats);
        }
        self.told = now;
    }

    fn set(&self, resource: &GroupResource, stats: &Stats) {
        let labels = [resource.group.as_str(), resource.resource.as_str()];
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.objects
            .with(&[resource.to_string().as_str()])
            .set(signed(stats.objects));
        for (gauges, of) in &self.gauges {
            gauges.with(&labels).set(signed(of(stats)));
        }
    }

    fn count(&self, resource: &GroupResource, stats: &Stats) {
        let labels = [resource.group.as_str(), resource.resource.as_str()];
        let told = self.told.get(resource);
        // A cache that was started again counts from nothing.
        let since = |of: &dyn Fn(&Stats) -> u64| {
            let (now, then) = (of(stats), told.map_or(0, of));
            now.checked_sub(then).unwrap_or(now)
        };
        for (counters, of) in &self.counters {
            counters.with(&labels).inc_by(since(of));
        }
        for index in stats.lists.keys() {
            let labels = [labels[0], labels[1], index.as_str()];
            let of = |stats: &Stats| stats.lists.get(index).copied().unwrap_or_default();
            self.lists.with(&labels).inc_by(since(&|stats: &Stats| of(stats).lists));
            self.fetched
                .with(&labels)
                .inc_by(since(&|stats: &Stats| of(stats).fetched));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_storage::Listed;

    #[test]
    fn counters_go_up_by_what_happened_and_gauges_are_what_is() {
        let families = Families::default();
        let mut metrics = CacheMetrics::register(&families);
        let pods = GroupResource::new("", "pods");
        let stats = |events, objects, lists| Stats {
            events_received: events,
            objects,
            lists: [(
                "".into(),
                Listed {
                    lists,
                    fetched: 2 * lists,
                },
            )]
            .into(),
            ..Stats::default()
        };
        for (events, objects, lists) in [(3, 7, 1), (5, 6, 4), (1, 2, 1)] {
            metrics.tell([(pods.clone(), stats(events, objects, lists))].into());
        }
        let counter =
            |name, labels: &[&'static str], values: &[&str]| families.counters(name, "", labels).with(values).get();
        let received = counter("apiserver_watch_cache_events_received_total", &LABELS, &["", "pods"]);
        assert_eq!(received, 6, "the third time it counts from nothing");
        let fetched = "apiserver_cache_list_fetched_objects_total";
        assert_eq!(counter(fetched, &["group", "resource", "index"], &["", "pods", ""]), 10);
        let objects = || {
            families
                .gauges("apiserver_storage_objects", "", &["resource"])
                .with(&["pods"])
                .get()
        };
        assert_eq!(objects(), 2);
        metrics.tell(BTreeMap::new());
        assert_eq!(objects(), 0);
    }
}
