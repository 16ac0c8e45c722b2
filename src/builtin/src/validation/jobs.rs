//! Jobs and cron jobs.
//!
//! Source of the rules and wording: kubernetes pkg/apis/batch/validation and pkg/registry/batch/job/strategy.go.

mod indexes;
mod policies;
mod status;

pub use status::validate_status;

use super::at::At;
use super::pod::{self, Leniency};
use super::workloads::{has_bad_values, non_negative_fields, template_labels};
use super::{common, cron, shown};
use fairlead_api::metadata::SelectorLeniency;
use fairlead_api::selector::LabelSelector;
use fairlead_api::{FieldError, FieldErrors, FieldPath, Node, name};

const INDEXED_ONLY: &str = "requires indexed completion mode";
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const TEMPLATE: &str = "core.PodTemplateSpec";

/// What an update of a job may do that not all may.
#[derive(Clone, Copy, Default)]
struct Options {
    pods: Leniency,
    /// The template must have the labels with a domain.
    prefixed_labels: bool,
    /// The template may change: the job is suspended and nothing of it runs.
    mutable_template: bool,
}

impl Options {
    fn of(old: Option<&Node>) -> Options {
        let Some(old) = old else {
            return Options {
                prefixed_labels: true,
                ..Options::default()
            };
        };
        let mut pods = Leniency::of_template(old.at(&["spec", "template"]));
        pods.affinity_label_values |= old.at(&["spec", "selector"]).is_some_and(has_bad_values);
        let labels = old.at(&["spec", "template", "metadata", "labels"]);
        let has = |label: &str| labels.is_some_and(|labels| labels.get(label).is_some());
        let not_started = old.at(&["status", "startTime"]).is_none_or(Node::is_null);
        let suspended = status::condition(old, "Suspended") == "True";
        Options {
            pods,
            prefixed_labels: has(JOB_NAME) && has(CONTROLLER_UID),
            mutable_template: is_suspended(old)
                && (not_started || suspended)
                && crate::value::int(old, &["status", "active"]) == 0,
        }
    }
}

fn is_suspended(job: &Node) -> bool {
    crate::value::flag(job, &["spec", "suspend"])
}

pub fn validate(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    let options = Options::of(old);
    common::object_meta(new, true, name::name_is_dns_subdomain, errors);
    generated_selector(new, options.prefixed_labels, errors);
    let root = At::root(new);
    let spec = root.part("spec");
    whole_spec(&spec, &options.pods, errors);
    let completions = spec.int("completions");
    if spec.str("completionMode") == "Indexed" && completions > 0 {
        // Pods of indexed jobs are named by their index.
        let longest = format!("{}-{}", new.name(), completions - 1);
        if !name::is_dns1123_label(&longest).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.push(FieldError::invalid(
                &FieldPath::new("metadata.name"),
                new.name(),
                detail,
            ));
        }
    }
    if let Some(old) = old {
        common::finalizers(new, errors);
        whole_spec(&spec, &options.pods, errors);
        let old_spec = old.get("spec").unwrap_or(&Node::Null);
        spec_update(&spec, old_spec, &options, is_suspended(old), errors);
    }
}

