//! What Prometheus sees: upstream's names, and a dashboard whose every query answers.

use crate::aggregation::{eventually, registered};
use anyhow::{Context, Result, ensure};
use fairlead_bench::client::{Call, Target};
use fairlead_tests::server::TOKEN;
use fairlead_tests::tools::{free_port, helm, on_path, root};
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
    let rules = rules()?;
    std::fs::write(server.path("rules.yml"), &rules)?;
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n  \
         - job_name: kube-apiserver\n    scheme: https\n    \
         tls_config: {{insecure_skip_verify: true}}\n    authorization: {{credentials: {TOKEN}}}\n    \
         static_configs: [{{targets: ['{address}']}}]\n"
    );
    std::fs::write(server.path("prometheus.yml"), config)?;
    let port = free_port()?;
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", server.path("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", server.path("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--enable-feature=exemplar-storage")
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
    queries.extend(RECORDED.map(str::to_owned));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut seen = Vec::new();
    eventually(|| {
        // Something of everything must happen while it is watched.
        k.run(&["get", "parcels"])?;
        k.run(&[
            "create",
            "configmap",
            &format!("n{}", std::process::id()),
            "--dry-run=server",
        ])?;
        k.run(&[
            "label",
            "namespace",
            "default",
            "--overwrite",
            &format!("seen={}", seen.len()),
        ])?;
        seen.push(());
        runtime.block_on(async {
            let mut call = Call::get("/apis/shipping.example.com/v1alpha1/parcels");
            call.headers.push(("traceparent", traceparent.into()));
            server.connect().await?.call(&call).await
        })?;
        for family in ["apiserver_kube_aggregator_request", "fairlead_backend_first_byte"] {
            let path = format!("query_exemplars?query={family}_duration_seconds_bucket&start=0&end=9999999999");
            let exemplars = runtime.block_on(ask(port, &path))?.to_string();
            ensure!(
                exemplars.contains("0af7651916cd43dd8448eb211c80319c"),
                "{family}: no exemplar has the trace: {exemplars}"
            );
        }
        let wrong = runtime.block_on(wrong_rules(port))?;
        ensure!(wrong.is_empty(), "rules that cannot be evaluated: {wrong:#?}");
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
                        .replace("$apiservice", ".*")
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

/// What the rules of the chart record, and users build on.
const RECORDED: [&str; 6] = [
    "apiserver_request:burnrate5m{verb=\"read\"}",
    "apiserver_request:burnrate3d{verb=\"write\"}",
    "cluster_quantile:apiserver_request_sli_duration_seconds:histogram_quantile{verb=\"read\"}",
    "cluster_quantile:apiserver_request_sli_duration_seconds:histogram_quantile{verb=\"write\"}",
    "code_resource:apiserver_request_total:rate5m{verb=\"write\"}",
    "apiserver_client_certificate_expiration_seconds_count > 0",
];

/// The rules of the chart as a file that Prometheus reads.
fn rules() -> Result<String> {
    let Some(helm) = helm() else {
        fairlead_tests::skip("helm is not installed");
        return Ok("groups: []\n".into());
    };
    let output = Command::new(helm)
        .args([
            "template",
            "tower",
            "--kube-version=1.36.0",
            "--set=prometheusRule.enabled=true",
        ])
        .args([
            "--set=prometheusRule.job=kube-apiserver",
            "-s=templates/prometheusrule.yaml",
        ])
        .arg(root().join("charts/fairlead"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let (_, groups) = text.split_once("\nspec:\n").context("no rules were made")?;
    Ok(groups
        .lines()
        .map(|l| l.strip_prefix("  ").unwrap_or(l))
        .fold(String::new(), |all, l| all + l + "\n"))
}

async fn wrong_rules(port: u16) -> Result<Vec<String>> {
    let answer = ask(port, "rules").await?;
    let groups = answer["data"]["groups"].as_array().context("no groups")?;
    let rules = groups.iter().flat_map(|g| g["rules"].as_array().into_iter().flatten());
    let wrong = rules.filter(|rule| rule["health"] == "err");
    Ok(wrong
        .map(|rule| format!("{}: {}", rule["name"], rule["lastError"]))
        .collect())
}

async fn answers(port: u16, query: &str) -> Result<bool> {
    let escaped: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
    let answer = ask(port, &format!("query?query={escaped}")).await?;
    Ok(!answer["data"]["result"].as_array().context("no result")?.is_empty())
}

async fn ask(port: u16, path: &str) -> Result<Value> {
    let target = Target::new(&format!("http://127.0.0.1:{port}"), None, None, true)?;
    target
        .connect()
        .await?
        .json(&Call::get(format!("/api/v1/{path}")))
        .await
}
