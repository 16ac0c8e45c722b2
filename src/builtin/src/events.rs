//! The group `events.k8s.io`.

pub mod conversion;
#[allow(clippy::module_inception)] // The group and its resource share a name.
pub mod events;
pub mod validation;
