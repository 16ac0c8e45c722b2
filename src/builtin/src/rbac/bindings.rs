//! RoleBindings and ClusterRoleBindings. Nobody grants more than they hold.

use super::validation;
use crate::auth::{Auth, permit};
use crate::cells::Row;
use crate::value::{each, or, or_empty};
use fairlead_api::{FieldErrors, Node, StatusResult};
use fairlead_resource::{HookContext, Hooks};
use futures_util::future::BoxFuture;
use std::sync::Arc;

const GROUP: &str = "rbac.authorization.k8s.io";

pub struct Bindings {
    pub auth: Option<Arc<Auth>>,
}

impl Hooks for Bindings {
    fn default(&self, object: &mut Node) {
        or_empty(object.make_at(&["roleRef"]), "apiGroup", GROUP);
        each(object, "subjects", |subject| {
            if matches!(subject.str("kind"), "User" | "Group") {
                or(subject, "apiGroup", GROUP);
            }
        });
    }

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
        validation::binding(object, None, context.definition.namespaced(), errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, context: &HookContext, errors: &mut FieldErrors) {
        validation::binding(object, Some(old), context.definition.namespaced(), errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let subjects = |kind: &str| {
            let found = object.list("subjects").iter().filter(|s| s.str("kind") == kind);
            let name = |s: &Node| match kind {
                "ServiceAccount" => format!("{}/{}", s.str("namespace"), s.str("name")),
                _ => s.str("name").to_owned(),
            };
            found.map(name).collect::<Vec<_>>().join(", ")
        };
        let role = format!(
            "{}/{}",
            object.str_at(&["roleRef", "kind"]),
            object.str_at(&["roleRef", "name"])
        );
        Row::named(object, now_seconds)
            .cell(role)
            .age()
            .cell(subjects("User"))
            .cell(subjects("Group"))
            .cell(subjects("ServiceAccount"))
            .done()
    }
}
