//! How long admission takes and what webhooks do, with upstream's names, labels and buckets.
//!
//! Source: kubernetes/apiserver pkg/admission/metrics/metrics.go.
// PERFORMANCE: per-request path

use crate::Operation;
use fairlead_telemetry::metrics::{Counters, Families, Histogram, Histograms};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// One handle, cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<All>);

struct All {
    steps: Histograms,
    controllers: Histograms,
    webhooks: Histograms,
    requests: Counters,
    rejections: Counters,
    failed_open: Counters,
    validating_policies: Checks,
    mutating_policies: Checks,
}

/// How often the expressions of policies decided something, and how long that took.
struct Checks {
    total: Counters,
    durations: Histograms,
}

/// Which half of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Admit = 0,
    Validate = 1,
}

/// What is measured on every write, found once: by step, operation and whether the write was refused.
#[derive(Default)]
pub struct Found([OnceLock<Histogram>; 16]);

/// What became of asking a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Allowed,
    /// By the webhook, with this code.
    Refused(u16),
    /// It could not be asked, or its answer made no sense; `ignored` where that does not matter to the write.
    Failed {
        code: u16,
        ignored: bool,
    },
    /// For want of something here.
    Internal,
}

const PLUGINS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOKS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
const EXPRESSIONS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];
/// Higher codes are counted as this one.
const HIGHEST: u16 = 600;

impl Metrics {
    pub fn register(families: &Families) -> Metrics {
        Metrics(Arc::new(All {
            steps: families.histograms(
                "apiserver_admission_step_admission_duration_seconds",
                "Time spent in a step of admission in seconds, by operation.",
                &["type", "operation", "rejected"],
                &PLUGINS,
            ),
            controllers: families.histograms(
                "apiserver_admission_controller_admission_duration_seconds",
                "Time spent in an admission plugin in seconds, by operation.",
                &["name", "type", "operation", "rejected"],
                &PLUGINS,
            ),
            webhooks: families.histograms(
                "apiserver_admission_webhook_admission_duration_seconds",
                "Time spent on an admission webhook in seconds, by operation.",
                &["name", "type", "operation", "rejected"],
                &WEBHOOKS,
            ),
            requests: families.counters(
                "apiserver_admission_webhook_request_total",
                "Requests to admission webhooks, by operation, code and whether the write was refused.",
                &["name", "type", "operation", "code", "rejected"],
            ),
            rejections: families.counters(
                "apiserver_admission_webhook_rejection_count",
                "Writes refused because of an admission webhook, by operation, kind of error and code.",
                &["name", "type", "operation", "error_type", "rejection_code"],
            ),
            failed_open: families.counters(
                "apiserver_admission_webhook_fail_open_count",
                "Admission webhooks that could not be asked and were passed over.",
                &["name", "type"],
            ),
            validating_policies: Checks {
                total: families.counters(
                    "apiserver_validating_admission_policy_check_total",
                    "What validating policies found, by policy, binding and what became of it.",
                    &["policy", "policy_binding", "error_type", "enforcement_action"],
                ),
                durations: families.histograms(
                    "apiserver_validating_admission_policy_check_duration_seconds",
                    "Time spent on the expressions of validating policies in seconds.",
                    &["policy", "policy_binding", "error_type", "enforcement_action"],
                    &EXPRESSIONS,
                ),
            },
            mutating_policies: Checks {
                total: families.counters(
                    "apiserver_mutating_admission_policy_check_total",
                    "Mutations by policies, by policy and binding.",
                    &["policy", "policy_binding", "error_type"],
                ),
                durations: families.histograms(
                    "apiserver_mutating_admission_policy_check_duration_seconds",
                    "Time spent on mutations by policies in seconds.",
                    &["policy", "policy_binding", "error_type"],
                    &EXPRESSIONS,
                ),
            },
        }))
    }

    /// A whole step took so long.
    pub fn step(&self, found: &Found, step: Step, operation: Operation, rejected: bool, took: Duration) {
        let find = || {
            let labels = [step.as_str(), operation.as_str(), text(rejected)];
            self.0.steps.with(&labels)
        };
        found.observe(step, operation, rejected, took, find);
    }

    /// A plugin took so long.
    pub fn plugin(
        &self,
        (name, found): (&str, &Found),
        step: Step,
        operation: Operation,
        rejected: bool,
        took: Duration,
    ) {
        let find = || {
            let labels = [name, step.as_str(), operation.as_str(), text(rejected)];
            self.0.controllers.with(&labels)
        };
        found.observe(step, operation, rejected, took, find);
    }

    /// A validating policy found something, for which `action` was taken: `deny`, `warn`, `audit`, or `allow` for what
    /// could not be evaluated and is passed over.
    pub fn validating_policy(&self, [policy, binding]: [&str; 2], why: &str, action: &str, took: Duration) {
        self.0
            .validating_policies
            .observe(&[policy, binding, error_type(why), action], took);
    }

    /// A mutation of a policy was made, or `why` it was not.
    pub fn mutating_policy(&self, [policy, binding]: [&str; 2], why: Option<&str>, took: Duration) {
        let error = why.map_or("no_error", error_type);
        self.0.mutating_policies.observe(&[policy, binding, error], took);
    }

