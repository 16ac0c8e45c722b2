//! What Prometheus sees: upstream's names, and a dashboard whose every query answers.

use crate::aggregation::{eventually, registered};
use anyhow::{Context, Result, ensure};
use fairlead_tests::server::TOKEN;
use fairlead_tests::tools::{on_path, root};
use serde_json::Value;
use std::process::{Child, Command, Stdio};

/// A Prometheus that scrapes one server. Dropping it kills it.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_query_of_the_dashboards_answers() -> Result<()> {
    if !on_path("prometheus") {
        fairlead_tests::skip("prometheus is not installed");
        return Ok(());
    }
    let Some((server, k, _extension)) = registered()? else {
        return Ok(());
    };
    let address = server.address().trim_start_matches("https://").to_owned();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: kube-apiserver\n    scheme: https\n    \
         tls_config: {{insecure_skip_verify: true}}\n    authorization: {{credentials: {TOKEN}}}\n    \
         static_configs: [{{targets: ['{address}']}}]\n"
    );
    std::fs::write(server.path("prometheus.yml"), config)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", server.path("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", server.path("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(server.path("prometheus.log"))?)
        .spawn()?;
    let _prometheus = Prometheus(child);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(root().join("dashboards"))? {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(entry?.path())?)?;
        collect(&dashboard, &mut queries);
    }
    ensure!(queries.len() > 10, "the dashboards hold {} queries", queries.len());
    eventually(|| {
        // Something of everything must happen while it is watched.
        k.run(&["get", "parcels"])?;
        k.run(&[
            "create",
            "configmap",
            &format!("n{}", std::process::id()),
            "--dry-run=server",
        ])?;
        let empty: Vec<&String> = queries
            .iter()
            .filter(|q| !runtime.block_on(answers(port, q)).unwrap_or(false))
            .collect();
        ensure!(empty.is_empty(), "no data: {empty:#?}");
        Ok(())
    })
}

fn collect(node: &Value, queries: &mut Vec<String>) {
    match node {
        Value::Object(map) => {
            if let Some(Value::String(expression)) = map.get("expr") {
                queries.push(
                    expression
                        .replace("$__rate_interval", "20s")
                        .replace("$job", ".*")
                        .replace("$instance", ".*"),
                );
            }
            map.values().for_each(|v| collect(v, queries));
        }
        Value::Array(items) => items.iter().for_each(|v| collect(v, queries)),
        _ => {}
    }
}

async fn answers(port: u16, query: &str) -> Result<bool> {
    let target = fairlead_bench::client::Target::new(&format!("http://127.0.0.1:{port}"), None, None, true)?;
    let escaped: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
    let call = fairlead_bench::client::Call::get(format!("/api/v1/query?query={escaped}"));
    let answer = target.connect().await?.json(&call).await?;
    Ok(!answer["data"]["result"].as_array().context("no result")?.is_empty())
}