/// The labels that the server gives pods of a job, and its selector of them.
fn generated_selector(job: &Node, prefixed: bool, errors: &mut FieldErrors) {
    let selector = job.at(&["spec", "selector"]).filter(|selector| !selector.is_null());
    let (false, Some(selector)) = (crate::value::flag(job, &["spec", "manualSelector"]), selector) else {
        return;
    };
    if job.uid().is_empty() {
        errors.push(FieldError::required(&FieldPath::new("metadata.uid"), ""));
    }
    let mut expected = vec![("controller-uid", job.uid()), ("job-name", job.name())];
    if prefixed {
        expected.extend([(CONTROLLER_UID, job.uid()), (JOB_NAME, job.name())]);
    }
    let path = FieldPath::new("spec.template.metadata.labels");
    let labels = job.at(&["spec", "template", "metadata", "labels"]);
    for (label, value) in &expected {
        let detail = format!("must be '{value}'");
        match labels.and_then(|labels| labels.get(label)).and_then(Node::as_str) {
            None => errors.push(FieldError::required(&path.key(label), detail)),
            Some(found) if found != *value => {
                let text = shown::json("{}string", labels);
                errors.push(FieldError::invalid(&path.key(label), Node::Null, detail).showing(text));
            }
            Some(_) => {}
        }
    }
    if let Ok(parsed) = LabelSelector::from_node(selector)
        && !parsed.matches_pairs(&expected)
    {
        let text = shown::json("labelSelector", Some(selector));
        let path = FieldPath::new("spec.selector");
        errors.push(FieldError::invalid(&path, Node::Null, "`selector` not auto-generated").showing(text));
    }
}

/// A job's own spec, with its selector.
fn whole_spec(spec: &At, pods: &Leniency, errors: &mut FieldErrors) {
    job_spec(spec, pods, errors);
    let leniency = SelectorLeniency {
        any_values: pods.affinity_label_values,
        ..SelectorLeniency::default()
    };
    match spec.has("selector") {
        true => common::label_selector_with(spec, "selector", leniency, errors),
        false => spec.required("selector", "", errors),
    }
    if let Ok(selector) = LabelSelector::from_node(spec.node.get("selector").unwrap_or(&Node::Null)) {
        template_labels(spec, &selector, errors);
    }
}

/// What jobs and templates of jobs have in common.
fn job_spec(spec: &At, pods: &Leniency, errors: &mut FieldErrors) {
    let fields = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    non_negative_fields(spec, &fields, errors);
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        spec.required("backoffLimitPerIndex", "when maxFailedIndexes is specified", errors);
    }
    managed_by(spec, errors);
    completion_mode(spec, errors);
    policies::pod_failure(spec, errors);
    policies::success(spec, errors);
    policies::pod_replacement(spec, errors);
    pod::template(spec, "template", pods, errors);
    let template = spec.part("template");
    let pods = template.part("spec");
    match pods.str("restartPolicy") {
        "Always" | "" => pods.required("restartPolicy", "valid values: \"OnFailure\", \"Never\"", errors),
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            pods.invalid("restartPolicy", "OnFailure", detail, errors);
        }
        _ => pods.one_of("restartPolicy", &["OnFailure", "Never"], errors),
    }
}

fn managed_by(spec: &At, errors: &mut FieldErrors) {
    const FIELD: &str = "managedBy";
    const PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    let Some(value) = spec.text(FIELD) else { return };
    match value.split_once('/') {
        _ if value.is_empty() => spec.required(FIELD, "", errors),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            spec.complain(FIELD, domain, name::is_dns1123_subdomain(domain), errors);
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !path.bytes().all(allowed) {
                spec.invalid(FIELD, path, name::regex_error("Invalid path", PATH, &[]), errors);
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            spec.invalid(FIELD, value, detail, errors);
        }
    }
    if value.len() > 63 {
        spec.too_long(FIELD, 63, errors);
    }
}

fn completion_mode(spec: &At, errors: &mut FieldErrors) {
    let mode = spec.text("completionMode");
    spec.one_of_if_set("completionMode", &["NonIndexed", "Indexed"], errors);
    if mode == Some("Indexed") {
        indexed(spec, errors);
    }
    if matches!(mode, None | Some("NonIndexed")) {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = spec.number(field) {
                spec.invalid(field, value, INDEXED_ONLY, errors);
            }
        }
    }
}

