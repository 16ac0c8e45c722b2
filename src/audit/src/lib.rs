//! The audit log: policy, events and sinks. Nothing is here yet: the chain has its filter's place (src/server/src/filters/audit.rs).
