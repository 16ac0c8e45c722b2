//! What built-in kinds are checked for beyond their schema: rules shared by several kinds, and the checks of each kind.
//!
//! [`at`] walks an object and writes errors; [`shown`] writes values as messages show them; [`common`] holds rules of
//! names, metadata and numbers. A resource's hooks call the function of its kind.

pub mod at;
pub mod claims;
pub mod common;
pub mod configuration;
pub mod cron;
pub mod difference;
pub mod endpoints;
pub mod jobs;
pub mod node_labels;
pub mod nodes;
pub mod paths;
pub mod persistent_volumes;
pub mod pod;
pub mod quotas;
pub mod resource_names;
pub mod services;
pub mod shown;
pub mod signers;
pub mod values;
pub mod volume_sources;
pub mod warnings;
pub mod workloads;
