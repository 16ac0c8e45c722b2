//! ResourceClaims and ResourceClaimTemplates.

mod status;
pub mod validation;

use super::admin;
use super::devices::{default_claim_spec, default_tolerations};
use crate::auth::Auth;
use crate::cells::Row;
use crate::value::{flag, keep_metadata, list, with};
use fairlead_api::{FieldErrors, Node};
use fairlead_resource::{HookContext, Hooks};
use std::sync::Arc;

const RESULTS: &[&str] = &["status", "allocation", "devices", "results"];

pub struct ResourceClaims {
    /// Where namespaces are looked up.
    pub auth: Option<Arc<Auth>>,
}

impl Hooks for ResourceClaims {
    fn prints_status(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Node) {
        with(object, &["spec"], default_claim_spec);
        if let Some(Node::List(results)) = object.at_mut(&["status", "allocation", "devices", "results"]) {
            results.iter_mut().for_each(default_tolerations);
        }
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        keep_metadata(object, old);
        drop_deallocated(object, old);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            _ => &[&["status"]],
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, context: &HookContext, errors: &mut FieldErrors) {
        admin::of_requests(&self.auth, object, &["spec"], context, errors);
        validation::create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        if list(old, RESULTS).iter().all(|result| !flag(result, &["adminAccess"])) {
            admin::of_results(&self.auth, object, context, errors);
        }
        status::validate(object, old, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let mut states = Vec::new();
        if object.deletion_timestamp().is_some() {
            states.push("deleted");
        }
        if object.at(&["status", "allocation"]).is_some() {
            states.push("allocated");
            if !list(object, &["status", "reservedFor"]).is_empty() {
                states.push("reserved");
            }
        } else if states.is_empty() {
            states.push("pending");
        }
        Row::named(object, now_seconds).cell(states.join(",")).age().done()
    }
}

/// The status of devices goes with their allocation.
fn drop_deallocated(object: &mut Node, old: &Node) {
    let id = |device: &Node| ["driver", "pool", "device", "shareID"].map(|key| device.str(key).to_owned());
    let now: Vec<_> = list(object, RESULTS).iter().map(id).collect();
    let gone: Vec<_> = list(old, RESULTS)
        .iter()
        .map(id)
        .filter(|device| !now.contains(device))
        .collect();
    if gone.is_empty() {
        return;
    }
    if let Some(Node::List(devices)) = object.at_mut(&["status", "devices"]) {
        devices.retain(|device| !gone.contains(&id(device)));
        if devices.is_empty() {
            object.remove_at(&["status", "devices"]);
        }
    }
}

pub struct ResourceClaimTemplates {
    /// Where namespaces are looked up.
    pub auth: Option<Arc<Auth>>,
}

impl Hooks for ResourceClaimTemplates {
    fn default(&self, object: &mut Node) {
        with(object, &["spec", "spec"], default_claim_spec);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate_create(&self, object: &Node, context: &HookContext, errors: &mut FieldErrors) {
        admin::of_requests(&self.auth, object, &["spec", "spec"], context, errors);
        validation::template(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::template(object, Some(old), errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).age().done()
    }
}
