//! The group `admissionregistration.k8s.io`.

mod expressions;
pub mod policies;
mod rules;
pub mod webhooks;