fn indexed(spec: &At, errors: &mut FieldErrors) {
    const LIMIT: i64 = 100_000;
    const LIMIT_WHEN_MANY: i64 = 10_000;
    let (parallelism, failed) = (spec.int("parallelism"), spec.int("maxFailedIndexes"));
    let completions = spec.number("completions");
    if completions.is_none() {
        spec.required("completions", "when completion mode is Indexed", errors);
    }
    if parallelism > LIMIT {
        let detail = format!("must be less than or equal to {LIMIT} when completion mode is Indexed");
        spec.invalid("parallelism", parallelism, detail, errors);
    }
    if spec.has("maxFailedIndexes") && completions.is_some_and(|completions| failed > completions) {
        let detail = "must be less than or equal to completions";
        spec.invalid("maxFailedIndexes", failed, detail, errors);
    }
    if failed > LIMIT {
        let detail = format!("must be less than or equal to {LIMIT}");
        spec.invalid("maxFailedIndexes", failed, detail, errors);
    }
    if completions.is_none_or(|completions| completions <= LIMIT) || !spec.has("backoffLimitPerIndex") {
        return;
    }
    let detail = format!(
        "must be less than or equal to {LIMIT_WHEN_MANY} when completions are above {LIMIT} and used with backoff limit per index"
    );
    if !spec.has("maxFailedIndexes") {
        let detail = format!("must be specified when completions is above {LIMIT}");
        spec.required("maxFailedIndexes", &detail, errors);
    }
    for (field, value) in [("parallelism", parallelism), ("maxFailedIndexes", failed)] {
        if value > LIMIT_WHEN_MANY {
            spec.invalid(field, value, detail.as_str(), errors);
        }
    }
}

// === updates ===

fn spec_update(spec: &At, old: &Node, options: &Options, was_suspended: bool, errors: &mut FieldErrors) {
    completions_update(spec, old, errors);
    common::immutable(spec, old, "selector", "*labelSelector", errors);
    template_update(spec, old, options, was_suspended, errors);
    for (field, kind) in [
        ("completionMode", "*string"),
        ("podFailurePolicy", "*batch.PodFailurePolicy"),
        ("backoffLimitPerIndex", "*int"),
        ("managedBy", "*string"),
        ("successPolicy", "*batch.SuccessPolicy"),
    ] {
        common::immutable(spec, old, field, kind, errors);
    }
}

fn completions_update(spec: &At, old: &Node, errors: &mut FieldErrors) {
    if spec.str("completionMode") != "Indexed" {
        return common::immutable(spec, old, "completions", "*int", errors);
    }
    let before = old.get("completions").and_then(Node::as_i64);
    if let Some(completions) = spec.number("completions")
        && before != Some(completions)
        && completions != spec.int("parallelism")
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        spec.invalid("completions", completions, detail, errors);
    }
}

fn template_update(spec: &At, old: &Node, options: &Options, was_suspended: bool, errors: &mut FieldErrors) {
    let new_template = spec.node.get("template").unwrap_or(&Node::Null);
    let mut before = old.get("template").cloned().unwrap_or_else(Node::map);
    if options.mutable_template {
        keep_scheduling_of(&mut before, new_template);
    }
    let path = spec.path_of("template");
    if was_suspended && options.mutable_template {
        keep_resources_of(&mut before, new_template);
        let (new_pods, old_pods) = (new_template.get("spec"), before.get("spec"));
        if !shown::equal("core.PodSpec", new_pods, old_pods) {
            let path = path.child("spec");
            errors.push(common::changed(&path, new_pods, "core.PodSpec", common::IMMUTABLE));
        }
    } else if !shown::equal(TEMPLATE, Some(new_template), Some(&before)) {
        errors.push(common::changed(&path, Some(new_template), TEMPLATE, common::IMMUTABLE));
    }
}

