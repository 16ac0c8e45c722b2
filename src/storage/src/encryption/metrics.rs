//! What is told about encryption: upstream's families and label values.
// PERFORMANCE: per-request path

use crate::encryption::providers::Refused;
use crate::encryption::sha256;
use fairlead_api::GroupResource;
use fairlead_telemetry::Families;
use fairlead_telemetry::metrics::{Counters, Gauges, Histograms};
use std::time::Instant;

/// Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    operations: Counters,
    seconds: Histograms,
    plugin_seconds: Histograms,
    key_uses: Counters,
    key_used: Gauges,
    key_told: Gauges,
    invalid_keys: Counters,
    seeds_kept: Gauges,
    seeds_missed: Counters,
    seed_seconds: Histograms,
    seed_failures: Counters,
    /// Which server this is, hashed.
    server: Box<str>,
}

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::In => "to_storage",
            Way::Out => "from_storage",
        }
    }
}

/// `count` bounds from `first` on, each twice the one before.
fn doubled(first: f64, count: u32) -> Vec<f64> {
    (0..count).map(|times| first * f64::from(1 << times)).collect()
}

impl Metrics {
    /// `server` tells this server from others.
    pub fn register(families: &Families, server: &str) -> Metrics {
        Metrics {
            operations: families.counters(
                "apiserver_storage_transformation_operations_total",
                "Values sealed and opened, by what came of it.",
                &["resource", "transformation_type", "transformer_prefix", "status"],
            ),
            seconds: families.histograms(
                "apiserver_storage_transformation_duration_seconds",
                "Time to seal or open a value in seconds.",
                &["transformation_type", "transformer_prefix"],
                &doubled(5e-6, 25),
            ),
            plugin_seconds: families.histograms(
                "apiserver_envelope_encryption_kms_operations_latency_seconds",
                "Time of a KMS plugin's answers in seconds, by gRPC status.",
                &["provider_name", "method_name", "grpc_status_code"],
                &doubled(1e-4, 20),
            ),
            key_uses: families.counters(
                "apiserver_envelope_encryption_key_id_hash_total",
                "Uses of a key, by provider.",
                &[
                    "transformation_type",
                    "provider_name",
                    "key_id_hash",
                    "apiserver_id_hash",
                ],
            ),
            key_used: families.gauges(
                "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds",
                "When a key was last used.",
                &[
                    "transformation_type",
                    "provider_name",
                    "key_id_hash",
                    "apiserver_id_hash",
                ],
            ),
            key_told: families.gauges(
                "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds",
                "When a plugin last said that it uses a key.",
                &["provider_name", "key_id_hash", "apiserver_id_hash"],
            ),
            invalid_keys: families.counters(
                "apiserver_envelope_encryption_invalid_key_id_from_status_total",
                "Key ids of plugins that cannot be used.",
                &["provider_name", "error"],
            ),
            seeds_kept: families.gauges(
                "apiserver_envelope_encryption_dek_source_cache_size",
                "Seeds of data keys kept open: about as many as a restart will have to ask for.",
                &["provider_name"],
            ),
            seeds_missed: families.counters(
                "apiserver_storage_envelope_transformation_cache_misses_total",
                "Values whose key a plugin had to open.",
                &[],
            ),
            seed_seconds: families.histograms(
                "apiserver_storage_data_key_generation_duration_seconds",
                "Time to make a data key in seconds.",
                &[],
                &doubled(5e-6, 14),
            ),
            seed_failures: families.counters(
                "apiserver_storage_data_key_generation_failures_total",
                "Data keys that could not be made.",
                &[],
            ),
            server: sha256(server.as_bytes()).into(),
        }
    }

    /// One attempt with the provider (or the key) that `prefix` names has ended.
    pub(super) fn transformed(
        &self,
        resource: &GroupResource,
        way: Way,
        prefix: &str,
        started: Instant,
        refused: Option<&Refused>,
    ) {
        let status = refused.map_or("OK", Refused::status);
        self.operations
            .with(&[&resource.to_string(), way.name(), prefix, status])
            .inc();
        if refused.is_none() {
            self.seconds
                .with(&[way.name(), prefix])
                .observe(started.elapsed().as_secs_f64());
        }
    }

    /// A plugin has answered, or not.
    pub(super) fn plugin_asked(&self, provider: &str, method: &str, code: &str, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        self.plugin_seconds.with(&[provider, method, code]).observe(seconds);
    }

    pub(super) fn key_used(&self, way: Way, provider: &str, key_id: &str, now: i64) {
        let hash = sha256(key_id.as_bytes());
        let labels = [way.name(), provider, &hash, &self.server];
        self.key_uses.with(&labels).inc();
        self.key_used.with(&labels).set(now);
    }

    pub(super) fn key_told(&self, provider: &str, key_id: &str, now: i64) {
        let hash = sha256(key_id.as_bytes());
        self.key_told.with(&[provider, &hash, &self.server]).set(now);
    }

    pub(super) fn invalid_key_id(&self, provider: &str, what: &str) {
        self.invalid_keys.with(&[provider, what]).inc();
    }

    pub(super) fn seeds_kept(&self, provider: &str, count: usize) {
        self.seeds_kept
            .with(&[provider])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn seed_missed(&self) {
        self.seeds_missed.with(&[]).inc();
    }

    pub(super) fn seed_made(&self, started: Instant, ok: bool) {
        if ok {
            self.seed_seconds.with(&[]).observe(started.elapsed().as_secs_f64());
        } else {
            self.seed_failures.with(&[]).inc();
        }
    }
}
