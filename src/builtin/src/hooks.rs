//! The hook table: which resource has which hooks.

use fairlead_resource::hooks::{Hooks, NoHooks};
use std::sync::Arc;

/// What hooks need from the rest of the server.
#[derive(Clone, Default)]
pub struct Deps {
    /// `None` in tools that only look at definitions.
    pub auth: Option<Arc<crate::auth::Auth>>,
}

/// The hooks of a resource, by group and plural name.
pub fn of(group: &str, plural: &str, deps: &Deps) -> Arc<dyn Hooks> {
    if let Some(review) = deps
        .auth
        .as_ref()
        .and_then(|auth| crate::auth::review(group, plural, auth))
    {
        return Arc::new(review);
    }
    match (group, plural, &deps.auth) {
        ("rbac.authorization.k8s.io", _, Some(auth)) => Arc::new(crate::auth::Grants(auth.clone())),
        _ => Arc::new(NoHooks),
    }
}
