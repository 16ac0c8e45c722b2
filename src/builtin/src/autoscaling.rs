//! The group `autoscaling`.

pub mod conversion;
pub mod horizontalpodautoscalers;
mod metrics;
mod noted;
