//! CronJobs.

use super::jobs::default_spec;
use crate::cells::{NONE, Row, UNSET};
use crate::gated::drop_from_pod_spec;
use crate::validation::jobs;
use crate::validation::warnings;
use crate::value::{or, or_empty, with};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};

const POD_SPEC: &[&str] = &["spec", "jobTemplate", "spec", "template", "spec"];

pub struct CronJobs;

impl Hooks for CronJobs {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        or_empty(spec, "concurrencyPolicy", "Allow");
        or(spec, "suspend", false);
        or(spec, "successfulJobsHistoryLimit", 3);
        or(spec, "failedJobsHistoryLimit", 1);
        with(spec, &["jobTemplate", "spec"], default_spec);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_from_pod_spec(object, None, POD_SPEC);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_from_pod_spec(object, Some(old), POD_SPEC);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, context: &HookContext) -> Vec<String> {
        match context.subresource {
            "status" => Vec::new(),
            _ => warnings::cron_job(object, old),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        jobs::cron_job(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        jobs::cron_job(object, Some(old), errors);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let suspended = match object.at(&["spec", "suspend"]).and_then(Node::as_bool) {
            Some(true) => "True",
            Some(false) => "False",
            None => UNSET,
        };
        let row = Row::named(object, now_seconds);
        let last = match object.at(&["status", "lastScheduleTime"]) {
            Some(Node::String(_)) => row.passed(&["status", "lastScheduleTime"]),
            _ => NONE.into(),
        };
        row.text(&["spec", "schedule"])
            .text_or(&["spec", "timeZone"], NONE)
            .cell(suspended)
            .count(&["status", "active"])
            .cell(last)
            .age()
            .containers(&["spec", "jobTemplate", "spec", "template", "spec", "containers"])
            .selector(&["spec", "jobTemplate", "spec", "selector"])
            .done()
    }
}
