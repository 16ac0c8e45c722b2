//! Events of `events.k8s.io`: those of the core group under other names.

use super::conversion::convert;
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct Events;

impl Hooks for Events {
    fn garbage_collected(&self) -> bool {
        false
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let mut core = object.clone();
        convert(&mut core, "v1");
        crate::core::events::Events.row(&core, now_seconds)
    }
}
