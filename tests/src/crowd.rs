//! [`Crowd`]: many extension API servers in one process, each with an address and a group of its own.

use crate::backend::{own_address, port_of, put_order, register};
use crate::server::{Server, binary};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use fairlead_bench::client::Connection;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Dropping it kills the process.
pub struct Crowd {
    child: Child,
    addresses: Vec<SocketAddr>,
    control: SocketAddr,
    ca: String,
}

impl Crowd {
    pub fn start(server: &Server, size: usize) -> Result<Crowd> {
        let ip = own_address().context("there is no address besides loopback")?;
        let (ca, log) = (server.path("crowd.crt"), server.path("crowd.log"));
        let child = Command::new(binary("extension-server")?)
            .args(["--port=0", "--dns-name=*.default.svc", "--group=example.com"])
            .arg("--faults=127.0.0.1:0")
            .arg(format!("--copies={size}"))
            .arg(format!("--print-ca={}", ca.display()))
            .arg(format!(
                "--requestheader-client-ca-file={}",
                server.path("data/pki/front-proxy-ca.crt").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut crowd = Crowd {
            child,
            addresses: Vec::new(),
            control: ([127, 0, 0, 1], 0).into(),
            ca: String::new(),
        };
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&log)?;
            let serving = text.lines().filter_map(|line| port_of(line, "serving on "));
            crowd.addresses = serving.map(|port| SocketAddr::new(ip, port)).collect();
            if crowd.addresses.len() == size {
                crowd
                    .control
                    .set_port(port_of(&text, "faults at ").context("it takes no orders")?);
                break;
            }
            if let Some(status) = crowd.child.try_wait()? {
                bail!("the extension servers ended with {status}: {text}");
            }
            let waited = begun.elapsed() < Duration::from_secs(20);
            ensure!(waited, "the extension servers did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        crowd.ca = base64::engine::general_purpose::STANDARD.encode(std::fs::read(&ca)?);
        Ok(crowd)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The group of the Nth.
    pub fn group(n: usize) -> String {
        format!("c{n}.example.com")
    }

    /// Registers the Nth: a Service, an EndpointSlice and an APIService.
    pub async fn register(&self, n: usize, connection: &mut Connection) -> Result<()> {
        register(connection, &Crowd::group(n), self.addresses[n], &self.ca).await
    }

    /// Makes the Nth misbehave, change what it serves (`new-kind`), or be itself (`none`).
    pub fn order(&self, n: usize, fault: &str) -> Result<()> {
        put_order(self.control, &format!("/{n}"), fault)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
