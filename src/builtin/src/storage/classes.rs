//! StorageClasses and VolumeAttributesClasses.

use crate::cells::{Row, or as text_or};
use crate::networking::ingressclasses::default_name;
use crate::value::or;
use fairlead_api::Node;
use fairlead_resource::Hooks;

const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

pub struct StorageClasses;

impl Hooks for StorageClasses {
    fn default(&self, object: &mut Node) {
        or(object, "reclaimPolicy", "Delete");
        or(object, "volumeBindingMode", "Immediate");
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::new(object, now_seconds)
            .cell(default_name(object, &DEFAULT_CLASS))
            .text(&["provisioner"])
            .cell(text_or(object.str("reclaimPolicy"), "Delete"))
            .cell(text_or(object.str("volumeBindingMode"), "Immediate"))
            .flag(&["allowVolumeExpansion"])
            .age()
            .done()
    }
}

pub struct VolumeAttributesClasses;

impl Hooks for VolumeAttributesClasses {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn row(&self, object: &Node, now_seconds: i64) -> Option<Vec<Node>> {
        Row::named(object, now_seconds).text(&["driverName"]).age().done()
    }
}
