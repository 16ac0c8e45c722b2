//! A job's status: what its conditions allow, and what may change once it is finished.

use super::super::at::At;
use super::super::workloads::non_negative_fields;
use super::super::{common, shown};
use super::indexes;
use super::policies::invalid_without_value;
use fairlead_api::{FieldErrors, Node, Timestamp};
use std::collections::HashSet;

/// The status of a condition; empty where there is none.
pub fn condition<'a>(job: &'a Node, kind: &str) -> &'a str {
    let conditions = crate::value::list(job, &["status", "conditions"]);
    let all = conditions.iter().filter(|condition| condition.str("type") == kind);
    let mut statuses = all.map(|condition| condition.str("status"));
    let first = statuses.next().unwrap_or("");
    // One that holds counts, wherever it stands.
    if statuses.any(|status| status == "True") {
        "True"
    } else {
        first
    }
}

/// The conditions that decide what a status may say.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Conditions {
    complete: bool,
    failed: bool,
    failure_target: bool,
    success_criteria: bool,
}

impl Conditions {
    fn of(job: &Node) -> Conditions {
        let holds = |kind: &str| condition(job, kind) == "True";
        Conditions {
            complete: holds("Complete"),
            failed: holds("Failed"),
            failure_target: holds("FailureTarget"),
            success_criteria: holds("SuccessCriteriaMet"),
        }
    }

    fn finished(self) -> bool {
        self.complete || self.failed
    }
}

/// What a write of status changed: rules apply to what it touches, so that what is stored stays writable.
struct Change<'a> {
    now: Conditions,
    before: Conditions,
    new: &'a Node,
    old: &'a Node,
}

impl Change<'_> {
    fn of(&self, field: &str) -> bool {
        let value = |job: &'_ Node| job.at(&["status", field]).filter(|value| !value.is_null()).cloned();
        value(self.new) != value(self.old)
    }

    fn counts(&self, field: &str) -> bool {
        crate::value::int(self.new, &["status", field]) != crate::value::int(self.old, &["status", field])
    }

    fn finished(&self) -> bool {
        self.now.finished() != self.before.finished()
    }

    fn complete(&self) -> bool {
        self.now.complete != self.before.complete
    }

    fn failed(&self) -> bool {
        self.now.failed != self.before.failed
    }
}

pub fn validate_status(new: &Node, old: &Node, errors: &mut FieldErrors) {
    common::finalizers(new, errors);
    let root = At::root(new);
    let (spec, status) = (root.part("spec"), root.part("status"));
    let change = Change {
        now: Conditions::of(new),
        before: Conditions::of(old),
        new,
        old,
    };
    let counters = ["active", "succeeded", "failed", "ready", "terminating"];
    non_negative_fields(&status, &counters, errors);
    uncounted(&status, errors);
    times_and_conditions(&status, &spec, &change, errors);
    index_sets(&status, &spec, &change, errors);
    running_pods(&status, &change, errors);
    success(&status, &spec, change.now, errors);
    transitions(&status, &spec, &change, errors);
}

fn uncounted(status: &At, errors: &mut FieldErrors) {
    let Some(pods) = status.get("uncountedTerminatedPods") else {
        return;
    };
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for uid in pods.each(list) {
            let text = uid.node.as_str().unwrap_or_default();
            if text.is_empty() {
                uid.invalid("", "", "must not be empty", errors);
            } else if !seen.insert(text) {
                uid.duplicate("", text, errors);
            }
        }
    }
}

