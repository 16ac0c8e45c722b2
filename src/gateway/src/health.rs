//! How endpoints are: what is judged ([`outlier`], [`latency`]), who looks ([`active`]), and how patiently ([`patient`]).

pub mod active;
pub mod latency;
pub mod outlier;
pub mod patient;
