//! An extension API behind the gateway: registered, used through kubectl, stopped, and back.

use anyhow::{Context, Result, ensure};
use fairlead_tests::backend::{Backend, own_address};
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, kubectl, root};
use std::time::{Duration, Instant};

/// The group of the example.
const GROUP: &str = "shipping.example.com";

/// The example's registration, with a backend's address and CA.
fn manifest(backend: &Backend) -> Result<String> {
    let text = std::fs::read_to_string(root().join("examples/extension-server/apiservice.yaml"))?;
    let registration = text
        .split("\n---\napiVersion: shipping.example.com")
        .next()
        .context("the example is empty")?;
    Ok(registration
        .replace("192.0.2.10", &backend.address.ip().to_string())
        .replace("8443", &backend.address.port().to_string())
        .replace("# caBundle: LS0tLS1CRUdJTi...", &format!("caBundle: {}", backend.ca())))
}

/// Starts both servers and registers the extension API.
pub fn registered() -> Result<Option<(Server, Kubectl, Backend)>> {
    registered_with(&[])
}

/// The same, with further flags.
pub fn registered_with(flags: &[&str]) -> Result<Option<(Server, Kubectl, Backend)>> {
    let (Some(program), Some(_)) = (kubectl(), own_address()) else {
        fairlead_tests::skip("this needs kubectl and an address besides loopback");
        return Ok(None);
    };
    let server = Server::start(&[&["--enable-aggregator-routing=true"], flags].concat())?;
    let k = Kubectl::new(program, &server);
    let extension = Backend::start(&server, GROUP, 0)?;
    k.feed(&["apply", "-f", "-"], &manifest(&extension)?)?;
    k.run(&[
        "wait",
        "--for=condition=Available",
        "apiservice/v1alpha1.shipping.example.com",
        "--timeout=20s",
    ])?;
    Ok(Some((server, k, extension)))
}

/// Starts the extension server once more, on its port, and tells of its new CA.
pub fn registered_again(server: &Server, k: &Kubectl, port: u16) -> Result<Backend> {
    let again = Backend::start(server, GROUP, port)?;
    k.feed(&["apply", "-f", "-"], &manifest(&again)?)?;
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

    let port = extension.address.port();
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
