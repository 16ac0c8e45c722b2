//! What BackendPolicies say of themselves: conditions, and how their endpoints are. Written with restraint: only when
//! what this server sees has changed since it last wrote, and not too often. So several servers over one store do not write
//! against each other: the status is what the one saw that saw something change last, and who has not asked an endpoint yet
//! leaves what another says of it.

use crate::backend::Backend;
use crate::health::active::endpoints;
use crate::health::outlier::State;
use crate::objects::{BACKEND_POLICIES, BackendPolicies, ObjectSource};
use crate::policy::assigned::{Assigned, Claim, targets};
use fairlead_api::{Node, Timestamp, node};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How often endpoints are looked at, where there are policies.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two writes of one policy that has not changed itself.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// Keeps the status of all policies.
#[derive(Default)]
pub struct PolicyStatus {
    seen: HashMap<String, Written>,
}

/// What was written last, and when.
struct Written {
    view: Vec<View>,
    generation: i64,
    conditions: Vec<Node>,
    at: Instant,
}

/// One endpoint, as it was seen.
#[derive(Clone, PartialEq)]
struct View {
    target: String,
    address: String,
    state: &'static str,
    reason: &'static str,
}

impl PolicyStatus {
    /// One look at everything. `backend` finds the backend of an APIService; `known` says whether there is one at all.
    pub async fn look(
        &mut self,
        source: &dyn ObjectSource,
        backend: impl Fn(&str) -> Option<std::sync::Arc<Backend>>,
        known: impl Fn(&str) -> bool,
        writer: &dyn BackendPolicies,
        now: Timestamp,
    ) {
        let policies = source.list(BACKEND_POLICIES);
        self.seen.retain(|name, _| policies.iter().any(|p| p.name() == name));
        if policies.is_empty() {
            return;
        }
        let assigned = Assigned::read(source);
        for policy in policies {
            let view: Vec<View> = targets(&policy)
                .filter(|target| assigned.claim(&policy, target) == Claim::Held)
                .filter_map(&backend)
                .flat_map(|backend| views(&backend))
                .collect();
            let conditions = conditions(&policy, &assigned, &known);
            let before = self.seen.get(policy.name());
            let same_object = before.is_some_and(|b| b.generation == policy.generation() && b.conditions == conditions);
            let due = before.is_none_or(|b| b.at.elapsed() >= WRITE_EVERY);
            if same_object && (before.is_some_and(|b| b.view == view) || !due) {
                continue;
            }
            let mut changed = (*policy).clone();
            set_status(&mut changed, &conditions, &view, now);
            if changed != *policy
                && let Err(error) = writer.update_policy_status(changed).await
            {
                tracing::debug!(policy = policy.name(), %error, "the status is not written");
                continue;
            }
            let written = Written {
                view,
                generation: policy.generation(),
                conditions,
                at: Instant::now(),
            };
            self.seen.insert(policy.name().to_owned(), written);
        }
    }
}

fn views(backend: &Backend) -> Vec<View> {
    let mut views: Vec<View> = endpoints(backend)
        .into_iter()
        .map(|(pool, endpoint)| {
            let state = pool.state(&endpoint);
            View {
                target: backend.name().to_owned(),
                address: endpoint.authority.clone(),
                state: state.as_str(),
                reason: state.reason(),
            }
        })
        .collect();
    views.sort_by(|a, b| a.address.cmp(&b.address));
    views.dedup_by(|a, b| a.address == b.address);
    views
}

