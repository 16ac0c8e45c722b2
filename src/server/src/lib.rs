//! Everything inbound: from a TLS connection to an answer on the wire.
//!
//! - [`listener`]: sockets, connections, draining. [`tls`]: certificates, reloaded while running.
//! - [`chain`]: the filters in order, one screen. [`filters`]: one file each.
//! - [`request_info`]: what a path means. [`router`]: who answers it. [`resources`]: requests for the engine.
//! - [`negotiate`], [`encode`], [`watch`]: which form an answer takes, and its bytes.
//! - [`endpoints`], [`openapi`], [`zpages`], [`page`]: the server's own paths. [`measured`], [`metrics`]: what is told of requests.
//!
//! Related: kubernetes/apiserver pkg/server, pkg/endpoints.

pub mod audit;
pub mod backup;
pub mod body;
pub mod chain;
pub mod connection;
mod cork;
pub mod drain;
pub mod encode;
pub mod endpoints;
pub mod filters;
pub mod listener;
pub mod measured;
pub mod metrics;
pub mod negotiate;
pub mod openapi;
pub mod page;
pub mod query;
pub mod remote;
pub mod request;
pub mod request_info;
pub mod resources;
pub mod router;
mod streams;
pub mod tls;
pub mod watch;
mod websocket;
pub mod zpages;

pub use body::{Body, Response};
pub use chain::{Chain, Services, Settings};
pub use connection::Connection;
pub use drain::Drain;
pub use listener::{Listener, ListenerConfig};
pub use remote::Remote;
pub use request_info::RequestInfo;
