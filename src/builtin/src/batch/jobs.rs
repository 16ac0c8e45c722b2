//! Jobs.

use crate::cells::Row;
use crate::gated::drop_from_pod_spec;
use crate::pod_spec::default_template;
use crate::validation::jobs;
use crate::validation::warnings;
use crate::value::{each, flag, int, list, or, or_empty};
use compact_str::CompactString;
use fairlead_api::{FieldErrors, Node, Timestamp};
use fairlead_resource::{HookContext, Hooks};

const POD_SPEC: &[&str] = &["spec", "template", "spec"];

pub struct Jobs;

impl Hooks for Jobs {
    fn default(&self, object: &mut Node) {
        default_labels(object);
        let spec = object.make_at(&["spec"]);
        if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
            spec.set("completions", 1);
        }
        or(spec, "parallelism", 1);
        let backoff = if spec.get("backoffLimitPerIndex").is_some() {
            i32::MAX
        } else {
            6
        };
        or(spec, "backoffLimit", backoff);
        or(spec, "completionMode", "NonIndexed");
        or(spec, "suspend", false);
        let replacement = if spec.get("podFailurePolicy").is_some() {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        or(spec, "podReplacementPolicy", replacement);
        or(spec, "manualSelector", false);
        default_spec(spec);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
        if !flag(object, &["spec", "manualSelector"]) {
            generate_selector(object);
            // COMPAT: defaults apply again to what was stored.
            default_labels(object);
        }
    }

    fn unsupported_field(&self, field: &str) -> Option<String> {
        let label = fairlead_api::field::go_quote(field);
        Some(format!("field label {label} not supported for Job"))
    }

    fn orphans_dependents(&self) -> bool {
        true
    }

    fn default_policy_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::job(object, old)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        jobs::validate(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        jobs::validate(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        jobs::validate_status(object, old, errors);
    }

    fn selectable_from(&self) -> &'static [&'static [&'static str]] {
        &[&["status", "succeeded"]]
    }

    fn selectable(&self, object: &Node) -> Vec<(CompactString, CompactString)> {
        vec![(
            "status.successful".into(),
            int(object, &["status", "succeeded"]).to_string().into(),
        )]
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let succeeded = int(object, &["status", "succeeded"]);
        let completions = match object.at(&["spec", "completions"]).and_then(Node::as_i64) {
            Some(wanted) => format!("{succeeded}/{wanted}"),
            None => match int(object, &["spec", "parallelism"]) {
                parallelism if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
                _ => format!("{succeeded}/1"),
            },
        };
        Row::named(object, now_seconds)
            .cell(status(object))
            .cell(completions)
            .cell(duration(object, Timestamp::from_unix_seconds(now_seconds)))
            .age()
            .containers(&["spec", "template", "spec", "containers"])
            .selector(&["spec", "selector"])
            .done()
    }
}

/// A job without labels has those of its template.
fn default_labels(job: &mut Node) {
    if let Some(labels) = job.at(&["spec", "template", "metadata", "labels"]).cloned() {
        or(job.make_at(&["metadata"]), "labels", labels);
    }
}

/// What Jobs and the templates of CronJobs have in common.
pub fn default_spec(spec: &mut Node) {
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| or_empty(pattern, "status", "True"))
        });
    }
    default_template(spec, &["template"]);
}

/// Labels the template with the job's name and uid, under old and new names, and selects by the uid.
fn generate_selector(job: &mut Node) {
    let (name, uid) = (Node::string(job.name()), Node::string(job.uid()));
    let template = job.make_at(&["spec", "template", "metadata", "labels"]);
    for (key, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
    ] {
        or(template, key, value.clone());
    }
    or(
        job.make_at(&["spec", "selector", "matchLabels"]),
        "batch.kubernetes.io/controller-uid",
        uid,
    );
}

fn status(job: &Node) -> &'static str {
    let conditions = list(job, &["status", "conditions"]);
    let holds = |kind: &str| {
        conditions
            .iter()
            .find(|c| c.str("type") == kind)
            .is_some_and(|c| c.str("status") == "True")
    };
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if job.deletion_timestamp().is_some() => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn duration(job: &Node, now: Timestamp) -> String {
    let time = |key: &str| Timestamp::parse(job.str_at(&["status", key]));
    let Some(start) = time("startTime") else {
        return String::new();
    };
    fairlead_api::time::human_duration(time("completionTime").unwrap_or(now).since(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    #[test]
    fn jobs_select_their_pods_by_uid() {
        let mut job = node!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"metadata": {}}}});
        generate_selector(&mut job);
        let labels = job.at(&["spec", "template", "metadata", "labels"]).unwrap();
        assert_eq!(labels.str("batch.kubernetes.io/job-name"), "j");
        let selector = job.at(&["spec", "selector"]).unwrap();
        assert_eq!(
            *selector,
            node!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
    }
}
