//! An extension API behind the gateway: registered, used through kubectl, stopped, and back.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use fairlead_tests::server::{Server, binary};
use fairlead_tests::tools::{Kubectl, kubectl, root};
use std::io::Read;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running example extension server. Dropping it kills it.
pub struct Extension {
    child: Child,
    pub port: u16,
    /// Of its certificate, as an APIService writes it.
    pub ca: String,
}

impl Extension {
    pub fn start(server: &Server, port: u16) -> Result<Extension> {
        let (ca, log) = (server.path("extension-ca.crt"), server.path("extension.log"));
        let _ = std::fs::remove_file(&ca);
        let child = Command::new(binary("extension-server")?)
            .arg(format!("--port={port}"))
            .arg(format!("--print-ca={}", ca.display()))
            .arg("--dns-name=shipping.default.svc")
            .arg(format!(
                "--requestheader-client-ca-file={}",
                server.path("data/pki/front-proxy-ca.crt").display()
            ))
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log)?)
            .stderr(std::fs::File::create(server.path("extension.err"))?)
            .spawn()?;
        let mut extension = Extension {
            child,
            port: 0,
            ca: String::new(),
        };
        let begun = Instant::now();
        while extension.port == 0 || !ca.exists() {
            ensure!(
                begun.elapsed() < Duration::from_secs(20),
                "the extension server did not start"
            );
            std::thread::sleep(Duration::from_millis(10));
            let mut text = std::fs::read_to_string(&log)?;
            std::fs::File::open(server.path("extension.err"))?.read_to_string(&mut text)?;
            extension.port = if port == 0 {
                listening_port(&text).unwrap_or(0)
            } else {
                port
            };
        }
        let pem = std::fs::read(&ca).context("the extension server wrote no CA")?;
        extension.ca = base64::engine::general_purpose::STANDARD.encode(pem);
        Ok(extension)
    }

    /// The example's registration, with this server's address and CA.
    fn manifest(&self, address: &str) -> Result<String> {
        let text = std::fs::read_to_string(root().join("examples/extension-server/apiservice.yaml"))?;
        let registration = text
            .split("\n---\napiVersion: shipping.example.com")
            .next()
            .context("the example is empty")?;
        Ok(registration
            .replace("192.0.2.10", address)
            .replace("8443", &self.port.to_string())
            .replace("# caBundle: LS0tLS1CRUdJTi...", &format!("caBundle: {}", self.ca)))
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last number behind a colon in what the server says when it listens.
fn listening_port(text: &str) -> Option<u16> {
    let (_, rest) = text.rsplit_once(':')?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// An address of this machine that is not loopback; no packet is sent.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then(|| address.to_string())
}

/// Starts both servers and registers the extension API.
pub fn registered() -> Result<Option<(Server, Kubectl, Extension)>> {
    registered_with(&[])
}

/// The same, with further flags.
pub fn registered_with(flags: &[&str]) -> Result<Option<(Server, Kubectl, Extension)>> {
    let (Some(program), Some(address)) = (kubectl(), own_address()) else {
        fairlead_tests::skip("this needs kubectl and an address besides loopback");
        return Ok(None);
    };
    let server = Server::start(&[&["--enable-aggregator-routing=true"], flags].concat())?;
    let k = Kubectl::new(program, &server);
    let extension = Extension::start(&server, 0)?;
    k.feed(&["apply", "-f", "-"], &extension.manifest(&address)?)?;
    k.run(&[
        "wait",
        "--for=condition=Available",
        "apiservice/v1alpha1.shipping.example.com",
        "--timeout=20s",
    ])?;
    Ok(Some((server, k, extension)))
}

/// Starts the extension server once more, on its port, and tells of its new CA.
pub fn registered_again(server: &Server, k: &Kubectl, port: u16) -> Result<Extension> {
    let again = Extension::start(server, port)?;
    let address = own_address().context("the address is gone")?;
    k.feed(&["apply", "-f", "-"], &again.manifest(&address)?)?;
    k.run(&[
        "wait",
        "--for=condition=Available",
        "apiservice/v1alpha1.shipping.example.com",
        "--timeout=30s",
    ])?;
    Ok(again)
}

const OBJECTS: &str = r"
apiVersion: shipping.example.com/v1alpha1
kind: Carrier
metadata: {name: post}
spec: {displayName: The Post, country: NL, maxWeightGrams: 20000}
---
apiVersion: shipping.example.com/v1alpha1
kind: Parcel
metadata: {name: birthday, namespace: default, labels: {size: small}}
spec: {carrier: post, destination: Main Street 1, weightGrams: 800}
";

#[test]
fn an_extension_api_comes_goes_and_comes_back() -> Result<()> {
    let Some((server, k, extension)) = registered()? else {
        return Ok(());
    };
    let has = |text: &str, word: &str| -> Result<()> {
        ensure!(text.contains(word), "{word:?} is missing in:\n{text}");
        Ok(())
    };
    has(&k.run(&["get", "apiservices"])?, "v1alpha1.shipping.example.com")?;
    eventually(|| has(&k.run(&["api-resources"])?, "parcels"))?;
    k.feed(&["create", "-f", "-"], OBJECTS)?;
    has(&k.run(&["get", "parcels", "-o", "wide"])?, "birthday")?;
    has(&k.run(&["get", "carriers", "post", "-o", "yaml"])?, "The Post")?;
    k.run(&[
        "patch",
        "parcel",
        "birthday",
        "--type=merge",
        "-p",
        r#"{"spec":{"weightGrams":900}}"#,
    ])?;
    ensure!(k.run(&["get", "parcel", "birthday", "-o", "jsonpath={.spec.weightGrams}"])? == "900");
    eventually(|| has(&k.run(&["explain", "parcel.spec"])?, "weightGrams"))?;
    has(&k.run(&["get", "--raw", "/openapi/v2"])?, "shipping.example.com")?;
    has(
        &k.run(&["get", "--raw", "/openapi/v3"])?,
        "apis/shipping.example.com/v1alpha1",
    )?;

    let port = extension.port;
    drop(extension);
    eventually(|| {
        let condition = r#"jsonpath={.status.conditions[?(@.type=="Available")].status}"#;
        has(
            &k.run(&["get", "apiservice", "v1alpha1.shipping.example.com", "-o", condition])?,
            "False",
        )
    })?;
    let reason = r#"jsonpath={.status.conditions[?(@.type=="Available")].reason}"#;
    has(
        &k.run(&["get", "apiservice", "v1alpha1.shipping.example.com", "-o", reason])?,
        "FailedDiscoveryCheck",
    )?;
    has(
        &k.refused(&["get", "--raw", "/apis/shipping.example.com/v1alpha1/parcels"], "")?,
        "unable to handle the request",
    )?;
    has(&k.run(&["get", "namespaces"])?, "default")?;
    k.run(&["create", "configmap", "unharmed"])?;
    let metrics = k.run(&["get", "--raw", "/metrics"])?;
    has(
        &metrics,
        "aggregator_unavailable_apiservice{name=\"v1alpha1.shipping.example.com\"} 1",
    )?;
    let terminated = |line: &&str| {
        line.starts_with("apiserver_request_terminations_total{code=\"503\",component=\"aggregator\"")
            && line.contains("resource=\"parcels\"")
    };
    ensure!(metrics.lines().filter(terminated).count() == 1, "{metrics}");

    // It comes back with another CA, so it is registered anew.
    let _again = registered_again(&server, &k, port)?;
    eventually(|| k.run(&["get", "parcels"]).map(drop))
}

/// Tries for ten seconds: some effects are asynchronous for every client.
pub fn eventually(mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if begun.elapsed() > Duration::from_secs(20) => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(()) => return Ok(()),
        }
    }
}
