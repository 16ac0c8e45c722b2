//! Extension API servers that were not written for fairlead: Kubernetes' own sample-apiserver and metrics-server, as they
//! are. They log in to fairlead, ask it to authenticate and authorize, and read the front proxy's CA from it.

use crate::aggregation::eventually;
use anyhow::{Context, Result, ensure};
use fairlead_storage::etcd::server::Cluster;
use fairlead_tests::has;
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, free_port, go_program, kubectl};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};

/// A program beside the server; killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Starts an API server made with upstream's library, with fairlead as the cluster it belongs to.
fn start(program: &Path, server: &Server, name: &str, port: u16, more: &[String]) -> Result<Program> {
    let kubeconfig = server.kubeconfig();
    let mut command = Command::new(program);
    command
        .arg(format!("--secure-port={port}"))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--cert-dir={}", server.path(name).display()))
        .args(more)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(File::create(server.path(&format!("{name}.log")))?);
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        command.arg(format!("--{flag}={}", kubeconfig.display()));
    }
    let child = command
        .spawn()
        .with_context(|| format!("{} does not start", program.display()))?;
    Ok(Program(child))
}

fn registration(group: &str, version: &str) -> String {
    format!(
        "apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: {version}.{group}}}
spec:
  group: {group}
  version: {version}
  groupPriorityMinimum: 1000
  versionPriority: 15
  insecureSkipTLSVerify: true
  service: {{namespace: kube-system, name: extension}}
"
    )
}

#[test]
fn sample_apiserver_works_unmodified() -> Result<()> {
    let (Some(program), Some(kubectl)) = (go_program("sample-apiserver"), kubectl()) else {
        fairlead_tests::skip("this needs sample-apiserver and kubectl");
        return Ok(());
    };
    let Some(etcd) = Cluster::start(1)? else {
        return Ok(());
    };
    let port = free_port()?;
    let address = format!("--backend-address=wardle.example.com=127.0.0.1:{port}");
    let server = Server::start(&["--backend-allow-loopback", &address])?;
    let k = Kubectl::new(kubectl, &server);
    let storage = [format!("--etcd-servers={}", etcd.urls().join(","))];
    let sample = start(&program, &server, "sample", port, &storage)?;
    for version in ["v1alpha1", "v1beta1"] {
        k.feed(&["apply", "-f", "-"], &registration("wardle.example.com", version))?;
    }
    for version in ["v1alpha1", "v1beta1"] {
        let name = format!("apiservice/{version}.wardle.example.com");
        k.run(&["wait", "--for=condition=Available", &name, "--timeout=60s"])?;
    }
    eventually(|| {
        has(
            &k.run(&["api-resources", "--api-group=wardle.example.com"])?,
            "flunders",
        )
    })?;

    let flunder = |version: &str, name: &str| {
        format!(
            "{{apiVersion: wardle.example.com/{version}, kind: Flunder, metadata: {{name: {name}, labels: {{a: b}}}}}}"
        )
    };
    k.feed(&["apply", "-f", "-"], &flunder("v1alpha1", "one"))?;
    k.feed(&["apply", "--server-side", "-f", "-"], &flunder("v1beta1", "two"))?;
    has(&k.run(&["get", "flunders", "-l", "a=b"])?, "two")?;
    k.run(&["label", "flunder", "one", "c=d"])?;
    k.run(&[
        "patch",
        "flunder",
        "one",
        "--type=merge",
        "-p",
        r#"{"spec":{"reference":"x"}}"#,
    ])?;
    eventually(|| has(&k.run(&["explain", "flunder.spec"])?, "FlunderSpec"))?;

    // It asks fairlead whether jane may, and knows her by the front proxy's headers.
    k.run(&[
        "create",
        "role",
        "reader",
        "--verb=get,list",
        "--resource=flunders.wardle.example.com",
    ])?;
    k.run(&["create", "rolebinding", "reader", "--role=reader", "--user=jane"])?;
    eventually(|| has(&k.run(&["get", "flunders", "--as=jane"])?, "one"))?;
    let refused = k.refused(&["delete", "flunder", "two", "--as=jane"], "")?;
    has(
        &refused,
        r#"User "jane" cannot delete resource "flunders" in API group "wardle.example.com""#,
    )?;

    // Its objects go with their namespace.
    k.run(&["create", "namespace", "short"])?;
    k.feed(&["apply", "-n", "short", "-f", "-"], &flunder("v1beta1", "three"))?;
    k.run(&["delete", "namespace", "short", "--timeout=60s"])?;
    ensure!(!k.run(&["get", "flunders", "-A"])?.contains("three"));

    drop(sample);
    eventually(|| {
        has(
            &k.run(&["get", "apiservice", "v1beta1.wardle.example.com"])?,
            "False (FailedDiscoveryCheck)",
        )
    })?;
    has(&k.run(&["get", "namespaces"])?, "default")
}

#[test]
fn metrics_server_works_unmodified() -> Result<()> {
    let (Some(program), Some(kubectl)) = (go_program("metrics-server"), kubectl()) else {
        fairlead_tests::skip("this needs metrics-server and kubectl");
        return Ok(());
    };
    let port = free_port()?;
    let address = format!("--backend-address=metrics.k8s.io=127.0.0.1:{port}");
    let server = Server::start(&["--backend-allow-loopback", &address])?;
    let k = Kubectl::new(kubectl, &server);
    let _metrics = start(&program, &server, "metrics", port, &[])?;
    k.feed(&["apply", "-f", "-"], &registration("metrics.k8s.io", "v1beta1"))?;
    let name = "apiservice/v1beta1.metrics.k8s.io";
    k.run(&["wait", "--for=condition=Available", name, "--timeout=60s"])?;
    eventually(|| has(&k.run(&["api-resources", "--api-group=metrics.k8s.io"])?, "NodeMetrics"))?;
    let nodes = k.run(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"])?;
    has(&nodes, r#""kind":"NodeMetricsList""#)
}
