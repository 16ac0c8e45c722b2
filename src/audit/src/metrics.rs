//! Upstream's metrics of audit.

use crate::level::Level;
use fairlead_telemetry::Families;
use fairlead_telemetry::metrics::{Counters, IntCounter};
use std::sync::Arc;

/// Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Counted>);

struct Counted {
    events: IntCounter,
    rejected: IntCounter,
    errors: Counters,
    /// By level, in its order.
    levels: Counters,
}

impl Metrics {
    /// Asking again gives the same families.
    pub fn register(families: &Families) -> Metrics {
        Metrics(Arc::new(Counted {
            events: families
                .counters(
                    "apiserver_audit_event_total",
                    "Audit events made and handed to the sinks.",
                    &[],
                )
                .with(&[]),
            rejected: families
                .counters(
                    "apiserver_audit_requests_rejected_total",
                    "Requests refused because their audit event could not be stored.",
                    &[],
                )
                .with(&[]),
            errors: families.counters(
                "apiserver_audit_error_total",
                "Audit events that were lost, by the part that lost them.",
                &["plugin"],
            ),
            levels: families.counters(
                "apiserver_audit_level_total",
                "Requests by the level the policy gives them.",
                &["level"],
            ),
        }))
    }

    pub fn event(&self) {
        self.0.events.inc();
    }

    pub fn rejected(&self) {
        self.0.rejected.inc();
    }

    pub fn level(&self, level: Level) {
        self.0.levels.with(&[level.as_str()]).inc();
    }

    /// Counts events that are lost, and says so the more seldom the more there are: the log is not to be flooded.
    pub fn lost(&self, plugin: &'static str, events: usize, why: &dyn std::fmt::Display) {
        let counter = self.0.errors.with(&[plugin]);
        let before = counter.get();
        counter.inc_by(events as u64);
        let total = before + events as u64;
        if before.checked_ilog2() != total.checked_ilog2() {
            tracing::error!(plugin, total, error = %why, "audit events are lost");
        }
    }
}
