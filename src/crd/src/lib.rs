//! CustomResourceDefinitions: objects that become resources.
//!
//! - [`definition`]: a served version as a `ResourceDefinition`. - [`names`]: which names it gets, and its conditions.
//! - [`validation`]: what a definition must be. - [`lifecycle`]: what follows a write of one.

pub mod approval;
pub mod condition;
pub mod definition;
pub mod hooks;
pub mod lifecycle;
pub mod names;
mod objects;
#[cfg(test)]
mod recorded;
mod rules;
pub mod validation;

use fairlead_api::Node;

/// `spec.versions` of a CustomResourceDefinition.
pub fn versions(crd: &Node) -> impl Iterator<Item = &Node> {
    crd.get("spec").into_iter().flat_map(|spec| spec.list("versions"))
}
