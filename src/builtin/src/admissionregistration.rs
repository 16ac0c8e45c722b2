//! The group `admissionregistration.k8s.io`.

pub mod policies;
pub mod webhooks;
