//! The black-box suite, one module a subject.

mod aggregation;
mod at_rest;
mod chart;
mod controllers;
mod degradation;
mod etcd;
mod hostile;
mod kubectl;
mod lifecycle;
mod metrics;
mod page;
mod policies;
mod sight;
