//! CSIDrivers.

use crate::cells::{NONE, Row, UNSET, join};
use crate::gated::drop_unless_used;
use crate::value::{bump_generation, list, or};
use fairlead_api::Node;
use fairlead_resource::{HookContext, Hooks};

const PREVENT: &[&str] = &["spec", "preventPodSchedulingIfMissing"];

pub struct CSIDrivers;

impl Hooks for CSIDrivers {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        or(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            or(spec, field, false);
        }
        or(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if list(spec, &["volumeLifecycleModes"]).is_empty() {
            spec.set("volumeLifecycleModes", vec![Node::string("Persistent")]);
        }
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        drop_unless_used(object, None, PREVENT);
    }

    fn prepare_update(&self, object: &mut Node, old: &Node, _: &HookContext) {
        drop_unless_used(object, Some(old), PREVENT);
        // COMPAT: the generation counts changes only, so a new one has none.
        bump_generation(object, old, &[&["spec"]]);
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        let modes = join(
            list(object, &["spec", "volumeLifecycleModes"])
                .iter()
                .filter_map(Node::as_str),
            ",",
        );
        let tokens = match object.at(&["spec", "tokenRequests"]) {
            Some(Node::List(requests)) => join(requests.iter().map(|r| r.str("audience")), ","),
            _ => UNSET.into(),
        };
        let attach = object
            .at(&["spec", "attachRequired"])
            .and_then(Node::as_bool)
            .unwrap_or(true);
        Row::named(object, now_seconds)
            .cell(attach)
            .flag(&["spec", "podInfoOnMount"])
            .flag(&["spec", "storageCapacity"])
            .cell(tokens)
            .flag(&["spec", "requiresRepublish"])
            .cell(if modes.is_empty() { NONE.to_owned() } else { modes })
            .age()
            .done()
    }
}
