//! Authorizers made of others, and the simplest ones.
//!
//! Source of behaviour: kubernetes/apiserver pkg/authorization/union, authorizerfactory.
// PERFORMANCE: per-request path

use super::{Authorizer, AuthzAttributes, Decision, ResolvedRules};
use crate::authentication::MASTERS;
use fairlead_api::{Node, UserInfo, node};
use futures_util::future::BoxFuture;
use std::future::ready;
use std::sync::Arc;

/// Asks one after the other until one allows or denies. Reasons of those without an opinion are kept, one a line.
pub struct Union(pub Vec<Arc<dyn Authorizer>>);

/// Allows members of `system:masters` everything and says nothing about others. Stands before all modes.
pub struct Masters;

/// `--authorization-mode=AlwaysAllow`
pub struct AlwaysAllow;

/// `--authorization-mode=AlwaysDeny`
pub struct AlwaysDeny;

impl Authorizer for Union {
    fn authorize<'a>(&'a self, attributes: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        Box::pin(async move {
            let mut reasons = String::new();
            for authorizer in &self.0 {
                let (decision, reason) = authorizer.authorize(attributes).await;
                if decision != Decision::NoOpinion {
                    return (decision, reason);
                }
                if !reason.is_empty() {
                    if !reasons.is_empty() {
                        reasons.push('\n');
                    }
                    reasons.push_str(&reason);
                }
            }
            (Decision::NoOpinion, reasons)
        })
    }

    fn rules_for<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> BoxFuture<'a, ResolvedRules> {
        Box::pin(async move {
            let mut all = ResolvedRules::default();
            for authorizer in &self.0 {
                let one = authorizer.rules_for(user, namespace).await;
                all.resource_rules.extend(one.resource_rules);
                all.non_resource_rules.extend(one.non_resource_rules);
                all.incomplete |= one.incomplete;
                all.errors.extend(one.errors);
            }
            all
        })
    }
}

impl Authorizer for Masters {
    fn authorize<'a>(&'a self, attributes: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        let decision = if attributes.user.in_group(MASTERS) {
            Decision::Allow
        } else {
            Decision::NoOpinion
        };
        Box::pin(ready((decision, String::new())))
    }

    fn rules_for<'a>(&'a self, _: &'a UserInfo, _: &'a str) -> BoxFuture<'a, ResolvedRules> {
        Box::pin(ready(ResolvedRules::default()))
    }
}

impl Authorizer for AlwaysAllow {
    fn authorize<'a>(&'a self, _: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        Box::pin(ready((Decision::Allow, String::new())))
    }

    fn rules_for<'a>(&'a self, _: &'a UserInfo, _: &'a str) -> BoxFuture<'a, ResolvedRules> {
        let everything: Node = node!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        Box::pin(ready(ResolvedRules {
            resource_rules: vec![everything],
            non_resource_rules: vec![node!({"verbs": ["*"], "nonResourceURLs": ["*"]})],
            ..ResolvedRules::default()
        }))
    }
}

impl Authorizer for AlwaysDeny {
    fn authorize<'a>(&'a self, _: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)> {
        Box::pin(ready((Decision::NoOpinion, "Everything is forbidden.".into())))
    }

    fn rules_for<'a>(&'a self, _: &'a UserInfo, _: &'a str) -> BoxFuture<'a, ResolvedRules> {
        Box::pin(ready(ResolvedRules::default()))
    }
}
