//! BackendPolicy as an operator meets it: off, on, explained, refused, in force.

use crate::aggregation::eventually;
use anyhow::{Result, ensure};
use fairlead_tests::backend::Backend;
use fairlead_tests::has;
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, kubectl};

const ENABLED: &str = "--runtime-config=gateway.fairlead.dev/v1alpha1=true";

#[test]
fn a_policy_gives_a_backend_its_address() -> Result<()> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("this needs kubectl");
        return Ok(());
    };
    let server = Server::start(&[ENABLED, "--backend-allow-loopback"])?;
    let k = Kubectl::new(program, &server);
    has(
        &k.run(&["api-resources", "--api-group=gateway.fairlead.dev"])?,
        "backendpolicies",
    )?;
    has(
        &k.run(&["explain", "backendpolicy.spec.maxInFlight"])?,
        "how many requests may be under way",
    )?;
    has(&k.run(&["get", "apiservices"])?, "v1alpha1.gateway.fairlead.dev")?;

    // No Service anywhere: the policy says where the backend listens.
    let extension = Backend::start(&server, "shipping.example.com", 0)?;
    let registration = format!(
        "apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1alpha1.shipping.example.com}}
spec:
  group: shipping.example.com
  version: v1alpha1
  groupPriorityMinimum: 1000
  versionPriority: 15
  caBundle: {}
  service: {{namespace: default, name: shipping}}
",
        extension.ca()
    );
    k.feed(&["apply", "-f", "-"], &registration)?;
    let policy = |spec: &str| {
        format!(
            "apiVersion: gateway.fairlead.dev/v1alpha1
kind: BackendPolicy
metadata: {{name: shipping}}
spec:
  targetRefs: [{{name: v1alpha1.shipping.example.com}}]
  {spec}
"
        )
    };
    let wrong = k.refused(&["create", "-f", "-"], &policy("timeouts: {request: 0s}"))?;
    has(
        &wrong,
        "spec.timeouts.request: Invalid value: \"0s\": must be greater than zero",
    )?;
    let addresses = format!("addresses: [{{host: 127.0.0.1, port: {}}}]", extension.address.port());
    k.feed(&["apply", "-f", "-"], &policy(&addresses))?;
    k.run(&[
        "wait",
        "--for=condition=Available",
        "apiservice/v1alpha1.shipping.example.com",
        "--timeout=20s",
    ])?;
    eventually(|| k.run(&["get", "parcels"]).map(drop))?;
    eventually(|| has(&k.run(&["get", "backendpolicies"])?, "1/1"))?;
    k.run(&[
        "wait",
        "--for=condition=Accepted",
        "backendpolicy/shipping",
        "--timeout=20s",
    ])?;

    // A change of the policy alone decides where requests go.
    k.feed(
        &["apply", "-f", "-"],
        &policy("addresses: [{host: 127.0.0.1, port: 1}]"),
    )?;
    let states = "jsonpath={.status.endpoints[*].reason}";
    eventually(|| has(&k.run(&["get", "backendpolicy", "shipping", "-o", states])?, "NoAnswer"))?;
    k.feed(&["apply", "-f", "-"], &policy(&addresses))?;
    eventually(|| k.run(&["get", "parcels"]).map(drop))?;
    k.run(&["delete", "backendpolicy", "shipping"])?;
    eventually(|| {
        let reason = r#"jsonpath={.status.conditions[?(@.type=="Available")].reason}"#;
        let told = k.run(&["get", "apiservice", "v1alpha1.shipping.example.com", "-o", reason])?;
        has(&told, "ServiceNotFound")
    })
}

#[test]
fn the_kind_is_there_only_when_asked_for() -> Result<()> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("this needs kubectl");
        return Ok(());
    };
    let server = Server::start(&["--runtime-config=policy/v1=false"])?;
    let k = Kubectl::new(program, &server);
    let groups = k.run(&["get", "--raw", "/apis"])?;
    ensure!(!groups.contains("fairlead"), "{groups}");
    // The same flag switches off what is on.
    ensure!(!groups.contains("\"policy\""), "{groups}");
    has(&groups, "\"apps\"")?;
    for document in ["/openapi/v2", "/openapi/v3"] {
        let text = k.run(&["get", "--raw", document])?;
        ensure!(!text.contains("fairlead"), "our own kind is in {document}");
    }
    Ok(())
}
