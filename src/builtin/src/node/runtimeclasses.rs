//! RuntimeClasses.

use crate::cells::Row;
use crate::pod_spec::round_quantities;
use crate::value::with;
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct RuntimeClasses;

impl Hooks for RuntimeClasses {
    fn default(&self, object: &mut Node) {
        with(object, &["overhead", "podFixed"], round_quantities);
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).text(&["handler"]).age().done()
    }
}
