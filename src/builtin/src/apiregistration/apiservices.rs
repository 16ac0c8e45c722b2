//! APIServices. Whether a remote one is available is the gateway's to say.

use crate::cells::Row;
use crate::value::{copy, list, or, with};
use fairlead_api::Node;
use fairlead_resource::{HookContext, Hooks};

pub struct APIServices;

impl Hooks for APIServices {
    fn default(&self, object: &mut Node) {
        with(object, &["spec", "service"], |service| or(service, "port", 443));
    }

    fn prepare_create(&self, object: &mut Node, context: &HookContext) {
        if object.at(&["spec", "service"]).is_none() {
            let mut condition = Node::map();
            condition.set("type", "Available");
            condition.set("status", "True");
            condition.set("lastTransitionTime", context.clock.now().rfc3339());
            condition.set("reason", "Local");
            condition.set("message", "Local APIServices are always available");
            object.set_at(&["status", "conditions"], vec![condition]);
        }
    }

    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            copy(object, old, &["metadata", field]);
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let service = match object.at(&["spec", "service"]) {
            Some(service) => format!("{}/{}", service.str("namespace"), service.str("name")),
            None => "Local".into(),
        };
        let available = list(object, &["status", "conditions"])
            .iter()
            .find(|c| c.str("type") == "Available");
        let available = match available {
            Some(condition) if condition.str("status") == "True" || condition.str("reason").is_empty() => {
                condition.str("status").to_owned()
            }
            Some(condition) => format!("{} ({})", condition.str("status"), condition.str("reason")),
            None => "Unknown".into(),
        };
        Row::named(object, now_seconds)
            .cell(service)
            .cell(available)
            .age()
            .done()
    }
}
