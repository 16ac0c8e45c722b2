//! [`Backend`]: an extension API server behind a [`Server`], that misbehaves when it is told to.

use crate::extension::{ExtensionServer, Place, Start, bundle, register, service};
use crate::network::Elsewhere;
use crate::server::{Server, TOKEN};
use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Connection, Target};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

/// A running example extension server, with a group of its own. Dropping it kills it.
pub struct Backend {
    process: ExtensionServer,
    pub group: String,
    /// Where it serves.
    pub address: SocketAddr,
}

/// The group that the example serves if it is not told otherwise.
const OWN_GROUP: &str = "shipping.example.com";

/// An address of this machine that is not loopback; no packet is sent.
pub fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

impl Backend {
    /// Starts a server for `group`, on a free port or the one it had.
    pub fn start(server: &Server, group: &str, port: u16) -> Result<Backend> {
        Backend::started(server, group, group, port, Place::Here)
    }

    /// The same at the lowest priority, so that what it computes is in nobody's way.
    pub fn start_aside(server: &Server, group: &str, port: u16) -> Result<Backend> {
        Backend::started(server, group, group, port, Place::Aside)
    }

    /// Starts one on another machine; its files have names of their own, since there may be one for the group here.
    pub fn start_elsewhere(server: &Server, group: &str, elsewhere: &Elsewhere) -> Result<Backend> {
        Backend::started(
            server,
            &format!("{group}-elsewhere"),
            group,
            0,
            Place::Elsewhere(elsewhere),
        )
    }

    fn started(server: &Server, name: &str, group: &str, port: u16, place: Place) -> Result<Backend> {
        let mut arguments = vec![
            format!("--port={port}"),
            format!("--dns-name={}.default.svc", service(group)),
            "--dns-name=localhost".into(),
        ];
        if group != OWN_GROUP {
            arguments.push(format!("--group={group}"));
        }
        let start = Start {
            name,
            copies: 1,
            arguments: &arguments,
            place,
        };
        let process = ExtensionServer::start(server, &start)?;
        Ok(Backend {
            group: group.into(),
            address: process.addresses[0],
            process,
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What `caBundle` wants.
    pub fn ca(&self) -> String {
        bundle(&[self.process.ca()])
    }

    /// `v1alpha1.GROUP`.
    pub fn api_service(&self) -> String {
        format!("v1alpha1.{}", self.group)
    }

    /// Where its namespaced kind is.
    pub fn parcels(&self) -> String {
        format!("/apis/{}/v1alpha1/namespaces/default/parcels", self.group)
    }

    /// Makes it misbehave, or behave (`none`).
    pub fn order(&self, fault: &str) -> Result<()> {
        self.process.order("/", fault)
    }

    /// How many requests and connections each fault has hit.
    pub fn struck(&self) -> Result<BTreeMap<String, u64>> {
        let answer = self.process.ask("GET", "/", "")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        Ok(serde_json::from_str(body)?)
    }

    /// Registers it: a Service, an EndpointSlice and an APIService; again, where it is registered already.
    pub async fn register(&self, connection: &mut Connection) -> Result<()> {
        register(connection, &self.group, &[self.address], &self.ca()).await
    }

    /// Registers it together with another one of the same group: a Service with two endpoints.
    pub async fn register_both(&self, other: &Backend, connection: &mut Connection) -> Result<()> {
        let ca = bundle(&[self.process.ca(), other.process.ca()]);
        register(connection, &self.group, &[self.address, other.address], &ca).await
    }

    /// The status of the `Available` condition, and its reason.
    pub async fn available(&self, connection: &mut Connection) -> Result<(String, String)> {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", self.api_service());
        let object = connection.json(&Call::get(path)).await?;
        let conditions = object["status"]["conditions"].as_array();
        let condition = conditions.into_iter().flatten().find(|c| c["type"] == "Available");
        let text = |key: &str| {
            condition
                .map_or("", |c: &Value| c[key].as_str().unwrap_or(""))
                .to_owned()
        };
        Ok((text("status"), text("reason")))
    }

    /// Waits until it is available (`True`) or not (`False`).
    pub async fn wait(&self, connection: &mut Connection, status: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            let found = self.available(connection).await?;
            if found.0 == status {
                return Ok(());
            }
            let waited = begun.elapsed() < Duration::from_secs(30);
            ensure!(waited, "{} is {found:?}, not {status}", self.api_service());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A command that runs at the lowest priority.
pub fn aside(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nice");
    command.arg("-n19").arg(program);
    command
}

/// A connection to a server, that of its administrator.
pub fn target(server: &Server) -> Result<Target> {
    Target::new(server.address(), Some(TOKEN.into()), None, false)
}
