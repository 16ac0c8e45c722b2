//! [`Server`]: a running `fairlead` with a data directory of its own.

use anyhow::{Context, Result, bail};
use fairlead_bench::client::{Call, Connection, Target};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to become ready on a loaded machine.
const START: Duration = Duration::from_secs(30);
/// The token of every test server; its user is in `system:masters`.
pub const TOKEN: &str = "black-box-token";
/// The token of a user who may do what RBAC allows him, which is nothing at first: `suite-user`, in group `suite`.
pub const USER_TOKEN: &str = "black-box-user-token";

/// A server process. Dropping it kills it.
pub struct Server {
    child: Option<Child>,
    directory: TempDir,
    arguments: Vec<String>,
    address: String,
}

impl Server {
    /// Starts a server with an empty data directory and these further flags.
    pub fn start(arguments: &[&str]) -> Result<Server> {
        let directory = tempfile::Builder::new().prefix("fairlead-test-").tempdir()?;
        std::fs::write(
            directory.path().join("tokens.csv"),
            format!("{TOKEN},admin,admin-uid,system:masters\n{USER_TOKEN},suite-user,suite-uid,suite\n"),
        )?;
        let arguments = arguments.iter().map(|a| (*a).into()).collect();
        let mut server = Server {
            child: None,
            directory,
            arguments,
            address: String::new(),
        };
        server.restart()?;
        Ok(server)
    }

    /// Stops in order and starts again on the same data with other flags.
    pub fn restart_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.stop()?;
        self.arguments = arguments.iter().map(|a| (*a).into()).collect();
        self.restart()
    }

    /// Starts the process again on the same data and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        let ready = self.path("ready");
        let _ = std::fs::remove_file(&ready);
        let mut command = Command::new(binary("fairlead")?);
        command
            .arg(format!("--data-dir={}", self.path("data").display()))
            .arg(format!("--kubeconfig-out={}", self.kubeconfig().display()))
            .arg(format!("--ready-file={}", ready.display()))
            .arg(format!("--token-auth-file={}", self.path("tokens.csv").display()))
            .arg("--secure-port=0")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(self.path("stdout"))?)
            .stderr(
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(self.path("stderr"))?,
            );
        let mut child = command.spawn().context("cannot start fairlead")?;
        let begun = Instant::now();
        while !ready.exists() {
            if let Some(status) = child.try_wait()? {
                bail!("fairlead ended with {status}: {}", self.log());
            }
            if begun.elapsed() > START {
                let _ = child.kill();
                bail!("fairlead was not ready within {START:?}: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child = Some(child);
        self.address = address(&self.kubeconfig())?;
        Ok(())
    }

    /// `https://127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.path("admin.kubeconfig")
    }

    /// A path in this server's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// What the server has written to standard error so far (its end).
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.path("stderr")).unwrap_or_default();
        let skip = text.len().saturating_sub(4000);
        text.chars().skip(skip).collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the server is not running")?;
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > START {
                child.kill()?;
                bail!("fairlead did not stop within {START:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that the server has written so far.
    pub fn output(&self) -> Result<String> {
        let (out, err) = (std::fs::read(self.path("stdout"))?, std::fs::read(self.path("stderr"))?);
        Ok(format!(
            "{}{}",
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&err)
        ))
    }

    /// A connection of nobody in particular.
    pub async fn connect_anonymously(&self) -> Result<Connection> {
        Target::new(&self.address, None, None, true)?.connect().await
    }

    pub async fn connect(&self) -> Result<Connection> {
        Target::new(&self.address, Some(TOKEN.into()), None, false)?
            .connect()
            .await
    }

    /// A GET whose answer is JSON.
    pub async fn get(&self, path: &str) -> Result<serde_json::Value> {
        self.connect().await?.json(&Call::get(path)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("the server could not be killed: {error}");
        }
    }
}

/// A program of this workspace: from the directory `$BINARIES`, else built beside the running test.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("BINARIES") {
        // Relative to where `cargo test` was called, which is not where tests run.
        return Ok(crate::tools::root().join(directory).join(name));
    }
    let test = std::env::current_exe()?;
    let directory = test
        .parent()
        .and_then(Path::parent)
        .context("the test has no target directory")?;
    let path = directory.join(name);
    if !path.exists() {
        bail!("{} is not built: run `cargo build -p {name}` first", path.display());
    }
    Ok(path)
}

fn address(kubeconfig: &Path) -> Result<String> {
    let text = std::fs::read_to_string(kubeconfig).context("the server wrote no kubeconfig")?;
    text.lines()
        .find_map(|l| l.trim().strip_prefix("server:"))
        .map(|a| a.trim().trim_matches('"').to_owned())
        .context("the kubeconfig names no server")
}
