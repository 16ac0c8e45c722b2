//! The black-box suite, one module a subject.

mod kubectl;
mod lifecycle;
