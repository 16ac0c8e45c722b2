//! PodTemplates.

use crate::cells::Row;
use crate::pod_spec::default_template;
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct PodTemplates;

impl Hooks for PodTemplates {
    fn default(&self, object: &mut Node) {
        default_template(object, &["template"]);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds)
            .containers(&["template", "spec", "containers"])
            .labels(&["template", "metadata", "labels"])
            .done()
    }
}
