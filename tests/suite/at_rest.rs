//! What lies on the disk: encrypted values, backups, and a disk that is full.

use anyhow::{Context, Result, ensure};
use fairlead_bench::client::Call;
use fairlead_tests::server::{Server, binary};
use fairlead_tests::skip;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn post(path: &str, body: impl Into<String>) -> Call {
    Call::send("POST".parse().expect("a method"), path, "application/json", body.into())
}

fn encryption(path: &Path, keys: &[(&str, &str)]) -> Result<()> {
    let keys: Vec<String> = keys
        .iter()
        .map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}"))
        .collect();
    std::fs::write(
        path,
        format!(
            "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n\
             - resources: [secrets]\n  providers:\n  - aescbc: {{keys: [{}]}}\n  - identity: {{}}\n",
            keys.join(", ")
        ),
    )?;
    Ok(())
}

/// Whether any file of the store holds `text`.
fn lies_there(server: &Server, text: &str) -> Result<bool> {
    for entry in std::fs::read_dir(server.path("data/store"))? {
        let bytes = std::fs::read(entry?.path())?;
        if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_unreadable_on_disk_and_readable_through_the_api() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("encryption.yaml");
    let flag = format!("--encryption-provider-config={}", file.display());
    // 32 and 32 bytes.
    let one = ("one", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let two = ("two", "IAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    encryption(&file, &[one])?;
    let mut server = Server::start(&[&flag])?;
    let object = |kind: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"a"}},"data":{{"k":"bWFya2VyLW9mLXRoaXMtdGVzdA=="}}}}"#
        )
    };
    let marker = "bWFya2VyLW9mLXRoaXMtdGVzdA";
    server.connect().await?.json(&post(SECRETS, object("Secret"))).await?;
    ensure!(!lies_there(&server, marker)?, "the secret can be read on the disk");
    ensure!(lies_there(&server, "k8s:enc:aescbc:v1:one:")?);
    server
        .connect()
        .await?
        .json(&post(CONFIG_MAPS, object("ConfigMap")))
        .await?;
    ensure!(lies_there(&server, marker)?, "a config map is not encrypted");

    // A new key writes, the old one still reads; writing the same again moves a value to the new key, once.
    encryption(&file, &[two, one])?;
    server.restart_with(&[&flag])?;
    let path = format!("{SECRETS}/a");
    let secret = server.get(&path).await?;
    assert_eq!(secret["data"]["k"], "bWFya2VyLW9mLXRoaXMtdGVzdA==");
    let put = Call::send("PUT".parse()?, &path, "application/json", secret.to_string());
    let moved = server.connect().await?.json(&put).await?;
    assert_ne!(
        moved["metadata"]["resourceVersion"],
        secret["metadata"]["resourceVersion"]
    );
    let put = Call::send("PUT".parse()?, &path, "application/json", moved.to_string());
    let again = server.connect().await?.json(&put).await?;
    assert_eq!(
        again["metadata"]["resourceVersion"],
        moved["metadata"]["resourceVersion"]
    );
    ensure!(lies_there(&server, "k8s:enc:aescbc:v1:two:")?);

    // Without the key, nothing is served, and the start says what is missing for which object.
    encryption(&file, &[one])?;
    let refused = server.restart_with(&[&flag]).err().context("the key is missing")?;
    let text = refused.to_string();
    ensure!(
        text.contains("/registry/secrets/default/a") && text.contains("no matching key was found"),
        "{text}"
    );
    Ok(())
}

