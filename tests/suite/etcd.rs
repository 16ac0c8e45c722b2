//! Over etcd: what lies in it is what kube-apiserver would have put there, several servers share it, and while it is
//! away nothing old is told as if it were new.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_bench::client::Call;
use fairlead_storage::etcd::server::Cluster;
use fairlead_tests::runtime;
use fairlead_tests::server::Server;
use fairlead_tests::tools::{Kubectl, kubectl};
use std::time::{Duration, Instant};

fn flags(cluster: &Cluster, more: &[&str]) -> Vec<String> {
    let mut flags = vec![format!("--etcd-servers={}", cluster.urls().join(","))];
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    flags
}

fn start(cluster: &Cluster, more: &[&str]) -> Result<Server> {
    let flags = flags(cluster, more);
    Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The value of a key, by etcd's gateway for JSON.
async fn value(url: &str, key: &str) -> Result<Option<Vec<u8>>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = url.trim_start_matches("http://");
    let body = format!(r#"{{"key":"{}"}}"#, STANDARD.encode(key));
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let start = text.find('{').context("etcd's answer has no body")?;
    let end = text.rfind('}').context("etcd's answer has no end")?;
    let answer: serde_json::Value = serde_json::from_str(&text[start..=end])?;
    let value = answer["kvs"][0]["value"].as_str();
    value.map(|value| Ok(STANDARD.decode(value)?)).transpose()
}

const CRD: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
";

#[test]
fn kubectl_finds_everything_where_kube_apiserver_would_put_it() -> Result<()> {
    let Some(program) = kubectl() else {
        fairlead_tests::skip("kubectl is not installed and cannot be built");
        return Ok(());
    };
    let Some(cluster) = Cluster::start(1)? else {
        return Ok(());
    };
    let mut server = start(&cluster, &["--controllers="])?;
    let k = Kubectl::new(program, &server);
    k.run(&["create", "configmap", "settings", "--from-literal=a=1"])?;
    k.run(&["create", "deployment", "web", "--image=nginx"])?;
    k.run(&["autoscale", "deployment", "web", "--max=3"])?;
    k.feed(&["apply", "-f", "-"], CRD)?;
    let widget = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"size":7}}"#;
    k.feed(&["apply", "-f", "-"], widget)?;
    let url = &cluster.urls()[0];
    runtime().block_on(async {
        for (key, form) in [
            ("/registry/configmaps/default/settings", b"k8s\0".as_slice()),
            ("/registry/deployments/default/web", b"k8s\0"),
            ("/registry/horizontalpodautoscalers/default/web", b"k8s\0"),
            ("/registry/minions/none", b""),
            ("/registry/services/specs/default/kubernetes", b"k8s\0"),
            ("/registry/apiregistration.k8s.io/apiservices/v1.apps", b"{"),
            (
                "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com",
                b"{",
            ),
            ("/registry/example.com/widgets/default/w", b"{"),
        ] {
            let found = value(url, key).await?;
            ensure!(found.is_some() != form.is_empty(), "{key}");
            ensure!(found.unwrap_or_default().starts_with(form), "{key} is in another form");
        }
        anyhow::Ok(())
    })?;
    let shown = |k: &Kubectl| -> Result<String> {
        let mut all = k.run(&["get", "configmaps,deployments,hpa,crds", "-o", "yaml"])?;
        all.push_str(&k.run(&["get", "widgets"])?);
        Ok(all)
    };
    let before = shown(&k)?;
    ensure!(before.contains('7'), "{before}");
    server.stop()?;
    server.restart()?;
    let after = shown(&Kubectl::new(kubectl().context("kubectl")?, &server))?;
    ensure!(before == after, "what was read again differs:\n{before}\n{after}");
    Ok(())
}

