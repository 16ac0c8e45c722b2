//! The scenarios by name.

use crate::Settings;
use crate::client::Call;
use crate::definitions;
use crate::load::{Shape, closed_loop};
use crate::paced::open_loop;
use crate::report::Row;
use crate::watch;
use anyhow::{Result, bail};
use http::Method;

/// In the order they run by default; those of what is proxied need `--proxied-path`.
pub const NAMES: [&str; 30] = [
    "get",
    "get-one",
    "list-1000",
    "list-10000",
    "list-10000-gzip",
    "list-10000-table",
    "list-10000-metadata",
    "list-10000-protobuf",
    "list-10000-protobuf-gzip",
    "list-selector",
    "create-1",
    "create-16",
    "create-128",
    "update",
    "patch",
    "apply",
    "patch-one-object",
    "lease",
    "watch-500",
    "watch-1000",
    "watch-5000",
    "watch-names-5000",
    "watch-idle-10000",
    "proxied",
    "proxied-one",
    "proxied-paced",
    "create-crd",
    "openapi-v2",
    "openapi-v3",
    "discovery",
];

const ONE: Shape = Shape {
    connections: 1,
    streams: 1,
};
const SIXTEEN: Shape = Shape {
    connections: 16,
    streams: 1,
};
const FOUR: Shape = Shape {
    connections: 4,
    streams: 4,
};
const MANY: Shape = Shape {
    connections: 8,
    streams: 16,
};
const JSON: &str = "application/json";

pub async fn run_all(settings: &Settings, names: &[String]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let default: Vec<String> = NAMES
        .iter()
        .filter(|n| !n.starts_with("proxied") && !definitions::NAMES.contains(n))
        .map(|n| (*n).into())
        .collect();
    for name in if names.is_empty() { &default } else { names } {
        let row = run(settings, name).await?;
        row.print();
        rows.push(row);
    }
    Ok(rows)
}