/// Runs a command of the binary.
fn fairlead(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("fairlead")?).args(arguments).output()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_what_was_acknowledged() -> Result<()> {
    let source = Server::start(&[])?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("backup.db");
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
        let mut connection = source.connect().await?;
        writers.spawn(async move {
            for number in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return Ok(number);
                }
                let name = format!("w{writer}-{number:06}");
                let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#);
                connection.json(&post(CONFIG_MAPS, body)).await?;
                acknowledged.lock().expect("nobody panics").push(name);
            }
            anyhow::Ok(0)
        });
    }
    let backup = async {
        while acknowledged.lock().expect("nobody panics").len() < 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = acknowledged.lock().expect("nobody panics").clone();
        let (kubeconfig, to) = (source.kubeconfig(), file.clone());
        let done = tokio::task::spawn_blocking(move || {
            fairlead(&[
                "backup",
                &to.display().to_string(),
                &format!("--kubeconfig={}", kubeconfig.display()),
            ])
        });
        let done = done.await??;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        anyhow::Ok(before)
    };
    let before = backup.await?;
    let mut written = 0;
    while let Some(count) = writers.join_next().await {
        written += count??;
    }
    ensure!(written > before.len(), "the writers went on during the backup");
    ensure!(!directory.path().join("backup.db.partial").exists());

    // Who is nobody in particular gets no copy of everybody's secrets.
    let nobody = std::fs::read_to_string(source.kubeconfig())?;
    let nobody: Vec<&str> = nobody.lines().filter(|line| !line.contains("client-")).collect();
    let path = directory.path().join("nobody");
    std::fs::write(&path, nobody.join("\n"))?;
    let refused = fairlead(&[
        "backup",
        &directory.path().join("stolen.db").display().to_string(),
        &format!("--kubeconfig={}", path.display()),
    ])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("403"), "{said}");
    ensure!(!directory.path().join("stolen.db").exists());

    let mut restored = Server::start(&[])?;
    restored.stop()?;
    let data = restored.path("data").display().to_string();
    let restore = || fairlead(&["restore", &file.display().to_string(), "--data-dir", &data]);
    let refused = restore()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("is not empty"), "{said}");
    std::fs::remove_dir_all(restored.path("data/store"))?;
    let done = restore()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    restored.restart()?;
    let list = restored.get(CONFIG_MAPS).await?;
    let names: Vec<&str> = list["items"]
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    for name in &before {
        ensure!(
            names.contains(&name.as_str()),
            "{name} was acknowledged before the backup"
        );
    }
    // One revision: of each writer the first so many, without a gap.
    for writer in 0..4 {
        let mine: Vec<&&str> = names
            .iter()
            .filter(|name| name.starts_with(&format!("w{writer}-")))
            .collect();
        for (number, name) in mine.iter().enumerate() {
            assert_eq!(**name, format!("w{writer}-{number:06}"));
        }
    }
    let revision: u64 = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a revision")?
        .parse()?;
    ensure!(revision > 1_000_000_000, "{revision}");
    let mut connection = restored.connect().await?;
    let (code, _) = connection
        .call(&Call::get(format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion={}",
            revision - 1_000_000_000
        )))
        .await?;
    ensure!(code == 410 || code == 200, "{code}");
    Ok(())
}

/// A file system of its own, unmounted when dropped.
struct Mounted(String);

impl Mounted {
    fn tmpfs(path: &Path, size: &str) -> Result<Option<Mounted>> {
        std::fs::create_dir_all(path)?;
        let path = path.display().to_string();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs", &path])
            .output();
        Ok(mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Mounted(path)))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_deletes_and_recovers() -> Result<()> {
    let mut server = Server::start(&[])?;
    server.stop()?;
    std::fs::remove_dir_all(server.path("data"))?;
    let Some(_mounted) = Mounted::tmpfs(&server.path("data"), "24m")? else {
        skip("a file system cannot be mounted here");
        return Ok(());
    };
    server.restart()?;
    let mut connection = server.connect().await?;
    let fill = "x".repeat(200_000);
    let body = |name: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"k":"{fill}"}}}}"#)
    };
    let mut written = 0;
    let refused = loop {
        let create = post(CONFIG_MAPS, body(&format!("c{written}")));
        let answer = connection.open(&create).await?;
        let (code, retry) = (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
        if code != 201 {
            let text = connection.json(&create).await.err().context("full")?.to_string();
            break (code, retry, text);
        }
        written += 1;
        ensure!(written < 500, "the disk never fills up");
    };
    ensure!(refused.0 >= 500 && refused.1.is_some(), "{refused:?}");
    ensure!(refused.2.contains("the store is full"), "{refused:?}");
    // Somebody else takes the rest.
    let hog = server.path("data/hog");
    _ = std::fs::write(&hog, vec![1_u8; 32 << 20]);
    let list = server.get(&format!("{CONFIG_MAPS}?limit=1000")).await?;
    ensure!(
        list["items"].as_array().context("a list")?.len() > written - 1,
        "reads go on"
    );
    let (ready, _) = connection.call(&Call::get("/readyz")).await?;
    assert_eq!(ready, 200);
    for number in 0..written / 2 {
        let delete = Call::send(
            "DELETE".parse()?,
            format!("{CONFIG_MAPS}/c{number}"),
            "application/json",
            "",
        );
        let (code, _) = connection.call(&delete).await?;
        ensure!(code == 200, "delete {number}: {code}: {}", server.log());
    }
    std::fs::remove_file(&hog)?;
    let begun = Instant::now();
    loop {
        let (code, _) = connection.call(&post(CONFIG_MAPS, body("again"))).await?;
        if code == 201 {
            break;
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(20),
            "no recovery: {}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A kill on a full disk loses nothing.
    server.kill()?;
    server.restart()?;
    let list = server.get(&format!("{CONFIG_MAPS}?limit=1000")).await?;
    let kept = list["items"].as_array().context("a list")?;
    ensure!(kept.iter().any(|item| item["metadata"]["name"] == "again"));
    Ok(())
}
