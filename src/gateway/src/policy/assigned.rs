//! Which BackendPolicy holds for which APIService: one each, the oldest of those that claim it.

use crate::objects::{BACKEND_POLICIES, ObjectSource};
use compact_str::CompactString;
use fairlead_api::Node;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all policies come to.
#[derive(Default)]
pub struct Assigned {
    by_target: BTreeMap<CompactString, Arc<Node>>,
}

/// What became of one target of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    Held,
    /// An older policy has it.
    TakenBy(&'a str),
}

impl Assigned {
    pub fn read(source: &dyn ObjectSource) -> Assigned {
        Assigned::of(source.list(BACKEND_POLICIES))
    }

    fn of(mut policies: Vec<Arc<Node>>) -> Assigned {
        policies.retain(|p| !is_deleted(p));
        // Times are whole seconds: the name settles what they cannot.
        policies.sort_by(|a, b| (created(a), a.name()).cmp(&(created(b), b.name())));
        let mut by_target = BTreeMap::new();
        for policy in policies {
            for name in targets(&policy) {
                by_target.entry(name.into()).or_insert_with(|| policy.clone());
            }
        }
        Assigned { by_target }
    }

    /// The policy of an APIService.
    pub fn of_target(&self, api_service: &str) -> Option<&Arc<Node>> {
        self.by_target.get(api_service)
    }

    pub fn claim(&self, policy: &Node, target: &str) -> Claim<'_> {
        match self.by_target.get(target).map(|p| p.name()) {
            Some(holder) if holder != policy.name() => Claim::TakenBy(holder),
            _ => Claim::Held,
        }
    }
}

/// The names of the APIServices a policy is attached to.
pub fn targets(policy: &Node) -> impl Iterator<Item = &str> {
    let references = policy.get("spec").map_or(&[][..], |s| s.list("targetRefs"));
    references.iter().map(|r| r.str("name")).filter(|n| !n.is_empty())
}

fn created(policy: &Node) -> &str {
    policy.str_at(&["metadata", "creationTimestamp"])
}

fn is_deleted(policy: &Node) -> bool {
    policy
        .at(&["metadata", "deletionTimestamp"])
        .is_some_and(|t| !t.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairlead_api::node;

    fn policy(name: &str, created: &str, targets: &[&str]) -> Arc<Node> {
        let mut policy = node!({"metadata": {"name": name, "creationTimestamp": created}});
        let targets: Vec<Node> = targets.iter().map(|t| node!({"name": t})).collect();
        policy.set_at(&["spec", "targetRefs"], targets);
        Arc::new(policy)
    }

    #[test]
    fn the_oldest_claim_wins() {
        let young = policy("a", "2026-01-02T00:00:00Z", &["v1.x", "v1.y"]);
        let old = policy("b", "2026-01-01T00:00:00Z", &["v1.x"]);
        let twin = policy("c", "2026-01-01T00:00:00Z", &["v1.x", "v1.z"]);
        let assigned = Assigned::of(vec![young.clone(), twin.clone(), old.clone()]);
        let holder = |target| assigned.of_target(target).map(|p| p.name());
        assert_eq!(
            [holder("v1.x"), holder("v1.y"), holder("v1.z"), holder("v1.w")],
            [Some("b"), Some("a"), Some("c"), None]
        );
        assert_eq!(assigned.claim(&young, "v1.x"), Claim::TakenBy("b"));
        assert_eq!(assigned.claim(&old, "v1.x"), Claim::Held);
    }
}
