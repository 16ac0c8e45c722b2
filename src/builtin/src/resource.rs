//! The group `resource.k8s.io`.

mod devices;
pub mod resourceclaims;
pub mod resourceslices;
