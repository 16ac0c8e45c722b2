//! [`ExtensionServer`]: a process of the example's, on free ports, that takes orders to misbehave. [`crate::backend`] and
//! [`crate::crowd`] are what tests see of it.

use crate::backend::{aside, own_address};
use crate::network::Elsewhere;
use crate::server::{Server, binary};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use fairlead_bench::client::{Call, Connection};
use http::Method;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running process. Dropping it kills it.
pub(crate) struct ExtensionServer {
    child: Child,
    /// Where it serves: one address for each copy.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it takes orders.
    control: SocketAddr,
    /// Of its certificate, in PEM.
    ca: Vec<u8>,
}

/// How it is started.
pub(crate) struct Start<'a> {
    /// Its files in the server's directory are called so.
    pub name: &'a str,
    /// How many addresses it serves at.
    pub copies: usize,
    pub arguments: &'a [String],
    pub place: Place<'a>,
}

/// Where it runs.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Here,
    /// At the lowest priority: what it does with the processor costs nobody else time, as on a machine of its own.
    Aside,
    Elsewhere(&'a Elsewhere),
}

impl ExtensionServer {
    pub(crate) fn start(server: &Server, start: &Start) -> Result<ExtensionServer> {
        let ip = match start.place {
            Place::Elsewhere(elsewhere) => elsewhere.address(),
            Place::Here | Place::Aside => own_address().context("there is no address besides loopback")?,
        };
        let file = |ending: &str| server.path(&format!("{}.{ending}", start.name));
        let (ca, log) = (file("crt"), file("log"));
        let _ = std::fs::remove_file(&ca);
        let program = binary("extension-server")?;
        let mut command = match start.place {
            Place::Elsewhere(elsewhere) => elsewhere.command(&program),
            Place::Aside => aside(program),
            Place::Here => Command::new(program),
        };
        let child = command
            .args(start.arguments)
            .arg("--faults=127.0.0.1:0")
            .arg(format!("--print-ca={}", ca.display()))
            .arg(format!(
                "--requestheader-client-ca-file={}",
                server.path("data/pki/front-proxy-ca.crt").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut started = ExtensionServer {
            child,
            addresses: Vec::new(),
            control: ([127, 0, 0, 1], 0).into(),
            ca: Vec::new(),
        };
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&log)?;
            let serving = text.lines().filter_map(|line| port_of(line, "serving on "));
            started.addresses = serving.map(|port| SocketAddr::new(ip, port)).collect();
            if started.addresses.len() == start.copies {
                let control = text.lines().find_map(|line| port_of(line, "faults at "));
                started.control.set_port(control.context("it takes no orders")?);
                break;
            }
            if let Some(status) = started.child.try_wait()? {
                bail!("the extension server ended with {status}: {text}");
            }
            let waited = begun.elapsed() < Duration::from_secs(20);
            ensure!(waited, "the extension server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        started.ca = std::fs::read(&ca).context("the extension server wrote no CA")?;
        Ok(started)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ca(&self) -> &[u8] {
        &self.ca
    }

    /// Tells those at `path` how to behave from now on: `/` is all of them, `/N` one.
    pub(crate) fn order(&self, path: &str, fault: &str) -> Result<()> {
        let answer = self.ask("PUT", path, fault);
        if fault == "crash" {
            return Ok(());
        }
        let answer = answer?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{fault}: {answer}");
        Ok(())
    }

    /// What it says at its port for orders: head and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.control)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for ExtensionServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first label of a group is the name of its Service.
pub(crate) fn service(group: &str) -> &str {
    group.split('.').next().unwrap_or(group)
}

/// Several CAs as `caBundle` wants them.
pub(crate) fn bundle(cas: &[&[u8]]) -> String {
    base64::engine::general_purpose::STANDARD.encode(cas.concat())
}

/// Registers `v1alpha1` of a group: a Service, an EndpointSlice for each address, and an APIService; again, where they are
/// registered already.
pub(crate) async fn register(
    connection: &mut Connection,
    group: &str,
    addresses: &[SocketAddr],
    ca_bundle: &str,
) -> Result<()> {
    let (name, api_service) = (service(group), format!("v1alpha1.{group}"));
    let metadata = |name: &str| json!({"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service(group)}});
    let mut objects: Vec<(&str, Value)> = vec![(
        "/api/v1/namespaces/default/services",
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(name),
            "spec": {"clusterIP": "None", "ports": [{"name": "https", "port": 443}]}}),
    )];
    for (i, address) in addresses.iter().enumerate() {
        let slice = if i == 0 { name.to_owned() } else { format!("{name}-{i}") };
        objects.push((
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata(&slice), "addressType": "IPv4",
                "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
                "ports": [{"name": "https", "port": address.port()}]}),
        ));
    }
    objects.push((
        "/apis/apiregistration.k8s.io/v1/apiservices",
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": api_service},
            "spec": {"group": group, "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 15,
                "caBundle": ca_bundle, "service": {"namespace": "default", "name": name}}}),
    ));
    for (path, object) in objects {
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        let path = format!("{path}/{name}?fieldManager=suite&force=true");
        let call = Call::send(Method::PATCH, path, "application/apply-patch+yaml", object.to_string());
        connection.json(&call).await?;
    }
    Ok(())
}

fn port_of(line: &str, words: &str) -> Option<u16> {
    line.strip_prefix(words)?
        .rsplit_once(':')?
        .1
        .trim_end_matches('/')
        .parse()
        .ok()
}
