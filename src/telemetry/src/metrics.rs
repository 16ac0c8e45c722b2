//! Metric families on the prometheus registry: looked up by label values, bounded in series.
// PERFORMANCE: per-request path

use crate::exemplars::{Exemplar, Exemplars};
use crate::trace::TraceId;
use dashmap::DashMap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
pub use prometheus::{Gauge, Histogram, IntCounter, IntGauge};
use prometheus::{HistogramOpts, Opts, Registry};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex};

/// More series than this in one family go to one whose label values are all `other`.
pub const MAX_SERIES: usize = 10_000;
/// The label value of what is not told apart.
pub const OTHER: &str = "other";

/// All families of one server. Cheap to clone.
#[derive(Clone)]
pub struct Families {
    registry: Registry,
    known: Arc<Mutex<HashMap<&'static str, Known>>>,
    /// What brings gauges up to date before they are read.
    refreshes: Arc<Mutex<Vec<Refresh>>>,
    dropped: IntCounter,
}

type Refresh = Arc<dyn Fn() + Send + Sync>;

/// A counter for each set of label values.
pub type Counters = Family<IntCounter>;
/// A gauge for each set of label values.
pub type Gauges = Family<IntGauge>;
/// A gauge of fractions for each set of label values.
pub type FloatGauges = Family<Gauge>;
/// A histogram for each set of label values.
pub type Histograms = Family<Histogram>;

/// One family. Cheap to clone.
pub struct Family<M>(Arc<Series<M>>);

/// What one series of a family is.
pub trait Metric: prometheus::core::Metric + Clone + 'static {
    const TYPE: MetricType;
    fn build(opts: Opts, buckets: &[f64]) -> prometheus::Result<Self>;
    fn known(family: &Family<Self>) -> Known;
    fn of(known: &Known) -> Option<Family<Self>>;
}

/// A registered family, by type; only `Families` looks inside.
#[derive(Clone)]
pub enum Known {
    Counters(Counters),
    Gauges(Gauges),
    FloatGauges(FloatGauges),
    Histograms(Histograms),
}

struct Series<M> {
    name: &'static str,
    help: &'static str,
    labels: Vec<&'static str>,
    buckets: Vec<f64>,
    desc: Desc,
    hasher: RandomState,
    series: DashMap<u64, M>,
    exemplars: Exemplars,
    dropped: IntCounter,
}

// === impl Families ===

impl Default for Families {
    fn default() -> Families {
        let registry = Registry::new();
        let dropped = IntCounter::new(
            "fairlead_metric_series_dropped_total",
            "Samples of series above a family's bound.",
        )
        .expect("the name is valid");
        registry
            .register(Box::new(dropped.clone()))
            .expect("the registry is empty");
        Families {
            registry,
            known: Arc::default(),
            refreshes: Arc::default(),
            dropped,
        }
    }
}

impl Families {
    /// The family `name`, made on first use. Asking again gives the same one.
    pub fn counters(&self, name: &'static str, help: &'static str, labels: &[&'static str]) -> Counters {
        self.family(name, help, labels, &[])
    }

    pub fn gauges(&self, name: &'static str, help: &'static str, labels: &[&'static str]) -> Gauges {
        self.family(name, help, labels, &[])
    }

    pub fn float_gauges(&self, name: &'static str, help: &'static str, labels: &[&'static str]) -> FloatGauges {
        self.family(name, help, labels, &[])
    }

    /// `buckets` are upper bounds, ascending, without `+Inf`.
    pub fn histograms(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        buckets: &[f64],
    ) -> Histograms {
        self.family(name, help, labels, buckets)
    }

    /// Runs `refresh` before each reading: for gauges that say how things are, like ages.
    pub fn before_reading(&self, refresh: impl Fn() + Send + Sync + 'static) {
        let mut refreshes = self.refreshes.lock().expect("no holder of this lock panics");
        refreshes.push(Arc::new(refresh));
    }

    /// Every family's current values, sorted by name.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let refreshes = self.refreshes.lock().expect("no holder of this lock panics").clone();
        refreshes.iter().for_each(|refresh| refresh());
        self.registry.gather()
    }

    /// The latest traced observation of each bucket of one series of a histogram, `+Inf` last; empty where there is none.
    pub fn exemplars(&self, name: &str, metric: &prometheus::proto::Metric) -> Vec<Option<Exemplar>> {
        let known = self.known.lock().expect("no holder of this lock panics");
        match known.get(name) {
            Some(Known::Histograms(family)) => family.exemplars_of(metric),
            _ => Vec::new(),
        }
    }

    fn family<M: Metric>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        buckets: &[f64],
    ) -> Family<M> {
        let mut known = self.known.lock().expect("no holder of this lock panics");
        if let Some(family) = known.get(name) {
            return M::of(family).expect("a metric name has one type");
        }
        let desc = Desc::new(
            name.into(),
            help.into(),
            labels.iter().map(|l| (*l).into()).collect(),
            HashMap::new(),
        )
        .expect("metric and label names are valid");
        let family = Family(Arc::new(Series {
            name,
            help,
            labels: labels.to_vec(),
            buckets: buckets.to_vec(),
            desc,
            hasher: RandomState::new(),
            series: DashMap::new(),
            exemplars: Exemplars::default(),
            dropped: self.dropped.clone(),
        }));
        if labels.is_empty() {
            family.with(&[]);
        }
        known.insert(name, M::known(&family));
        self.registry
            .register(Box::new(family.clone()))
            .expect("the name was not known");
        family
    }
}

// === impl Family ===

impl<M> Clone for Family<M> {
    fn clone(&self) -> Self {
        Family(self.0.clone())
    }
}

impl<M: Metric> Family<M> {
    /// The series with these label values, in the order of the labels. Keep the result where it is used again.
    pub fn with(&self, values: &[&str]) -> M {
        self.keyed(values).1
    }

