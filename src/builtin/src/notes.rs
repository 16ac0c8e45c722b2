//! What OpenAPI shows about the built-in types: their words, kinds and unions.

use crate::Builtins;
use fairlead_api::{GroupVersionKind, Node};
use fairlead_schema::{OpenApi, TypeNotes};

/// Types that are kinds of every group-version there is.
const IN_EVERY_GROUP: [&str; 2] = ["DeleteOptions", "WatchEvent"];

/// COMPAT: all group-versions that upstream's type registry knows besides core, served or not; v2 lists them all.
const REGISTERED: [(&str, &str); 25] = [
    ("admission.k8s.io", "v1 v1beta1"),
    ("admissionregistration.k8s.io", "v1 v1alpha1 v1beta1"),
    ("apiextensions.k8s.io", "v1 v1beta1"),
    ("apiregistration.k8s.io", "v1 v1beta1"),
    ("apps", "v1 v1beta1 v1beta2"),
    ("authentication.k8s.io", "v1 v1alpha1 v1beta1"),
    ("authorization.k8s.io", "v1 v1beta1"),
    ("autoscaling", "v1 v2"),
    ("batch", "v1 v1beta1"),
    ("certificates.k8s.io", "v1 v1alpha1 v1beta1"),
    ("coordination.k8s.io", "v1 v1alpha2 v1beta1"),
    ("discovery.k8s.io", "v1 v1beta1"),
    ("events.k8s.io", "v1 v1beta1"),
    ("extensions", "v1beta1"),
    ("flowcontrol.apiserver.k8s.io", "v1 v1beta1 v1beta2 v1beta3"),
    ("imagepolicy.k8s.io", "v1alpha1"),
    ("internal.apiserver.k8s.io", "v1alpha1"),
    ("networking.k8s.io", "v1 v1beta1"),
    ("node.k8s.io", "v1 v1alpha1 v1beta1"),
    ("policy", "v1 v1beta1"),
    ("rbac.authorization.k8s.io", "v1 v1alpha1 v1beta1"),
    ("resource.k8s.io", "v1 v1alpha3 v1beta1 v1beta2"),
    ("scheduling.k8s.io", "v1 v1alpha2 v1beta1"),
    ("storage.k8s.io", "v1 v1alpha1 v1beta1"),
    ("storagemigration.k8s.io", "v1beta1"),
];

impl TypeNotes for Builtins {
    fn words(&self, name: &str, field: &str) -> Option<&str> {
        match fairlead_words::word(name, field) {
            // The typed bindings have no such type.
            None if field == "object" && name.ends_with("WatchEvent") => Some("The object the event is about."),
            None => self.own_words(name, field),
            words => words,
        }
    }

    fn kinds(&self, name: &str, version: OpenApi) -> Vec<GroupVersionKind> {
        let Some(kind) = name
            .strip_prefix("io.k8s.apimachinery.pkg.apis.meta.v1.")
            .filter(|n| IN_EVERY_GROUP.contains(n))
        else {
            return self.gvk(name).cloned().into_iter().collect();
        };
        let mut kinds = vec![GroupVersionKind::new("", "v1", kind)];
        if version == OpenApi::V2 {
            kinds.extend(REGISTERED.iter().flat_map(|(group, versions)| {
                versions
                    .split(' ')
                    .map(move |version| GroupVersionKind::new(group, version, kind))
            }));
        }
        kinds
    }

    fn unions(&self, name: &str) -> Option<Node> {
        let union = self.union(name)?;
        let mut members = Node::map();
        for (field, value) in &union.members {
            members.set(field, value.clone());
        }
        let mut out = Node::map();
        if !union.discriminator.is_empty() {
            out.set("discriminator", union.discriminator.clone());
        }
        out.set("fields-to-discriminateBy", members);
        Some(Node::List(vec![out]))
    }

    fn granular(&self, name: &str, field: &str) -> bool {
        self.granular(name, field)
    }
}
