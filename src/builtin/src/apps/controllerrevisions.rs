//! ControllerRevisions.

use crate::cells::{NONE, Row};
use crate::validation::workloads;
use crate::value::{flag, int};
use fairlead_api::{FieldErrors, GroupVersion, Node};
use fairlead_resource::{HookContext, Hooks};

pub struct ControllerRevisions;

impl Hooks for ControllerRevisions {
    fn validate_create(&self, object: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::controller_revision(object, None, errors);
    }

    fn validate_update(&self, object: &Node, old: &Node, _: &HookContext, errors: &mut FieldErrors) {
        workloads::controller_revision(object, Some(old), errors);
    }

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
