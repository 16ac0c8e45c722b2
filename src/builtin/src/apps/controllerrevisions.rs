//! ControllerRevisions.

use crate::cells::{NONE, Row};
use crate::value::{flag, int};
use fairlead_api::{GroupVersion, Node};
use fairlead_resource::Hooks;

pub struct ControllerRevisions;

impl Hooks for ControllerRevisions {
    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let controller = object.owner_references().iter().find(|o| flag(o, &["controller"]));
        let controller = controller.map_or(NONE.to_owned(), |owner| {
            let group = GroupVersion::parse(owner.str("apiVersion")).unwrap_or_default().group;
            let kind = owner.str("kind").to_lowercase();
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", owner.str("name"))
        });
        Row::named(object, now_seconds)
            .cell(controller)
            .cell(int(object, &["revision"]))
            .age()
            .done()
    }
}
