//! The group `gateway.fairlead.dev`: our own, served only where `--runtime-config` asks for it.

pub mod backendpolicies;
