//! The group `apiextensions.k8s.io`.

pub mod customresourcedefinitions;
