//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

use crate::cells::Row;
use crate::value::{each, or, with};
use fairlead_api::{Map, Node};
use fairlead_resource::Hooks;

pub struct ValidatingWebhookConfigurations;

impl Hooks for ValidatingWebhookConfigurations {
    fn default(&self, object: &mut Node) {
        each(object, "webhooks", default_webhook);
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
