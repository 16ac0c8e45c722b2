//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

mod validation;

use crate::cells::Row;
use crate::value::{each, or, with};
use fairlead_api::{FieldErrors, Map, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct ValidatingWebhookConfigurations;

impl Hooks for ValidatingWebhookConfigurations {
    fn default(&self, object: &mut Node) {
        each(object, "webhooks", default_webhook);
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, Some(old), errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        static_name_warnings(object)
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).count(&["webhooks"]).age().done()
    }
}

pub struct MutatingWebhookConfigurations;

impl Hooks for MutatingWebhookConfigurations {
    fn default(&self, object: &mut Node) {
        each(object, "webhooks", |webhook| {
            default_webhook(webhook);
            or(webhook, "reinvocationPolicy", "Never");
        });
    }

    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        validation::validate(object, Some(old), errors);
    }

    fn repeats_metadata_checks(&self) -> bool {
        false
    }

    fn warnings(&self, object: &Node, _: Option<&Node>, _: &HookContext) -> Vec<String> {
        static_name_warnings(object)
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).count(&["webhooks"]).age().done()
    }
}

fn default_webhook(webhook: &mut Node) {
    or(webhook, "failurePolicy", "Fail");
    or(webhook, "matchPolicy", "Equivalent");
    or(webhook, "namespaceSelector", Map::new());
    or(webhook, "objectSelector", Map::new());
    or(webhook, "timeoutSeconds", 10);
    with(webhook, &["clientConfig", "service"], |service| {
        or(service, "port", 443)
    });
    each(webhook, "rules", default_rule);
}

pub fn default_rule(rule: &mut Node) {
    or(rule, "scope", "*");
}

/// Says which names this API should leave alone.
pub fn static_name_warnings(object: &Node) -> Vec<String> {
    const SUFFIX: &str = ".static.k8s.io";
    match object.name().ends_with(SUFFIX) {
        true => vec![format!(
            "metadata.name: names ending with {SUFFIX:?} are reserved for static manifest-based configurations and cannot be managed via the API"
        )],
        false => Vec::new(),
    }
}