/// Type, status, reason and message of both conditions.
fn conditions(policy: &Node, assigned: &Assigned, known: impl Fn(&str) -> bool) -> Vec<Node> {
    let mut taken = Vec::new();
    let mut missing = Vec::new();
    let mut held = 0_usize;
    for target in targets(policy) {
        match assigned.claim(policy, target) {
            Claim::TakenBy(holder) => taken.push(format!("{target} is held by the older BackendPolicy {holder:?}")),
            Claim::Held if known(target) => held += 1,
            Claim::Held => missing.push(format!("APIService {target:?} not found, or it names no service")),
        }
    }
    let accepted = match (held, taken.is_empty()) {
        (1.., _) => condition("Accepted", true, "Accepted", "the policy is in force"),
        (0, true) => condition("Accepted", false, "TargetNotFound", &missing.join("; ")),
        (0, false) => condition("Accepted", false, "Conflicted", &taken.join("; ")),
    };
    let conflicted = match taken.is_empty() {
        true => condition("Conflicted", false, "NoConflict", "no other policy has an older claim"),
        false => condition("Conflicted", true, "OlderPolicy", &taken.join("; ")),
    };
    vec![accepted, conflicted]
}

fn condition(kind: &str, status: bool, reason: &str, message: &str) -> Node {
    let status = if status { "True" } else { "False" };
    node!({"type": kind, "status": status, "reason": reason, "message": message})
}

/// Writes both into the status. Times of transition move only with what they are of.
fn set_status(policy: &mut Node, conditions: &[Node], view: &[View], now: Timestamp) {
    let old = policy.get("status").cloned().unwrap_or_default();
    let generation = policy.generation();
    let since = |known: Option<&Node>, same: bool| match known {
        Some(known) if same => known.str("lastTransitionTime").to_owned(),
        _ => now.rfc3339(),
    };
    let conditions: Vec<Node> = conditions
        .iter()
        .map(|condition| {
            let known = old
                .list("conditions")
                .iter()
                .find(|c| c.str("type") == condition.str("type"));
            let same = known.is_some_and(|k| k.str("status") == condition.str("status"));
            let mut made = condition.clone();
            made.set("observedGeneration", generation);
            made.set("lastTransitionTime", since(known, same));
            made
        })
        .collect();
    let endpoints: Vec<Node> = view
        .iter()
        .map(|v| {
            let of = |e: &&Node| e.str("target") == v.target && e.str("address") == v.address;
            let known = old.list("endpoints").iter().find(of);
            if let Some(known) = known
                && v.state == State::Connecting.as_str()
            {
                return known.clone();
            }
            let same = known.is_some_and(|k| k.str("state") == v.state);
            let mut made = node!({"target": (v.target.as_str()), "address": (v.address.as_str()), "state": (v.state)});
            if !v.reason.is_empty() {
                made.set("reason", v.reason);
            }
            made.set("lastTransitionTime", since(known, same));
            made
        })
        .collect();
    let mut status = Node::map();
    status.set("observedGeneration", generation);
    status.set("conditions", conditions);
    if !endpoints.is_empty() {
        status.set("endpoints", endpoints);
    }
    policy.set("status", status);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_move_only_with_states() {
        let mut policy = node!({"metadata": {"name": "p", "generation": 3}});
        let view = |state, reason| {
            vec![View {
                target: "v1.g".into(),
                address: "10.0.0.1:443".into(),
                state,
                reason,
            }]
        };
        let accepted = [condition("Accepted", true, "Accepted", "")];
        let at = Timestamp::from_unix_seconds;
        set_status(&mut policy, &accepted, &view("Healthy", ""), at(0));
        let once = policy.clone();
        set_status(&mut policy, &accepted, &view("Healthy", ""), at(60));
        assert_eq!(policy, once);
        set_status(&mut policy, &accepted, &view("Ejected", "NoAnswer"), at(60));
        let endpoint = &policy.get("status").unwrap().list("endpoints")[0];
        assert_eq!(
            (endpoint.str("reason"), endpoint.str("lastTransitionTime")),
            ("NoAnswer", "1970-01-01T00:01:00Z")
        );
        // Another server, which has not asked that endpoint yet.
        let known = policy.clone();
        set_status(&mut policy, &accepted, &view("Connecting", ""), at(90));
        assert_eq!(policy, known);
        assert_eq!(
            policy.get("status").unwrap().list("conditions")[0].str("lastTransitionTime"),
            "1970-01-01T00:00:00Z"
        );
    }
}
