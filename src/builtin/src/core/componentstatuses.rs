//! ComponentStatuses: no longer kept by anyone, but still printed.

use crate::cells::Row;
use fairlead_api::Node;
use fairlead_resource::Hooks;

pub struct ComponentStatuses;

impl Hooks for ComponentStatuses {
    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let healthy = object.list("conditions").iter().find(|c| c.str("type") == "Healthy");
        let status = match healthy.map(|c| c.str("status")) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let text = |key| healthy.map_or("", |c| c.str(key));
        Row::named(object, now_seconds)
            .cell(status)
            .cell(text("message"))
            .cell(text("error"))
            .done()
    }
}