/// Where pods run may change while none do.
fn keep_scheduling_of(before: &mut Node, new: &Node) {
    const NODE: &[&str] = &["spec", "affinity", "nodeAffinity"];
    let given = |template: &Node| {
        template
            .at(&["spec", "affinity"])
            .is_some_and(|affinity| !affinity.is_null())
    };
    match (given(new), given(before)) {
        (false, true) => {
            before.remove_at(NODE);
            let others = before.at(&["spec", "affinity"]).and_then(Node::as_map);
            if others.is_some_and(|others| others.values().all(Node::is_null)) {
                before.remove_at(&["spec", "affinity"]);
            }
        }
        (true, _) => {
            before.make_at(&["spec", "affinity"]).make_map();
            crate::value::copy(before, new, NODE);
        }
        (false, false) => {}
    }
    for path in [
        &["spec", "nodeSelector"],
        &["spec", "tolerations"],
        &["metadata", "annotations"],
        &["metadata", "labels"],
        &["spec", "schedulingGates"],
    ] {
        crate::value::copy(before, new, path);
    }
}

fn keep_resources_of(before: &mut Node, new: &Node) {
    for list in ["containers", "initContainers"] {
        let new = crate::value::list(new, &["spec", list]);
        let Some(Node::List(old)) = before.at_mut(&["spec", list]) else {
            continue;
        };
        if old.len() != new.len() {
            continue;
        }
        for (old, new) in old.iter_mut().zip(new) {
            if old.str("name") == new.str("name") {
                crate::value::copy(old, new, &["resources"]);
            }
        }
    }
}

// === cron jobs ===

pub fn cron_job(new: &Node, old: Option<&Node>, errors: &mut FieldErrors) {
    match old {
        None => common::object_meta(new, true, name::name_is_dns_subdomain, errors),
        Some(_) => common::finalizers(new, errors),
    }
    let root = At::root(new);
    let spec = root.part("spec");
    let old_spec = old.and_then(|old| old.get("spec"));
    schedule(&spec, old_spec, errors);
    if spec.has("startingDeadlineSeconds") {
        spec.non_negative("startingDeadlineSeconds", errors);
    }
    let zone = spec.text("timeZone");
    let zone_was = old_spec.map(|old| old.get("timeZone").and_then(Node::as_str));
    if let Some(zone) = zone.filter(|zone| zone_was != Some(Some(zone))) {
        for error in cron::time_zone_errors(zone) {
            spec.invalid("timeZone", zone, error, errors);
        }
    }
    spec.required_one_of("concurrencyPolicy", &["Allow", "Forbid", "Replace"], errors);
    let template = old.and_then(|old| old.at(&["spec", "jobTemplate", "spec", "template"]));
    job_template(&spec, &Leniency::of_template(template), errors);
    non_negative_fields(&spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], errors);
    if old.is_none() && new.name().len() > 52 {
        // The names of jobs end in a time of eleven characters.
        let detail = "must be no more than 52 characters";
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata.name"),
            new.name(),
            detail,
        ));
    }
}

fn schedule(spec: &At, old: Option<&Node>, errors: &mut FieldErrors) {
    if !spec.require("schedule", errors) {
        return;
    }
    let schedule = spec.str("schedule");
    if let Some(error) = cron::schedule_error(schedule) {
        spec.invalid("schedule", schedule, error, errors);
    }
    if !schedule.contains("TZ") {
        return;
    }
    if !old.is_some_and(|old| old.str("schedule").contains("TZ")) {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        spec.invalid("schedule", schedule, detail, errors);
    } else if spec.has("timeZone") {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        spec.invalid("schedule", schedule, detail, errors);
    }
}

fn job_template(spec: &At, pods: &Leniency, errors: &mut FieldErrors) {
    let template = spec.part("jobTemplate");
    let job = template.part("spec");
    job_spec(&job, pods, errors);
    if let Some(selector) = job.get("selector") {
        let text = shown::json("labelSelector", Some(selector.node));
        job.invalid_shown("selector", text, "`selector` will be auto-generated", errors);
    }
    if job.flag("manualSelector") {
        job.not_supported("manualSelector", true, &["nil", "false"], errors);
    }
}
