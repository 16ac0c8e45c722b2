//! ResourceQuotas.

use crate::cells::Row;
use crate::pod_spec::round_quantities;
use crate::validation::quotas;
use crate::validation::warnings;
use crate::value::{map, with};
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct ResourceQuotas;

impl Hooks for ResourceQuotas {
    fn default(&self, object: &mut Node) {
        for path in [["spec", "hard"], ["status", "hard"], ["status", "used"]] {
            with(object, &path, round_quantities);
        }
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        match old {
            None => warnings::quota(object),
            Some(_) => Vec::new(),
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        quotas::resource_quota(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        quotas::resource_quota(object, Some(old), errors);
    }

    fn validate_status(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        quotas::resource_quota_status(object, errors);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in map(object, &["status", "hard"]).into_iter().flat_map(Map::iter) {
            let used = object
                .at(&["status", "used", name])
                .and_then(Node::as_str)
                .unwrap_or("0");
            let cell = format!("{name}: {used}/{}", hard.as_str().unwrap_or("0"));
            if name.starts_with("limits.") {
                limits.push(cell)
            } else {
                requests.push(cell)
            }
        }
        Row::named(object, now_seconds)
            .cell(requests.join(", "))
            .cell(limits.join(", "))
            .age()
            .done()
    }
}
