//! The group `storage.k8s.io`.

pub mod classes;
pub mod csidrivers;
pub mod csinodes;
pub mod csistoragecapacities;
pub mod volumeattachments;