#[test]
fn two_servers_agree_at_once() -> Result<()> {
    let Some(cluster) = Cluster::start(1)? else {
        return Ok(());
    };
    let one = start(&cluster, &["--controllers="])?;
    let other = start(&cluster, &["--controllers="])?;
    runtime().block_on(async {
        let mut writes = one.connect().await?;
        let mut reads = other.connect().await?;
        let path = "/api/v1/namespaces/default/configmaps";
        for i in 0..40 {
            let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c{i}"}}}}"#);
            let made = writes
                .json(&Call::send("POST".parse()?, path, "application/json", body))
                .await?;
            let read = reads.json(&Call::get(format!("{path}/c{i}"))).await?;
            ensure!(made["metadata"] == read["metadata"], "{made} {read}");
            let list = reads.json(&Call::get(path)).await?;
            ensure!(list["items"].as_array().map(Vec::len) == Some(i + 1), "{list}");
            (writes, reads) = (reads, writes);
        }
        Ok(())
    })
}

#[test]
fn while_etcd_is_away_nothing_is_answered_and_nothing_is_lost() -> Result<()> {
    let Some(mut cluster) = Cluster::start(1)? else {
        return Ok(());
    };
    let server = start(&cluster, &["--controllers="])?;
    runtime().block_on(async {
        let mut connection = server.connect().await?;
        let path = "/api/v1/namespaces/default/configmaps";
        let create = |name: &str| {
            let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
            anyhow::Ok(Call::send("POST".parse()?, path, "application/json", body))
        };
        connection.json(&create("kept")?).await?;
        cluster.kill(0)?;
        for call in [Call::get(format!("{path}/kept")), Call::get(path), create("lost")?] {
            let answer = connection.open(&call).await?;
            ensure!(answer.status().as_u16() >= 500, "{}", answer.status());
            ensure!(answer.headers().contains_key("retry-after"), "{:?}", answer.headers());
        }
        let ready = connection.open(&Call::get("/readyz")).await?;
        ensure!(ready.status().as_u16() == 500);
        let (code, _) = connection.call(&Call::get("/readyz/etcd")).await?;
        ensure!(code == 500);
        // Who says that old data will do gets them.
        let (code, _) = connection
            .call(&Call::get(format!("{path}/kept?resourceVersion=0")))
            .await?;
        ensure!(code == 200);
        cluster.restart(0)?;
        let begun = Instant::now();
        while connection.call(&Call::get("/readyz")).await?.0 != 200 {
            ensure!(
                begun.elapsed() < Duration::from_secs(30),
                "it does not recover: {}",
                server.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let kept = connection.json(&Call::get(format!("{path}/kept"))).await?;
        ensure!(kept["metadata"]["name"] == "kept");
        connection.json(&create("new")?).await?;
        Ok(())
    })
}

#[test]
fn some_resources_can_live_elsewhere() -> Result<()> {
    let (Some(cluster), Some(elsewhere)) = (Cluster::start(1)?, Cluster::start(1)?) else {
        return Ok(());
    };
    let overrides = format!("--etcd-servers-overrides=/configmaps#{}", elsewhere.urls()[0]);
    let server = start(
        &cluster,
        &["--controllers=", &overrides, "--storage-media-type=application/json"],
    )?;
    runtime().block_on(async {
        let mut connection = server.connect().await?;
        for (plural, kind) in [("configmaps", "ConfigMap"), ("secrets", "Secret")] {
            let body = format!(r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"x"}}}}"#);
            let path = format!("/api/v1/namespaces/default/{plural}");
            connection
                .json(&Call::send("POST".parse()?, path, "application/json", body))
                .await?;
        }
        let (here, there) = (&cluster.urls()[0], &elsewhere.urls()[0]);
        let maps = "/registry/configmaps/default/x";
        ensure!(value(here, maps).await?.is_none());
        ensure!(
            value(there, maps).await?.is_some_and(|value| value.starts_with(b"{")),
            "as the flag says"
        );
        ensure!(value(here, "/registry/secrets/default/x").await?.is_some());
        let health = connection.call(&Call::get("/readyz/etcd-override-readiness-0")).await?;
        ensure!(health.0 == 200);
        Ok(())
    })
}