    /// The series, and the key it is found by.
    fn keyed(&self, values: &[&str]) -> (u64, M) {
        let series = &self.0;
        debug_assert_eq!(values.len(), series.labels.len(), "{}", series.name);
        let key = series.key(values);
        if let Some(metric) = series.series.get(&key) {
            return (key, metric.clone());
        }
        if series.series.len() >= MAX_SERIES {
            series.dropped.inc();
            let others = vec![OTHER; values.len()];
            let key = series.key(&others);
            return (key, series.make(key, &others));
        }
        (key, series.make(key, values))
    }

    /// Forgets the series with these label values.
    pub fn remove(&self, values: &[&str]) {
        let key = self.0.key(values);
        self.0.series.remove(&key);
        self.0.exemplars.remove(key);
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.0.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.series.is_empty()
    }
}

impl Family<Histogram> {
    /// Observes `value`; where it belongs to a recorded trace, it becomes its bucket's example.
    pub fn observe(&self, values: &[&str], value: f64, trace: Option<TraceId>) {
        let (key, histogram) = self.keyed(values);
        histogram.observe(value);
        if let Some(trace) = trace {
            self.0.exemplars.put(key, &self.0.buckets, value, trace);
        }
    }

    fn exemplars_of(&self, metric: &prometheus::proto::Metric) -> Vec<Option<Exemplar>> {
        let value_of = |label: &&str| {
            let pair = metric.get_label().iter().find(|pair| pair.name() == *label);
            pair.map_or("", |pair| pair.value())
        };
        let values: Vec<&str> = self.0.labels.iter().map(value_of).collect();
        self.0.exemplars.of(self.0.key(&values))
    }
}

impl<M: Metric> Series<M> {
    fn key(&self, values: &[&str]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for value in values {
            hasher.write(value.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    fn make(&self, key: u64, values: &[&str]) -> M {
        let made = self.series.entry(key).or_insert_with(|| {
            let labels = self
                .labels
                .iter()
                .zip(values)
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            M::build(Opts::new(self.name, self.help).const_labels(labels), &self.buckets)
                .expect("the names were checked when the family was made")
        });
        made.clone()
    }
}

impl<M: Metric> Collector for Family<M> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics: Vec<_> = self.0.series.iter().map(|m| m.value().metric()).collect();
        if metrics.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(self.0.name.into());
        family.set_help(self.0.help.into());
        family.set_field_type(M::TYPE);
        family.set_metric(metrics);
        vec![family]
    }
}

impl Metric for IntCounter {
    const TYPE: MetricType = MetricType::COUNTER;

    fn build(opts: Opts, _: &[f64]) -> prometheus::Result<Self> {
        IntCounter::with_opts(opts)
    }

    fn known(family: &Family<Self>) -> Known {
        Known::Counters(family.clone())
    }

    fn of(known: &Known) -> Option<Family<Self>> {
        match known {
            Known::Counters(family) => Some(family.clone()),
            _ => None,
        }
    }
}

impl Metric for IntGauge {
    const TYPE: MetricType = MetricType::GAUGE;

    fn build(opts: Opts, _: &[f64]) -> prometheus::Result<Self> {
        IntGauge::with_opts(opts)
    }

    fn known(family: &Family<Self>) -> Known {
        Known::Gauges(family.clone())
    }

    fn of(known: &Known) -> Option<Family<Self>> {
        match known {
            Known::Gauges(family) => Some(family.clone()),
            _ => None,
        }
    }
}

impl Metric for Gauge {
    const TYPE: MetricType = MetricType::GAUGE;

    fn build(opts: Opts, _: &[f64]) -> prometheus::Result<Self> {
        Gauge::with_opts(opts)
    }

    fn known(family: &Family<Self>) -> Known {
        Known::FloatGauges(family.clone())
    }

    fn of(known: &Known) -> Option<Family<Self>> {
        match known {
            Known::FloatGauges(family) => Some(family.clone()),
            _ => None,
        }
    }
}

impl Metric for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn build(opts: Opts, buckets: &[f64]) -> prometheus::Result<Self> {
        Histogram::with_opts(HistogramOpts::from(opts).buckets(buckets.to_vec()))
    }

    fn known(family: &Family<Self>) -> Known {
        Known::Histograms(family.clone())
    }

    fn of(known: &Known) -> Option<Family<Self>> {
        match known {
            Known::Histograms(family) => Some(family.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_do_not_run_together() {
        let counters = Families::default().counters("c_total", "C.", &["a", "b"]);
        counters.with(&["x", "yz"]).inc();
        counters.with(&["xy", "z"]).inc_by(5);
        assert_eq!(counters.with(&["x", "yz"]).get(), 1);
        assert_eq!(counters.len(), 2);
    }

    #[test]
    fn a_family_is_bounded() {
        let families = Families::default();
        let gauges = families.gauges("g", "G.", &["path"]);
        for i in 0..MAX_SERIES + 5 {
            gauges.with(&[&i.to_string()]).set(1);
        }
        assert_eq!(gauges.len(), MAX_SERIES + 1);
        assert_eq!(families.dropped.get(), 5);
    }

    #[test]
    fn a_name_asked_for_twice_is_one_family() {
        let families = Families::default();
        families.counters("c_total", "C.", &["a"]).with(&["x"]).inc();
        assert_eq!(families.counters("c_total", "C.", &["a"]).with(&["x"]).get(), 1);
    }
}