fn times_and_conditions(status: &At, spec: &At, change: &Change, errors: &mut FieldErrors) {
    let now = change.now;
    let conditions = |detail: &str, errors: &mut FieldErrors| {
        invalid_without_value(status, "conditions", detail, errors);
    };
    let time = |field: &str, detail: &str, errors: &mut FieldErrors| {
        status.invalid_shown(field, shown::json("time", status.node.get(field)), detail, errors);
    };
    if (change.complete() || change.failed()) && now.complete && now.failed {
        conditions("cannot set Complete=True and Failed=true conditions", errors);
    }
    let target_changed = now.failure_target != change.before.failure_target;
    if (change.complete() || target_changed) && now.complete && now.failure_target {
        conditions("cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    let completed = status.has("completionTime");
    let completion_changed = change.complete() || change.of("completionTime");
    if completion_changed && completed && !now.complete {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        time("completionTime", detail, errors);
    }
    if completion_changed && !completed && now.complete {
        status.required("completionTime", "completionTime is required for Complete jobs", errors);
    }
    let seconds = |field: &str| {
        status
            .text(field)
            .and_then(Timestamp::parse)
            .map(Timestamp::unix_seconds)
    };
    let before_start = seconds("completionTime")
        .zip(seconds("startTime"))
        .is_some_and(|(end, start)| end < start);
    if (change.of("startTime") || change.of("completionTime")) && before_start {
        time("completionTime", "must be equal to or after `startTime`", errors);
    }
    if (change.failed() || change.of("failedIndexes")) && now.failed && !now.failure_target {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        conditions(detail, errors);
    }
    let criteria_changed = now.success_criteria != change.before.success_criteria;
    if (change.complete() || criteria_changed) && now.complete && !now.success_criteria {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        conditions(detail, errors);
    }
    if (change.finished() || change.counts("active")) && status.int("active") > 0 && now.finished() {
        status.invalid(
            "active",
            status.int("active"),
            "active>0 is invalid for finished job",
            errors,
        );
    }
    let nothing_to_do = spec.flag("suspend") && spec.number("completions") == Some(0);
    let start_matters = (change.finished() || change.of("startTime")) && !nothing_to_do;
    if start_matters && !status.has("startTime") && now.finished() {
        status.required("startTime", "startTime is required for finished job", errors);
    }
    if (change.finished() || change.of("uncountedTerminatedPods"))
        && now.finished()
        && let Some(pods) = status.get("uncountedTerminatedPods")
        && pods.len("failed") + pods.len("succeeded") > 0
    {
        let text = shown::json("batch.UncountedTerminatedPods", Some(pods.node));
        pods.invalid_shown("", text, "must be empty for finished job", errors);
    }
}

fn index_sets(status: &At, spec: &At, change: &Change, errors: &mut FieldErrors) {
    let (completed, failed) = (status.str("completedIndexes"), status.text("failedIndexes"));
    let (completed_changed, failed_changed) = (
        change.new.str_at(&["status", "completedIndexes"]) != change.old.str_at(&["status", "completedIndexes"]),
        change.of("failedIndexes"),
    );
    let per_index = spec.has("backoffLimitPerIndex");
    let completions = spec.number("completions");
    let readable = |field: &str, text: &str, errors: &mut FieldErrors| {
        if let Some(Err(why)) = completions.map(|completions| indexes::count(text, completions)) {
            status.invalid(field, text, format!("error parsing {field}: {why}"), errors);
        }
    };
    if completed_changed {
        readable("completedIndexes", completed, errors);
    }
    if let Some(failed) = failed.filter(|_| failed_changed && per_index) {
        readable("failedIndexes", failed, errors);
    }
    if completed_changed && !completed.is_empty() && spec.str("completionMode") != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        status.invalid("completedIndexes", completed, detail, errors);
    }
    let Some(failed) = failed else { return };
    if failed_changed && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        status.invalid("failedIndexes", failed, detail, errors);
    }
    if failed_changed || completed_changed {
        let shared = completions.and_then(|completions| indexes::overlap(completed, failed, completions));
        if let Some(index) = shared {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            status.invalid("failedIndexes", failed, detail, errors);
        }
    }
}

fn running_pods(status: &At, change: &Change, errors: &mut FieldErrors) {
    let terminating = status.int("terminating");
    if (change.finished() || change.of("terminating")) && terminating > 0 && change.now.finished() {
        let detail = "terminating>0 is invalid for finished job";
        status.invalid("terminating", terminating, detail, errors);
    }
    let ready = status.int("ready");
    if (change.of("ready") || change.counts("active")) && status.has("ready") && ready > status.int("active") {
        status.invalid("ready", ready, "cannot set more ready pods than active", errors);
    }
}

fn success(status: &At, spec: &At, now: Conditions, errors: &mut FieldErrors) {
    let mut conditions = |detail: &str| invalid_without_value(status, "conditions", detail, errors);
    if now.success_criteria && now.failed {
        conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if now.success_criteria && now.failure_target {
        conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if spec.has("successPolicy") && !now.success_criteria && now.complete {
        conditions("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
}

fn transitions(status: &At, spec: &At, change: &Change, errors: &mut FieldErrors) {
    let (now, before) = (change.now, change.before);
    for (held, holds, kind) in [
        (before.failed, now.failed, "Failed"),
        (before.complete, now.complete, "Complete"),
        (before.failure_target, now.failure_target, "FailureTarget"),
    ] {
        if held && !holds {
            let detail = format!("cannot disable the terminal {kind}=True condition");
            invalid_without_value(status, "conditions", &detail, errors);
        }
    }
    // Indexed jobs that are as parallel as they are long can be made shorter.
    let scalable = spec.str("completionMode") == "Indexed" && spec.number("completions") == spec.number("parallelism");
    for (field, may_decrease) in [("failed", false), ("succeeded", scalable)] {
        let count = status.int(field);
        if !may_decrease && count < crate::value::int(change.old, &["status", field]) {
            let detail = format!("cannot decrease the {field} counter");
            status.invalid(field, count, detail, errors);
        }
    }
    let old_time = |field: &str| change.old.str_at(&["status", field]);
    let time = |field: &str| shown::json("time", status.node.get(field));
    if status.has("completionTime") && !old_time("completionTime").is_empty() && change.of("completionTime") {
        status.invalid_shown("completionTime", time("completionTime"), common::IMMUTABLE, errors);
    }
    let resuming = condition(change.old, "Suspended") == "True" && condition(change.new, "Suspended") == "False";
    let start_changed = !old_time("startTime").is_empty() && change.of("startTime");
    if start_changed && !resuming && !spec.flag("suspend") {
        let detail = "field is immutable for unsuspended job once set";
        status.invalid_shown("startTime", time("startTime"), detail, errors);
    }
    if before.success_criteria && !now.success_criteria {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        invalid_without_value(status, "conditions", detail, errors);
    }
    if before.complete && !before.success_criteria && now.success_criteria {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        invalid_without_value(status, "conditions", detail, errors);
    }
}
