//! ServiceAccounts.

use crate::auth::Token;
use crate::cells::Row;
use crate::validation::common::{finalizers, object_meta};
use crate::validation::warnings;
use crate::value::each;
use fairlead_api::{FieldErrors, Node, name};
use fairlead_resource::hooks::AnswersCreate;
use fairlead_resource::{HookContext, Hooks};

pub struct ServiceAccounts {
    /// Answers `token`; `None` in tools that only look at definitions.
    pub token: Option<Token>,
}

impl Hooks for ServiceAccounts {
    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        clean_secrets(object);
    }

    fn prepare_update(&self, object: &mut Node, _: &Node, _: &HookContext) {
        clean_secrets(object);
    }

    fn warnings(&self, object: &Node, old: Option<&Node>, _: &HookContext) -> Vec<String> {
        warnings::service_account(object, old)
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        object_meta(object, true, name::name_is_dns_subdomain, errors);
    }

    fn validate_update(&self, object: &Node, _: &Node, _: &HookContext, errors: &mut FieldErrors) {
        finalizers(object, errors);
        object_meta(object, true, name::name_is_dns_subdomain, errors);
    }

    fn answers(&self, subresource: &str) -> Option<&dyn AnswersCreate> {
        match (subresource, &self.token) {
            ("token", Some(token)) => Some(token),
            _ => None,
        }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).age().done()
    }
}

/// References to secrets hold a name and nothing else.
fn clean_secrets(object: &mut Node) {
    each(object, "secrets", |secret| {
        if let Some(members) = secret.as_map_mut() {
            members.retain(|key, _| key == "name");
        }
    });
}
