//! CustomResourceDefinitions: defaults only; what they mean is known to the crate of custom resources.

use crate::value::{flag, list, or, or_empty, with};
use fairlead_api::{Node, node};
use fairlead_resource::Hooks;

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
        let stored = list(spec, &["versions"])
            .iter()
            .find(|v| flag(v, &["storage"]))
            .map(|v| v.str("name").to_owned());
        if let Some(stored) = stored
            && list(object, &["status", "storedVersions"]).is_empty()
        {
            object.set_at(&["status", "storedVersions"], vec![Node::from(stored)]);
        }
    }
}