async fn run(settings: &Settings, name: &str) -> Result<Row> {
    let ns = &settings.namespace;
    // A backend that is asked directly, to compare, knows no namespaces.
    if !name.starts_with("proxied") {
        ensure_namespace(settings, ns).await?;
    }
    let maps = format!("/api/v1/namespaces/{ns}/configmaps");
    let run = unique();
    match name {
        "get" | "get-one" => {
            fill(settings, ns, 100).await?;
            let shape = if name == "get" { MANY } else { ONE };
            closed_loop(settings, name, shape, &[200], move |n| {
                Call::get(format!("{maps}/filled-{}", n % 100))
            })
            .await
        }
        name if definitions::NAMES.contains(&name) => definitions::run(settings, name, &run).await,
        "list-selector" | "list-1000" => list(settings, name).await,
        name if name.starts_with("list-10000") => list(settings, name).await,
        "create-1" | "create-16" | "create-128" => {
            let shape = match name {
                "create-1" => ONE,
                "create-16" => SIXTEEN,
                _ => Shape {
                    connections: 16,
                    streams: 8,
                },
            };
            closed_loop(settings, name, shape, &[201], move |n| {
                Call::send(
                    Method::POST,
                    maps.clone(),
                    JSON,
                    config_map(&format!("made-{run}-{n}"), "made"),
                )
            })
            .await
        }
        "update" => {
            fill(settings, ns, 100).await?;
            closed_loop(settings, name, SIXTEEN, &[200], move |n| {
                let name = format!("filled-{}", n % 100);
                Call::send(
                    Method::PUT,
                    format!("{maps}/{name}"),
                    JSON,
                    config_map(&name, &format!("{run}-{n}")),
                )
            })
            .await
        }
        "patch" | "patch-one-object" => {
            fill(settings, ns, 100).await?;
            let objects = if name == "patch" { 100 } else { 1 };
            closed_loop(settings, name, SIXTEEN, &[200], move |n| {
                let body = format!(r#"{{"data":{{"n":"{run}-{n}"}}}}"#);
                Call::send(
                    Method::PATCH,
                    format!("{maps}/filled-{}", n % objects),
                    "application/merge-patch+json",
                    body,
                )
            })
            .await
        }
        "apply" => {
            closed_loop(settings, name, SIXTEEN, &[200, 201], move |n| {
                let name = format!("applied-{}", n % 100);
                let path = format!("{maps}/{name}?fieldManager=bench&force=true");
                Call::send(
                    Method::PATCH,
                    path,
                    "application/apply-patch+yaml",
                    config_map(&name, &format!("{run}-{n}")),
                )
            })
            .await
        }
        "lease" => {
            let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases");
            let mut connection = settings.target.connect().await?;
            for i in 0..100 {
                let body = serde_json::json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": format!("lease-{i}")}, "spec": {"holderIdentity": "bench"}});
                connection
                    .call(&Call::send(Method::POST, leases.clone(), JSON, body.to_string()))
                    .await?;
            }
            closed_loop(settings, name, SIXTEEN, &[200], move |n| {
                let body = format!(r#"{{"spec":{{"leaseTransitions":{}}}}}"#, n % 1_000_000);
                Call::send(
                    Method::PATCH,
                    format!("{leases}/lease-{}", n % 100),
                    "application/merge-patch+json",
                    body,
                )
            })
            .await
        }
        "watch-500" => watch::fan_out(settings, name, fan_out(500, 10, 200)).await,
        "watch-1000" => watch::fan_out(settings, name, fan_out(1000, 20, 500)).await,
        "watch-5000" => watch::fan_out(settings, name, fan_out(5000, 50, 10)).await,
        "watch-names-5000" => watch::fan_out(settings, name, of_names(fan_out(5000, 50, 500))).await,
        "watch-idle-10000" => watch::fan_out(settings, name, of_names(fan_out(10_000, 100, 10))).await,
        "proxied" | "proxied-one" | "proxied-paced" => {
            let Some(path) = settings.proxied_path.clone() else {
                bail!("the scenario {name} needs --proxied-path")
            };
            let make = move |_| Call::get(path.clone());
            match name {
                "proxied" => closed_loop(settings, name, FOUR, &[200], make).await,
                "proxied-one" => closed_loop(settings, name, ONE, &[200], make).await,
                _ => open_loop(settings, name, settings.rate, &[200], make).await,
            }
        }
        other => bail!("there is no scenario {other}"),
    }
}

/// Lists of many objects, in one form or another.
async fn list(settings: &Settings, name: &str) -> Result<Row> {
    let ns = settings.namespace.as_str();
    let count: usize = if name == "list-1000" { 1000 } else { 10_000 };
    let filled = format!("{ns}-{count}");
    ensure_namespace(settings, &filled).await?;
    fill(settings, &filled, count).await?;
    let selector = if name == "list-selector" {
        "?labelSelector=only%3Dfilled-7"
    } else {
        ""
    };
    let call = Call {
        accept: match name {
            name if name.ends_with("table") => "application/json;as=Table;v=v1;g=meta.k8s.io",
            name if name.ends_with("metadata") => "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            name if name.contains("protobuf") => "application/vnd.kubernetes.protobuf",
            _ => JSON,
        },
        gzip: name.ends_with("gzip"),
        ..Call::get(format!("/api/v1/namespaces/{filled}/configmaps{selector}"))
    };
    let shape = match name {
        "list-1000" => Shape {
            connections: 4,
            streams: 1,
        },
        "list-selector" => SIXTEEN,
        _ => Shape {
            connections: 2,
            streams: 1,
        },
    };
    closed_loop(settings, name, shape, &[200], move |_| call.clone()).await
}

fn fan_out(watchers: usize, connections: usize, writes_per_second: u32) -> watch::Shape {
    watch::Shape {
        watchers,
        connections,
        writes_per_second,
        each: watch::Each::All,
    }
}

fn of_names(shape: watch::Shape) -> watch::Shape {
    watch::Shape {
        each: watch::Each::Name,
        ..shape
    }
}

/// A ConfigMap of about 1 KiB.
fn config_map(name: &str, value: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"bench": "filled", "only": name}},
        "data": {"value": value, "filling": "x".repeat(800)},
    })
    .to_string()
}

async fn ensure_namespace(settings: &Settings, name: &str) -> Result<()> {
    let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string();
    let call = Call::send(Method::POST, "/api/v1/namespaces", JSON, body);
    match settings.target.connect().await?.call(&call).await? {
        (201 | 409, _) => Ok(()),
        (code, _) => bail!("making the namespace {name} was answered {code}"),
    }
}

/// Makes `filled-0` … `filled-<count>` where they are not there yet.
async fn fill(settings: &Settings, namespace: &str, count: usize) -> Result<()> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut connection = settings.target.connect().await?;
    let (code, _) = connection
        .call(&Call::get(format!("{maps}/filled-{}", count - 1)))
        .await?;
    if code == 200 {
        return Ok(());
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..32 {
        let (mut connection, maps) = (connection.clone(), maps.clone());
        tasks.spawn(async move {
            for i in (worker..count).step_by(32) {
                let body = config_map(&format!("filled-{i}"), "filled");
                match connection
                    .call(&Call::send(Method::POST, maps.clone(), JSON, body))
                    .await?
                {
                    (201 | 409, _) => {}
                    (code, _) => bail!("filling was answered {code}"),
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Keeps the names of two runs apart.
fn unique() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:x}", now.as_millis())
}
