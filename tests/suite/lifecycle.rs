//! Start, stop, kill: nothing acknowledged is lost, and mistakes end in one clear sentence.

use anyhow::{Result, ensure};
use fairlead_bench::client::Call;
use fairlead_tests::runtime;
use fairlead_tests::server::{Server, binary};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_second_start_finds_everything_again() -> Result<()> {
    let mut server = Server::start(&[])?;
    runtime().block_on(async {
        let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kept"},"data":{"a":"b"}}"#;
        let call = Call::send(
            "POST".parse()?,
            "/api/v1/namespaces/default/configmaps",
            "application/json",
            body,
        );
        server.connect().await?.json(&call).await
    })?;
    let kubeconfig = std::fs::read_to_string(server.kubeconfig())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            std::fs::metadata(server.kubeconfig())?.permissions().mode() & 0o777,
            0o600
        );
    }
    ensure!(
        server.stop()?.success(),
        "SIGTERM must end with success: {}",
        server.log()
    );
    server.restart()?;
    let kept = runtime().block_on(server.get("/api/v1/namespaces/default/configmaps/kept"))?;
    assert_eq!(kept["data"]["a"], "b");
    let authority = |text: &str| {
        text.lines()
            .find(|l| l.contains("certificate-authority-data"))
            .map(str::to_owned)
    };
    assert_eq!(
        authority(&kubeconfig),
        authority(&std::fs::read_to_string(server.kubeconfig())?)
    );
    Ok(())
}

#[test]
fn mistakes_end_in_one_sentence() -> Result<()> {
    let fairlead = binary("fairlead")?;
    let directory = tempfile::tempdir()?;
    let run = |arguments: &[&str]| -> Result<(bool, String)> {
        let output = Command::new(&fairlead)
            .args(arguments)
            .current_dir(directory.path())
            .output()?;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = format!("--secure-port={}", taken.local_addr()?.port());
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory")?;
    let damaged = directory.path().join("damaged");
    let mut server = Server::start(&[])?;
    server.stop()?;
    copy(&server.path("data"), &damaged)?;
    damage(&damaged)?;
    for (arguments, word) in [
        (vec!["--no-such-flag"], "no-such-flag"),
        (vec!["--secure-port=banana"], "secure-port"),
        (vec![port.as_str(), "--data-dir=new"], "in use"),
        (vec!["--data-dir=file/below", "--secure-port=0"], "file/below"),
        (vec!["--data-dir=damaged", "--secure-port=0"], "damaged"),
    ] {
        let (success, text) = run(&arguments)?;
        ensure!(!success, "{arguments:?} must fail");
        ensure!(
            text.to_lowercase().contains(word),
            "{arguments:?} must say {word}: {text}"
        );
        let lines = text.lines().filter(|l| l.contains("error")).count();
        ensure!(lines <= 1, "{arguments:?} must be one sentence: {text}");
        ensure!(!text.contains("panicked"), "{arguments:?} must not panic: {text}");
    }
    ensure!(
        !directory.path().join("new/store").exists(),
        "a taken port must change nothing"
    );
    Ok(())
}

/// Every acknowledged write survives SIGKILL. Five rounds; a hundred with `SLOW_TESTS=1`.
#[test]
fn sigkill_loses_no_acknowledged_write() -> Result<()> {
    let rounds = if fairlead_tests::slow() { 100 } else { 5 };
    let mut server = Server::start(&["--controllers="])?;
    let acknowledged: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    for round in 0..rounds {
        let runtime = runtime();
        let address = server.address().to_owned();
        let log = acknowledged.clone();
        runtime.block_on(async {
            let mut writers = tokio::task::JoinSet::new();
            for writer in 0..8 {
                writers.spawn(write(address.clone(), format!("r{round}-w{writer}"), log.clone()));
            }
            // Not before something was written; then between 50 and 250 ms, different in every round.
            while log.lock().expect("no writer panics").is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(50 + (round * 37) % 200)).await;
            server.kill()?;
            writers.shutdown().await;
            anyhow::Ok(())
        })?;
        server.restart()?;
        let expected = std::mem::take(&mut *acknowledged.lock().expect("no writer panics"));
        ensure!(!expected.is_empty(), "round {round} wrote nothing");
        let list = runtime.block_on(server.get("/api/v1/namespaces/default/configmaps"))?;
        let found: BTreeMap<&str, &str> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|i| {
                Some((
                    i["metadata"]["name"].as_str()?,
                    i["metadata"]["resourceVersion"].as_str()?,
                ))
            })
            .collect();
        for (name, version) in &expected {
            ensure!(
                found.get(name.as_str()) == Some(&version.as_str()),
                "round {round} lost {name} at {version}: found {:?}",
                found.get(name.as_str())
            );
        }
    }
    Ok(())
}

/// Creates objects until the server dies; records each that was acknowledged with its version.
async fn write(address: String, prefix: String, log: Arc<Mutex<BTreeMap<String, String>>>) -> Result<()> {
    let target =
        fairlead_bench::client::Target::new(&address, Some(fairlead_tests::server::TOKEN.into()), None, false)?;
    let mut connection = target.connect().await?;
    for n in 0.. {
        let name = format!("{prefix}-{n}");
        let body = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": "x".repeat(500)}});
        let path = "/api/v1/namespaces/default/configmaps";
        let made = connection
            .json(&Call::send("POST".parse()?, path, "application/json", body.to_string()))
            .await?;
        let version = made["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        log.lock().expect("no writer panics").insert(name, version);
    }
    Ok(())
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?
        } else {
            std::fs::copy(entry.path(), target).map(drop)?
        }
    }
    Ok(())
}

/// Overwrites the middle of every file that is larger than a page: the store is among them.
fn damage(directory: &std::path::Path) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            damage(&path)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        if bytes.len() > 8192 {
            bytes[..4096].fill(0xa5);
            std::fs::write(&path, bytes)?;
        }
    }
    Ok(())
}