    /// A webhook was asked.
    pub fn webhook(&self, name: &str, step: Step, operation: Operation, asked: Asked, took: Duration) {
        // COMPAT: the step of validating webhooks has another name than that of plugins.
        let (step, operation) = (step.of_webhooks(), operation.as_str());
        let (code, error) = match asked {
            Asked::Allowed => (200, None),
            Asked::Refused(code) => (code.min(HIGHEST), Some("no_error")),
            Asked::Failed { code, ignored } => (code.min(HIGHEST), (!ignored).then_some("calling_webhook_error")),
            Asked::Internal => (0, Some("apiserver_internal_error")),
        };
        let code = code.to_string();
        let rejected = text(error.is_some());
        let all = &self.0;
        all.requests.with(&[name, step, operation, &code, rejected]).inc();
        all.webhooks
            .with(&[name, step, operation, rejected])
            .observe(took.as_secs_f64());
        if let Some(error) = error {
            all.rejections.with(&[name, step, operation, error, &code]).inc();
        }
        if matches!(asked, Asked::Failed { ignored: true, .. }) {
            all.failed_open.with(&[name, step]).inc();
        }
    }
}

impl Checks {
    fn observe(&self, labels: &[&str], took: Duration) {
        self.total.with(labels).inc();
        self.durations.with(labels).observe(took.as_secs_f64());
    }
}

/// COMPAT: told by how the failure is worded.
fn error_type(why: &str) -> &'static str {
    if why.starts_with("compilation") {
        "compile_error"
    } else if why.starts_with(crate::expressions::OUT_OF_BUDGET) {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}

/// Metrics that nobody reads.
impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::register(&Families::default())
    }
}

impl Found {
    fn observe(
        &self,
        step: Step,
        operation: Operation,
        rejected: bool,
        took: Duration,
        find: impl FnOnce() -> Histogram,
    ) {
        let operation = match operation {
            Operation::Create => 0,
            Operation::Update => 1,
            Operation::Delete => 2,
            Operation::Connect => 3,
        };
        let place = (step as usize) << 3 | operation << 1 | usize::from(rejected);
        self.0[place].get_or_init(find).observe(took.as_secs_f64());
    }
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Step::Admit => "admit",
            Step::Validate => "validate",
        }
    }

    fn of_webhooks(self) -> &'static str {
        match self {
            Step::Admit => "admit",
            Step::Validate => "validating",
        }
    }
}

fn text(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_a_series_of_its_own() {
        let families = Families::default();
        let metrics = Metrics::register(&families);
        let found = Found::default();
        for step in [Step::Admit, Step::Validate] {
            for operation in [
                Operation::Create,
                Operation::Update,
                Operation::Delete,
                Operation::Connect,
            ] {
                for rejected in [false, true] {
                    metrics.step(&found, step, operation, rejected, Duration::from_millis(1));
                    metrics.step(&found, step, operation, rejected, Duration::from_millis(1));
                }
            }
        }
        assert_eq!(metrics.0.steps.len(), 16);
        let counts = families.gather();
        let steps = counts.iter().find(|f| f.name().contains("_step_")).unwrap();
        assert!(
            steps
                .get_metric()
                .iter()
                .all(|m| m.get_histogram().get_sample_count() == 2)
        );
    }

    #[test]
    fn webhooks_are_counted_by_what_became_of_them() {
        let families = Families::default();
        let metrics = Metrics::register(&families);
        for asked in [
            Asked::Allowed,
            Asked::Refused(403),
            Asked::Refused(900),
            Asked::Failed {
                code: 503,
                ignored: true,
            },
            Asked::Failed {
                code: 503,
                ignored: false,
            },
            Asked::Internal,
        ] {
            metrics.webhook("w", Step::Validate, Operation::Update, asked, Duration::from_millis(1));
        }
        let mut out = String::new();
        fairlead_telemetry::text::write(&families.gather(), &mut out);
        let counted: Vec<&str> = out
            .lines()
            .filter(|l| !l.starts_with('#') && !l.contains("_seconds"))
            .collect();
        let rejection = |code: &str, error: &str| {
            format!(
                "apiserver_admission_webhook_rejection_count{{error_type=\"{error}\",name=\"w\",operation=\"UPDATE\",\
                 rejection_code=\"{code}\",type=\"validating\"}} 1"
            )
        };
        for line in [
            "apiserver_admission_webhook_fail_open_count{name=\"w\",type=\"validating\"} 1".to_owned(),
            rejection("403", "no_error"),
            rejection("600", "no_error"),
            rejection("503", "calling_webhook_error"),
            rejection("0", "apiserver_internal_error"),
        ] {
            assert!(counted.contains(&line.as_str()), "{line}\n{out}");
        }
        let requests = |l: &&&str| l.contains("_request_total") && l.contains("rejected=\"true\"");
        assert_eq!(counted.iter().filter(requests).count(), 4);
        assert!(out.contains("apiserver_admission_webhook_admission_duration_seconds_bucket{name=\"w\",operation=\"UPDATE\",rejected=\"true\",type=\"validating\",le=\"25\"} 4"), "{out}");
    }
}
