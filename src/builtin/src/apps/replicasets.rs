//! ReplicaSets.

use crate::cells::Row;
use crate::pod_spec::default_template;
use crate::value::or;
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct ReplicaSets;

impl Hooks for ReplicaSets {
    fn default(&self, object: &mut Node) {
        or(object.make_at(&["spec"]), "replicas", 1);
        default_template(object, &["spec", "template"]);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .int(&["spec", "replicas"])
            .int(&["status", "replicas"])
            .int(&["status", "readyReplicas"])
            .age()
            .containers(&["spec", "template", "spec", "containers"])
            .selector(&["spec", "selector"])
            .done()
    }
}
