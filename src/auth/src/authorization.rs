//! The authorization contract: [`AuthzAttributes`] in, [`Decision`] and reason out.
// PERFORMANCE: per-request path

pub mod forbidden;
pub mod node;
pub mod rbac;
pub mod rule;
pub mod union;

use compact_str::CompactString;
use fairlead_api::selector::{FieldRequirement, Requirement};
use fairlead_api::{Node, UserInfo};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthzAttributes {
    pub user: Arc<UserInfo>,
    /// `get`, `list`, `create` …; the lower-case method where `resource_request` is false.
    pub verb: CompactString,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: CompactString,
    pub group: CompactString,
    pub version: CompactString,
    pub resource: CompactString,
    pub subresource: CompactString,
    pub name: CompactString,
    pub resource_request: bool,
    /// The request path; what is decided on where `resource_request` is false.
    pub path: CompactString,
    /// What of the request's selectors could be read (KEP-4601).
    pub field_selector: Vec<FieldRequirement>,
    pub label_selector: Vec<Requirement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Refused whatever others say.
    Deny,
    NoOpinion,
}

/// One source of permissions.
///
/// **Guarantees**: the same attributes give the same decision while the objects it reads stay the same; never blocks on
/// IO unless it is a webhook. **Failure**: what cannot be resolved gives `NoOpinion` and says so in the reason.
pub trait Authorizer: Send + Sync {
    /// The decision and its reason, which is audited and shown to the client when the request is refused.
    fn authorize<'a>(&'a self, attributes: &'a AuthzAttributes) -> BoxFuture<'a, (Decision, String)>;

    /// What the user may do in a namespace, for SelfSubjectRulesReview.
    fn rules_for<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> BoxFuture<'a, ResolvedRules>;
}

/// What a user may do, as far as it can be listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolvedRules {
    /// `{verbs, apiGroups, resources, resourceNames}`
    pub resource_rules: Vec<Node>,
    /// `{verbs, nonResourceURLs}`
    pub non_resource_rules: Vec<Node>,
    /// The list leaves permissions out.
    pub incomplete: bool,
    pub errors: Vec<String>,
}
