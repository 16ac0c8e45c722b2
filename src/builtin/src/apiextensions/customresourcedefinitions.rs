//! CustomResourceDefinitions: defaults only; what they mean is known to the crate of custom resources.

use crate::value::{flag, list, or, or_empty, with};
use fairlead_api::{Node, node};
use fairlead_resource::{HookContext, Hooks};

pub struct CustomResourceDefinitions;

impl Hooks for CustomResourceDefinitions {
    fn default(&self, object: &mut Node) {
        let spec = object.make_at(&["spec"]);
        let names = spec.make_at(&["names"]);
        let kind = names.str("kind").to_owned();
        or_empty(names, "singular", kind.to_lowercase());
        if !kind.is_empty() {
            or_empty(names, "listKind", format!("{kind}List"));
        }
        or(spec, "conversion", node!({"strategy": "None"}));
        with(spec, &["conversion", "webhook", "clientConfig", "service"], |service| {
            or(service, "port", 443)
        });
        note_stored(object);
    }

    fn prepare_create(&self, object: &mut Node, _: &HookContext) {
        note_stored(object);
    }
}

/// A status that names no stored version names the one that is.
fn note_stored(object: &mut Node) {
    let stored = list(object, &["spec", "versions"])
        .iter()
        .find(|v| flag(v, &["storage"]));
    if let Some(name) = stored.map(|v| v.str("name").to_owned())
        && list(object, &["status", "storedVersions"]).is_empty()
    {
        object.set_at(&["status", "storedVersions"], vec![Node::from(name)]);
    }
}
