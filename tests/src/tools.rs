//! Programs the suite drives: found on the machine, or built once into the target directory.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
        .into()
}

/// kubectl: `$KUBECTL`, or upstream's built from its Go module, or one on the PATH. `None` where there is neither.
pub fn kubectl() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| find_kubectl().map_err(|e| eprintln!("no kubectl: {e:#}")).ok())
        .clone()
}

fn find_kubectl() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KUBECTL") {
        return Ok(path.into());
    }
    let built = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .context("no target directory")?
        .join("kubectl");
    if built.exists() {
        return Ok(built);
    }
    if on_path("go") {
        let source = root().join("tests/kubectl");
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&built)
            .arg(".")
            .current_dir(source)
            .output()?;
        if output.status.success() {
            return Ok(built);
        }
        bail!("go build failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    if on_path("kubectl") {
        return Ok("kubectl".into());
    }
    bail!("neither Go nor kubectl is installed")
}

/// Helm: `$HELM`, one on the PATH, or `None`.
pub fn helm() -> Option<PathBuf> {
    match std::env::var_os("HELM") {
        Some(path) => Some(path.into()),
        None => on_path("helm").then(|| "helm".into()),
    }
}

/// An extension API server written in Go: by its variable (`$SAMPLE_APISERVER`), or one on the PATH, or `None`.
pub fn go_program(name: &str) -> Option<PathBuf> {
    match std::env::var_os(name.to_uppercase().replace('-', "_")) {
        Some(path) => Some(PathBuf::from(path)).filter(|path| path.exists()),
        None => on_path(name).then(|| name.into()),
    }
}

/// A port for a program that must be told one: nobody else takes it before it listens.
pub fn free_port() -> Result<u16> {
    let ports = fairlead_storage::etcd::server::free_ports(1)?;
    ports.first().copied().context("no port is free")
}

pub fn on_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|p| p.join(program).is_file())
}

/// kubectl against one server.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    pub fn new(program: PathBuf, server: &crate::server::Server) -> Kubectl {
        Kubectl {
            program,
            kubeconfig: server.kubeconfig(),
            home: server.path("home"),
        }
    }

    /// A command to be run as it is, with a home (and so a discovery cache) of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.home)
            .current_dir(root());
        command
    }

    /// Runs and answers standard output; a failure is an error with standard error.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output()?;
        if !output.status.success() {
            bail!(
                "kubectl {} failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs with `input` on standard input.
    pub fn pipe(&self, arguments: &[&str], input: &str) -> Result<Output> {
        use std::io::Write;
        use std::process::Stdio;
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// `apply` or `create` of a manifest; a failure is an error.
    pub fn feed(&self, arguments: &[&str], manifest: &str) -> Result<String> {
        let output = self.pipe(arguments, manifest)?;
        if !output.status.success() {
            bail!(
                "kubectl {} failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs something that must fail; answers standard error.
    pub fn refused(&self, arguments: &[&str], manifest: &str) -> Result<String> {
        let output = self.pipe(arguments, manifest)?;
        if output.status.success() {
            bail!("kubectl {} should have failed", arguments.join(" "));
        }
        Ok(String::from_utf8(output.stderr)?)
    }
}
