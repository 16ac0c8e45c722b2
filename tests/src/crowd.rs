//! [`Crowd`]: many extension API servers in one process, each with an address and a group of its own.

use crate::extension::{ExtensionServer, Place, Start, bundle, register};
use crate::server::Server;
use anyhow::Result;
use fairlead_bench::client::Connection;

/// Dropping it kills the process.
pub struct Crowd(ExtensionServer);

impl Crowd {
    pub fn start(server: &Server, size: usize) -> Result<Crowd> {
        let arguments = [
            "--port=0".into(),
            "--dns-name=*.default.svc".into(),
            "--group=example.com".into(),
            format!("--copies={size}"),
        ];
        let start = Start {
            name: "crowd",
            copies: size,
            arguments: &arguments,
            place: Place::Here,
        };
        ExtensionServer::start(server, &start).map(Crowd)
    }

    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The group of the Nth.
    pub fn group(n: usize) -> String {
        format!("c{n}.example.com")
    }

    /// Registers the Nth: a Service, an EndpointSlice and an APIService.
    pub async fn register(&self, n: usize, connection: &mut Connection) -> Result<()> {
        let address = &self.0.addresses[n..=n];
        register(connection, &Crowd::group(n), address, &bundle(&[self.0.ca()])).await
    }

    /// Makes the Nth misbehave, change what it serves (`new-kind`), or be itself (`none`).
    pub fn order(&self, n: usize, fault: &str) -> Result<()> {
        self.0.order(&format!("/{n}"), fault)
    }
}
