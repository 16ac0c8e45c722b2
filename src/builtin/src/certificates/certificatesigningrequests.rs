//! CertificateSigningRequests.

use super::validation;
use crate::cells::{NONE, Row};
use crate::value::{copy, list};
use fairlead_api::time::{GoDuration, human_duration};
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct CertificateSigningRequests;

impl Hooks for CertificateSigningRequests {
    fn prepare_create(&self, object: &mut Node, context: &HookContext) {
        let user = context.user;
        let spec = object.make_at(&["spec"]);
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        for (field, value) in [("username", &user.name), ("uid", &user.uid)] {
            if !value.is_empty() {
                spec.set(field, value.clone());
            }
        }
        if !user.groups.is_empty() {
            let groups: Vec<Node> = user.groups.iter().cloned().map(Node::String).collect();
            spec.set("groups", groups);
        }
        if !user.extra.is_empty() {
            let values = |values: &[String]| Node::List(values.iter().map(|v| Node::string(v.as_str())).collect());
            let extra: Map = user.extra.iter().map(|(key, v)| (key.as_str(), values(v))).collect();
            spec.set("extra", extra);
        }
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, context: &HookContext) {
        match context.subresource {
            "approval" => {
                stamp_conditions(object, old, context);
                let conditions = object.at(&["status", "conditions"]).cloned();
                copy(object, old, &["spec"]);
                copy(object, old, &["status"]);
                match conditions {
                    Some(conditions) => object.set_at(&["status", "conditions"], conditions),
                    None => drop(object.remove_at(&["status", "conditions"])),
                }
            }
            _ => copy(object, old, &["spec"]),
        }
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, context: &HookContext) {
        for kind in ["Approved", "Denied"] {
            keep_conditions(object, old, kind);
        }
        stamp_conditions(object, old, context);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["spec"], &["status", "conditions"]],
            "approval" => &[&["spec"], &["status", "certificate"]],
            _ => &[&["spec"], &["status"]],
        }
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::create(object, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, context.subresource, errors);
    }

    fn validate_status(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        validation::update(object, old, context.subresource, errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let seconds = object.at(&["spec", "expirationSeconds"]).and_then(Node::as_i64);
        let duration = seconds.map_or(NONE.to_owned(), |s| human_duration(GoDuration::from_seconds(s)));
        Row::named(object, now_seconds)
            .age()
            .text_or(&["spec", "signerName"], NONE)
            .text(&["spec", "username"])
            .cell(duration)
            .cell(status(object))
            .done()
    }
}

fn status(request: &Node) -> String {
    let conditions = list(request, &["status", "conditions"]);
    let has = |kind: &str| conditions.iter().any(|c| c.str("type") == kind);
    let decided = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = if request.str_at(&["status", "certificate"]).is_empty() {
        ""
    } else {
        ",Issued"
    };
    format!("{decided}{failed}{issued}")
}

/// A status update does not change conditions of this kind. Where there are more or fewer of them, they are left for
/// validation to refuse.
fn keep_conditions(object: &mut Node, old: &Node, kind: &str) {
    let before: Vec<&Node> = list(old, &["status", "conditions"])
        .iter()
        .filter(|c| c.str("type") == kind)
        .collect();
    let Some(Node::List(conditions)) = object.at_mut(&["status", "conditions"]) else {
        return;
    };
    let mut now: Vec<&mut Node> = conditions.iter_mut().filter(|c| c.str("type") == kind).collect();
    if now.len() == before.len() {
        now.iter_mut()
            .zip(before)
            .for_each(|(now, before)| **now = before.clone());
    }
}

/// Fills in when conditions were last updated and last changed.
fn stamp_conditions(object: &mut Node, old: &Node, context: &HookContext) {
    let now = context.clock.now().rfc3339();
    let before = list(old, &["status", "conditions"]);
    let Some(Node::List(conditions)) = object.at_mut(&["status", "conditions"]) else {
        return;
    };
    for condition in conditions {
        if condition.str("lastUpdateTime").is_empty() {
            condition.set("lastUpdateTime", now.as_str());
        }
        if condition.str("lastTransitionTime").is_empty() {
            let same = before.iter().find(|c| {
                c.str("type") == condition.str("type")
                    && c.str("status") == condition.str("status")
                    && !c.str("lastTransitionTime").is_empty()
            });
            let time = same.map_or(now.as_str(), |c| c.str("lastTransitionTime")).to_owned();
            condition.set("lastTransitionTime", time);
        }
    }
}
