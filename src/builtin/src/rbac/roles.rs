//! Roles and ClusterRoles. Nobody grants more than they hold.

use super::validation;
use crate::auth::{Auth, permit};
use fairlead_api::{FieldErrors, Node, StatusResult};
use fairlead_resource::{HookContext, Hooks};
use futures_util::future::BoxFuture;
use std::sync::Arc;

pub struct Roles {
    pub auth: Option<Arc<Auth>>,
}

impl Hooks for Roles {
    fn permit<'a>(
        &'a self,
        object: &'a Node,
        old: Option<&'a Node>,
        context: &'a HookContext<'a>,
    ) -> BoxFuture<'a, StatusResult<()>> {
        match &self.auth {
            Some(auth) => permit(auth, object, old, context),
            None => Box::pin(std::future::ready(Ok(()))),
        }
    }

    fn validate_create(&self, object: &Node, context: &HookContext, errors: &mut FieldErrors) {
        validation::role(object, None, context.definition.namespaced(), errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        validation::role(object, Some(old), context.definition.namespaced(), errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }
}
