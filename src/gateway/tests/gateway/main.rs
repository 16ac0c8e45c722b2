//! The gateway over loopback: real sockets, real TLS, objects in memory.

mod availability;
mod common;
mod proxying;
mod upgrades;
mod webhooks;
