//! The group `resource.k8s.io`.

mod admin;
mod devices;
pub mod resourceclaims;
pub mod resourceslices;
mod rules;
