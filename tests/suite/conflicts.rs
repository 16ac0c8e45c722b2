//! APIServices that are in each other's way, as their conditions tell it.

use anyhow::{Result, ensure};
use fairlead_bench::client::{Call, Connection};
use fairlead_tests::backend::{own_address, target};
use fairlead_tests::crowd::Crowd;
use fairlead_tests::runtime;
use fairlead_tests::server::Server;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn path(n: usize) -> String {
    format!(
        "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.{}",
        Crowd::group(n)
    )
}

/// The `Conflict` condition of the Nth, `REASON: MESSAGE`; empty where there is none.
async fn conflict(connection: &mut Connection, n: usize) -> Result<String> {
    let object = connection.json(&Call::get(path(n))).await?;
    let conditions = object["status"]["conditions"].as_array();
    let condition = conditions.into_iter().flatten().find(|c| c["type"] == "Conflict");
    let text = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
    Ok(condition.map_or(String::new(), |c| {
        format!("{}: {}", text(c, "reason"), text(c, "message"))
    }))
}

async fn until(connection: &mut Connection, n: usize, wanted: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let found = conflict(connection, n).await?;
        if found == wanted {
            return Ok(());
        }
        let waited = begun.elapsed() < Duration::from_secs(20);
        ensure!(waited, "c{n} says {found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn definition(plural: &str, kind: &str) -> Call {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}});
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.common.example.com")},
        "spec": {"group": "common.example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]},
    });
    Call::send(Method::POST, CRDS, "application/json", object.to_string())
}

#[test]
fn schemas_that_mean_two_things_are_told() -> Result<()> {
    if own_address().is_none() {
        fairlead_tests::skip("this needs an address besides loopback");
        return Ok(());
    }
    let server = Server::start(&["--enable-aggregator-routing=true"])?;
    let crowd = Crowd::start(&server, 3)?;
    runtime().block_on(async {
        let connection = &mut target(&server)?.connect().await?;
        for (n, order) in ["common-type=string", "common-type=integer", "common-type=string"]
            .iter()
            .enumerate()
        {
            crowd.order(n, order)?;
            crowd.register(n, connection).await?;
        }
        let renamed = "SchemaNames: these schemas mean something else elsewhere and are renamed in /openapi/v2: ";
        let by_the_first = format!("{renamed}com.example.common.v1.Address (v1alpha1.c0.example.com)");
        until(connection, 1, &by_the_first).await?;
        for n in [0, 2] {
            until(connection, n, "").await?;
        }

        // Custom resources come first.
        connection.json(&definition("addresses", "Address")).await?;
        let by_the_definition =
            format!("{renamed}com.example.common.v1.Address (the custom resources of common.example.com/v1)");
        for n in 0..3 {
            until(connection, n, &by_the_definition).await?;
        }
        let delete = Call {
            method: Method::DELETE,
            ..Call::get(format!("{CRDS}/addresses.common.example.com"))
        };
        connection.json(&delete).await?;
        for n in [0, 2] {
            until(connection, n, "").await?;
        }
        until(connection, 1, &by_the_first).await?;

        // Nothing is written where nothing changes, whatever else does.
        let before = connection.json(&Call::get(path(1))).await?;
        connection.json(&definition("things", "Thing")).await?;
        crowd.order(2, "common-type=boolean")?;
        until(connection, 2, &by_the_first).await?;
        let after = connection.json(&Call::get(path(1))).await?;
        ensure!(before == after, "{after}");

        // What ends is taken back.
        crowd.order(1, "none")?;
        crowd.order(2, "none")?;
        for n in 0..3 {
            until(connection, n, "").await?;
        }
        // Everybody has types of the libraries; nobody is told of these.
        let all = connection
            .json(&Call::get("/apis/apiregistration.k8s.io/v1/apiservices"))
            .await?;
        ensure!(!all.to_string().contains("\"Conflict\""), "{all}");
        Ok(())
    })
}
