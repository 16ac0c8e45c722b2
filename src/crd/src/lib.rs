//! CustomResourceDefinitions: objects that become resources.
//!
//! - [`definition`]: a served version as a `ResourceDefinition`. - [`names`]: which names it gets, and its conditions.

pub mod condition;
pub mod definition;
pub mod hooks;
pub mod lifecycle;
pub mod names;

use fairlead_api::Node;

/// `spec.versions` of a CustomResourceDefinition.
pub fn versions(crd: &Node) -> impl Iterator<Item = &Node> {
    crd.get("spec").into_iter().flat_map(|spec| spec.list("versions"))
}
