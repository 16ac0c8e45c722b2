//! Several servers over one etcd: what only one of them may do or give out, and what lies there for the others.

use anyhow::{Result, ensure};
use fairlead_bench::client::{Call, Connection};
use fairlead_storage::etcd::server::Cluster;
use fairlead_tests::server::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn start(cluster: &Cluster, more: &[&str]) -> Result<Server> {
    let servers = format!("--etcd-servers={}", cluster.urls().join(","));
    let mut flags = vec![
        servers.as_str(),
        "--service-cluster-ip-range=10.0.0.0/26",
        "--service-node-port-range=30000-30039",
    ];
    flags.extend(more);
    Server::start(&flags)
}

fn service(name: &str, spec: Value) -> String {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}).to_string()
}

async fn create(connection: &mut Connection, name: &str, spec: Value) -> Result<(u16, Value)> {
    let call = Call::send("POST".parse()?, SERVICES, "application/json", service(name, spec));
    let response = connection.open(&call).await?;
    let code = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((code, serde_json::from_slice(&body)?))
}

/// Address and owner of every IPAddress.
async fn addresses(connection: &mut Connection) -> Result<BTreeMap<String, String>> {
    let list = connection.json(&Call::get(ADDRESSES)).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let owner = |item: &Value| {
        let parent = &item["spec"]["parentRef"];
        format!(
            "{}/{}/{}",
            text(&parent["resource"]),
            text(&parent["namespace"]),
            text(&parent["name"])
        )
    };
    Ok(items
        .iter()
        .map(|item| (text(&item["metadata"]["name"]), owner(item)))
        .collect())
}

/// Waits until the IPAddresses are those that the services have.
async fn agree(connection: &mut Connection) -> Result<()> {
    let begun = Instant::now();
    loop {
        let services = connection.json(&Call::get("/api/v1/services")).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = services["items"].as_array().cloned().unwrap_or_default();
        let wanted: BTreeMap<String, String> = items
            .iter()
            .filter(|item| item["spec"]["clusterIP"].is_string())
            .map(|item| {
                let meta = &item["metadata"];
                let owner = format!("services/{}/{}", text(&meta["namespace"]), text(&meta["name"]));
                (text(&item["spec"]["clusterIP"]), owner)
            })
            .collect();
        let found = addresses(connection).await?;
        if wanted == found {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(10), "{wanted:?}\n{found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn no_address_and_no_node_port_is_given_out_twice() -> Result<()> {
    let Some(cluster) = Cluster::start(1)? else {
        return Ok(());
    };
    let servers = [
        start(&cluster, &["--controllers="])?,
        start(&cluster, &["--controllers="])?,
    ];
    runtime().block_on(async {
        // Forty ports and sixty-one addresses for eighty services, most of them at the same time.
        let mut writers = tokio::task::JoinSet::new();
        for i in 0..8 {
            let mut connection = servers[i % 2].connect().await?;
            writers.spawn(async move {
                let mut made = Vec::new();
                for n in 0..10 {
                    let kind = if n % 2 == 0 { "NodePort" } else { "ClusterIP" };
                    let spec = json!({"type": kind, "ports": [{"port": 80}]});
                    let (code, answer) = create(&mut connection, &format!("s-{i}-{n}"), spec).await?;
                    if code == 201 {
                        made.push(answer);
                        continue;
                    }
                    let message = answer["message"].to_string();
                    ensure!(code == 500 && message.contains("range is full"), "{answer}");
                }
                Ok(made)
            });
        }
        let mut made = Vec::new();
        while let Some(written) = writers.join_next().await {
            made.extend(written??);
        }
        ensure!(
            made.len() == 61,
            "{} services for sixty-two addresses, one of which was taken",
            made.len()
        );
        let given: BTreeSet<String> = made.iter().map(|s| s["spec"]["clusterIP"].to_string()).collect();
        ensure!(given.len() == made.len(), "an address was given out twice");
        let ports: Vec<u64> = made
            .iter()
            .filter_map(|s| s["spec"]["ports"][0]["nodePort"].as_u64())
            .collect();
        let different: BTreeSet<u64> = ports.iter().copied().collect();
        ensure!(
            different.len() == ports.len(),
            "a node port was given out twice: {ports:?}"
        );
        let mut other = servers[1].connect().await?;
        agree(&mut other).await?;

        // What one server frees another one gives out.
        let gone = &made[0];
        let (name, address) = (gone["metadata"]["name"].as_str(), &gone["spec"]["clusterIP"]);
        let path = format!("{SERVICES}/{}", name.unwrap_or_default());
        let mut one = servers[0].connect().await?;
        one.json(&Call::send("DELETE".parse()?, path, "application/json", String::new()))
            .await?;
        let (code, answer) = create(&mut other, "after", json!({"ports": [{"port": 80}]})).await?;
        ensure!(code == 201 && answer["spec"]["clusterIP"] == *address, "{answer}");
        agree(&mut one).await
    })
}

#[test]
fn addresses_are_objects_over_the_embedded_store_too() -> Result<()> {
    let mut server = Server::start(&["--controllers="])?;
    let taken = runtime().block_on(async {
        let mut connection = server.connect().await?;
        let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30007}]});
        let (code, made) = create(&mut connection, "web", spec.clone()).await?;
        ensure!(code == 201, "{made}");
        agree(&mut connection).await?;
        let address = made["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let object = connection.json(&Call::get(format!("{ADDRESSES}/{address}"))).await?;
        let labels = json!({
            "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        });
        ensure!(object["metadata"]["labels"] == labels, "{object}");

        // A create that fails keeps nothing.
        let (code, _) = create(&mut connection, "web", json!({"ports": [{"port": 80}]})).await?;
        ensure!(code == 409);
        agree(&mut connection).await?;
        let (code, refused) = create(&mut connection, "second", spec.clone()).await?;
        ensure!(
            code == 422
                && refused["message"]
                    .to_string()
                    .contains("provided port is already allocated"),
            "{refused}"
        );
        agree(&mut connection).await?;

        // Deleted by hand, it comes back while the service has it.
        let path = format!("{ADDRESSES}/{address}");
        connection
            .json(&Call::send("DELETE".parse()?, path, "application/json", String::new()))
            .await?;
        agree(&mut connection).await?;
        anyhow::Ok(address)
    })?;
    server.kill()?;
    server.restart()?;
    runtime().block_on(async {
        let mut connection = server.connect().await?;
        agree(&mut connection).await?;
        let spec = json!({"clusterIP": taken, "ports": [{"port": 80}]});
        let (code, refused) = create(&mut connection, "second", spec).await?;
        ensure!(code == 422 && refused["message"].to_string().contains("provided IP is already allocated"), "{refused}");
        let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30007}]});
        let (code, refused) = create(&mut connection, "second", spec).await?;
        ensure!(code == 422 && refused["message"].to_string().contains("provided port is already allocated"), "{refused}");

        // A service that needs no address any more gives it back.
        let patch = json!({"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": "", "clusterIPs": null}});
        let path = format!("{SERVICES}/web");
        connection
            .json(&Call::send("PATCH".parse()?, path, "application/merge-patch+json", patch.to_string()))
            .await?;
        agree(&mut connection).await
    })
}

