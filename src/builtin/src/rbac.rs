//! The group `rbac.authorization.k8s.io`.

pub mod bindings;
pub mod roles;
mod validation;
