//! What built-in kinds are checked for beyond their schema: rules shared by several kinds, and the checks of each kind.
//!
//! [`at`] walks an object and writes errors; [`shown`] writes values as messages show them; [`common`] holds rules of
//! names, metadata and numbers. A resource's hooks call the function of its kind.

#![allow(dead_code)]

pub mod at;
pub mod claims;
pub mod common;
mod cron;
pub mod difference;
pub mod jobs;
pub mod node_labels;
pub mod paths;
pub mod pod;
pub mod resource_names;
pub mod shown;
pub mod signers;
pub mod values;
pub mod volume_sources;
pub mod workloads;
