//! [`Backend`]: an extension API server behind a [`Server`], that misbehaves when it is told to.

use crate::server::{Server, TOKEN, binary};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use fairlead_bench::client::{Call, Connection, Target};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running example extension server, with a group of its own. Dropping it kills it.
pub struct Backend {
    child: Child,
    pub group: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// Where it takes orders.
    control: SocketAddr,
    ca: String,
}

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
        let address = own_address().context("there is no address besides loopback")?;
        let (ca, log) = (
            server.path(&format!("{group}.crt")),
            server.path(&format!("{group}.log")),
        );
        let _ = std::fs::remove_file(&ca);
        let child = Command::new(binary("extension-server")?)
            .arg(format!("--port={port}"))
            .arg(format!("--print-ca={}", ca.display()))
            .arg(format!("--dns-name={}.default.svc", service(group)))
            .arg("--dns-name=localhost")
            .arg(format!("--group={group}"))
            .arg("--faults=127.0.0.1:0")
            .arg(format!(
                "--requestheader-client-ca-file={}",
                server.path("data/pki/front-proxy-ca.crt").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut backend = Backend {
            child,
            group: group.into(),
            address: SocketAddr::new(address, port),
            control: ([127, 0, 0, 1], 0).into(),
            ca: String::new(),
        };
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&log)?;
            if let (Some(serving), Some(control)) = (port_of(&text, "serving on "), port_of(&text, "faults at ")) {
                backend.address.set_port(serving);
                backend.control.set_port(control);
                break;
            }
            if let Some(status) = backend.child.try_wait()? {
                bail!("the extension server ended with {status}: {text}");
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(20),
                "the extension server did not start"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let pem = std::fs::read(&ca).context("the extension server wrote no CA")?;
        backend.ca = base64::engine::general_purpose::STANDARD.encode(pem);
        Ok(backend)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `caBundle` wants.
    pub fn ca(&self) -> &str {
        &self.ca
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
        put_order(self.control, "/", fault)
    }

    /// How many requests and connections each fault has hit.
    pub fn struck(&self) -> Result<BTreeMap<String, u64>> {
        let mut stream = TcpStream::connect(self.control)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        Ok(serde_json::from_str(body)?)
    }

    /// Registers it: a Service, an EndpointSlice and an APIService; again, where it is registered already.
    pub async fn register(&self, connection: &mut Connection) -> Result<()> {
        register(connection, &self.group, self.address, &self.ca).await
    }

    /// The status of the `Available` condition, and its reason.
    pub async fn available(&self, connection: &mut Connection) -> Result<(String, String)> {
        let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{}", self.api_service());
        let object = connection.json(&Call::get(path)).await?;
        let condition = &object["status"]["conditions"][0];
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
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

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a server, that of its administrator.
pub fn target(server: &Server) -> Result<Target> {
    Target::new(server.address(), Some(TOKEN.into()), None, false)
}

fn service(group: &str) -> &str {
    group.split('.').next().unwrap_or(group)
}

/// Tells an extension server at `path` how to behave from now on.
pub(crate) fn put_order(control: SocketAddr, path: &str, fault: &str) -> Result<()> {
    let mut stream = TcpStream::connect(control)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = fault.len();
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{fault}"
    )?;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    if fault == "crash" {
        return Ok(());
    }
    read?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{fault}: {answer}");
    Ok(())
}

/// Registers `v1alpha1` of a group: a Service, an EndpointSlice and an APIService.
pub(crate) async fn register(connection: &mut Connection, group: &str, address: SocketAddr, ca: &str) -> Result<()> {
    let (name, api_service) = (service(group), format!("v1alpha1.{group}"));
    let metadata = json!({"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}});
    let objects: [(String, Value); 3] = [
        (
            "/api/v1/namespaces/default/services".into(),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443}]}}),
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices".into(),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
                "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
                "ports": [{"name": "https", "port": address.port()}]}),
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices".into(),
            json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": api_service},
                "spec": {"group": group, "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 15,
                    "caBundle": ca, "service": {"namespace": "default", "name": name}}}),
        ),
    ];
    for (path, object) in objects {
        let path = format!(
            "{path}/{}?fieldManager=suite&force=true",
            object["metadata"]["name"].as_str().unwrap_or("")
        );
        let call = Call::send(Method::PATCH, path, "application/apply-patch+yaml", object.to_string());
        connection.json(&call).await?;
    }
    Ok(())
}

pub(crate) fn port_of(log: &str, words: &str) -> Option<u16> {
    let line = log.lines().find(|l| l.starts_with(words))?;
    line.rsplit_once(':')?.1.trim_end_matches('/').parse().ok()
}
