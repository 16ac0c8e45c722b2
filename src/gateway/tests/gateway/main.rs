//! The gateway over loopback: real sockets, real TLS, objects in memory.
#![allow(clippy::unwrap_used)]

mod availability;
mod common;
mod core;
mod dying;
mod learning;
mod policies;
mod proxying;
mod recorded;
mod resting;
mod security;
mod upgrades;
mod webhooks;
mod wire;