/// Who holds a Lease, once `wanted` likes it.
async fn holder(connection: &mut Connection, path: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let begun = Instant::now();
    loop {
        let response = connection.open(&Call::get(path)).await?;
        let body = response.into_body().collect().await?.to_bytes();
        let lease: Value = serde_json::from_slice(&body)?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if wanted(holder) {
            return Ok(holder.to_owned());
        }
        ensure!(begun.elapsed() < Duration::from_secs(20), "{lease}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";

#[test]
fn the_loops_run_on_one_server_and_move_when_it_goes() -> Result<()> {
    let Some(cluster) = Cluster::start(1)? else {
        return Ok(());
    };
    let fast = [
        "--leader-elect-lease-duration=3s",
        "--leader-elect-renew-deadline=2s",
        "--leader-elect-retry-period=100ms",
    ];
    let own = format!("{LEASES}/fairlead-controllers");
    let (mut one, mut other) = (start(&cluster, &fast)?, start(&cluster, &fast)?);
    runtime().block_on(async {
        let mut connection = other.connect().await?;
        let first = holder(&mut connection, &own, |name| !name.is_empty()).await?;
        // Whoever stops in order lets go; whoever is killed is waited for.
        one.stop()?;
        let second = holder(&mut connection, &own, |name| !name.is_empty() && name != first).await?;
        one.restart()?;
        other.kill()?;
        let mut connection = one.connect().await?;
        holder(&mut connection, &own, |name| !name.is_empty() && name != second).await?;
        // The loops run there now.
        let namespace = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"late"}}"#;
        let create = |path: &str, body: String| anyhow::Ok(Call::send("POST".parse()?, path, "application/json", body));
        connection
            .json(&create("/api/v1/namespaces", namespace.into())?)
            .await?;
        let account = "/api/v1/namespaces/late/serviceaccounts/default";
        let begun = Instant::now();
        while connection.call(&Call::get(account)).await?.0 != 200 {
            ensure!(
                begun.elapsed() < Duration::from_secs(20),
                "nobody made the service account: {}",
                one.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A kube-controller-manager runs the same loops: nobody here leads beside it.
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "kube-controller-manager"},
            "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3600},
        });
        connection.json(&create(LEASES, lease.to_string())?).await?;
        holder(&mut connection, &own, str::is_empty).await?;
        Ok(())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime can be made")
}
