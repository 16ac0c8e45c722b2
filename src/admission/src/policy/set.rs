//! [`Policies`]: all policies of a kind that have bindings, compiled. Made anew when one of them changes; requests that
//! are under way keep what they began with.
// PERFORMANCE: per-request path

use crate::Lookup;
use crate::webhook::GROUP;
use fairlead_api::Node;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The policies of a kind, each compiled to a `C`.
pub struct Policies<C> {
    plurals: Plurals,
    compile: fn(&Node) -> C,
    current: RwLock<Arc<Set<C>>>,
}

/// The resources that hold policies and their bindings.
#[derive(Clone, Copy, Debug)]
pub struct Plurals {
    pub policies: &'static str,
    pub bindings: &'static str,
}

/// The policies at one moment.
pub struct Set<C> {
    /// What [`Lookup::stamp`] said of policies and bindings.
    stamps: (u64, u64),
    pub policies: Vec<Policy<C>>,
}

/// A policy and its bindings.
pub struct Policy<C> {
    pub object: Arc<Node>,
    pub bindings: Vec<Arc<Node>>,
    pub compiled: Arc<C>,
}

impl<C> Policies<C> {
    pub fn new(plurals: Plurals, compile: fn(&Node) -> C) -> Policies<C> {
        Policies {
            plurals,
            compile,
            current: RwLock::new(Arc::new(Set {
                stamps: (0, 0),
                policies: Vec::new(),
            })),
        }
    }

    /// The policies as they are now; `None` where there are none.
    pub fn current(&self, lookup: &dyn Lookup) -> Option<Arc<Set<C>>> {
        let Plurals { policies, bindings } = self.plurals;
        let policies = lookup.stamp(GROUP, policies);
        if policies == 0 {
            return None;
        }
        let stamps = (policies, lookup.stamp(GROUP, bindings));
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let current = match current.stamps == stamps {
            true => current,
            false => self.renew(stamps, &current, lookup),
        };
        Some(current).filter(|set| !set.policies.is_empty())
    }

    /// Compiles what is new. The stamps were taken before the objects are read: what changes meanwhile is seen next time.
    fn renew(&self, stamps: (u64, u64), before: &Set<C>, lookup: &dyn Lookup) -> Arc<Set<C>> {
        let Plurals { policies, bindings } = self.plurals;
        let mut by_policy: BTreeMap<String, Vec<Arc<Node>>> = BTreeMap::new();
        for binding in lookup.list(GROUP, bindings, "") {
            let policy = binding.str_at(&["spec", "policyName"]).to_owned();
            by_policy.entry(policy).or_default().push(binding);
        }
        let known = |object: &Arc<Node>| {
            let same = |policy: &&Policy<C>| *policy.object == **object;
            before.policies.iter().find(same).map(|policy| policy.compiled.clone())
        };
        let bound = lookup.list(GROUP, policies, "").into_iter().filter_map(|object| {
            Some(Policy {
                bindings: by_policy.remove(object.name())?,
                compiled: known(&object).unwrap_or_else(|| Arc::new((self.compile)(&object))),
                object,
            })
        });
        let set = Arc::new(Set {
            stamps,
            policies: bound.collect(),
        });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = set.clone();
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fake;
    use fairlead_api::node;

    #[test]
    fn what_changed_is_compiled_and_nothing_else() {
        const PLURALS: Plurals = Plurals {
            policies: "ps",
            bindings: "bs",
        };
        let policies = Policies::new(PLURALS, |policy| policy.str_at(&["spec", "x"]).to_owned());
        let fake = Fake::default();
        assert!(policies.current(&fake).is_none());
        let policy = |name: &str, x: &str| {
            let mut policy = node!({});
            policy.set_at(&["metadata", "name"], name);
            policy.set_at(&["spec", "x"], x);
            policy
        };
        let fake = fake.with("ps", policy("a", "1")).with("ps", policy("b", "1"));
        assert!(policies.current(&fake).is_none(), "nothing is bound");
        let fake = fake
            .with("bs", node!({"metadata": {"name": "x"}, "spec": {"policyName": "a"}}))
            .with("bs", node!({"metadata": {"name": "y"}, "spec": {"policyName": "b"}}))
            .with("bs", node!({"metadata": {"name": "z"}, "spec": {"policyName": "gone"}}));
        let first = policies.current(&fake).unwrap();
        assert!(Arc::ptr_eq(&first, &policies.current(&fake).unwrap()));
        let fake = fake.with("ps", policy("a", "2"));
        let second = policies.current(&fake).unwrap();
        assert_eq!(*second.policies[0].compiled, "2");
        assert!(Arc::ptr_eq(&first.policies[1].compiled, &second.policies[1].compiled));
        assert_eq!(
            *first.policies[0].compiled, "1",
            "requests under way keep what they have"
        );
    }
}
