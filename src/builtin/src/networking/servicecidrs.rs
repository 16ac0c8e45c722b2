//! ServiceCIDRs.

use crate::cells::{Row, join};
use crate::value::{keep_metadata, list};
use fairlead_api::Node;
use fairlead_resource::{HookContext, Hooks};

pub struct ServiceCIDRs;

impl Hooks for ServiceCIDRs {
    fn prepare_status(&self, object: &mut Node, old: &Node, _: &HookContext) {
        keep_metadata(object, old);
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            _ => &[&["status"]],
        }
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let ranges = join(list(object, &["spec", "cidrs"]).iter().filter_map(Node::as_str), ",");
        Row::named(object, now_seconds).cell(ranges).age().done()
    }
}
