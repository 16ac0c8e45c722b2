//! The black-box suite, one module a subject.

mod admission_policies;
mod aggregation;
mod at_rest;
mod chaos;
mod chart;
mod controllers;
mod core_backend;
mod degradation;
mod etcd;
mod guide;
mod hostile;
mod kubectl;
mod kubelets;
mod lifecycle;
mod metrics;
mod page;
mod policies;
mod real_backends;
mod scale;
mod security;
mod shared_store;
mod sight;
mod streaming;
mod traversal;
mod watches;
