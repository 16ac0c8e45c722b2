//! Real etcd servers for tests, each on free ports with its data in a directory that goes with it.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A cluster of one or more servers. Dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    directory: PathBuf,
}

#[derive(Debug)]
struct Server {
    /// Empty while it is stopped.
    child: Option<Child>,
    arguments: Vec<String>,
    url: String,
}

/// Names the program where it is not on the PATH.
const VARIABLE: &str = "ETCD";

impl Cluster {
    /// Starts `size` servers; `None`, and a line saying so, where there is no etcd on this machine.
    ///
    /// # Errors
    /// A program or a port that cannot be had.
    pub fn start(size: usize) -> io::Result<Option<Cluster>> {
        Cluster::with(size, &[])
    }

    /// As [`Cluster::start`], with more arguments for each server.
    ///
    /// # Errors
    /// A program or a port that cannot be had.
    pub fn with(size: usize, more: &[String]) -> io::Result<Option<Cluster>> {
        let Some(program) = program() else {
            println!("skipped: there is no etcd (on the PATH, or named by {VARIABLE})");
            return Ok(None);
        };
        let directory = std::env::temp_dir().join(format!("etcd-{}-{}", std::process::id(), free_ports(1)?[0]));
        let ports = free_ports(size * 2)?;
        let tls = more.iter().any(|argument| argument.starts_with("--cert-file"));
        let scheme = if tls { "https" } else { "http" };
        let peer = |i: usize| format!("http://127.0.0.1:{}", ports[i * 2 + 1]);
        let members: Vec<String> = (0..size).map(|i| format!("m{i}={}", peer(i))).collect();
        let mut cluster = Cluster {
            servers: Vec::new(),
            directory,
        };
        for i in 0..size {
            let url = format!("{scheme}://127.0.0.1:{}", ports[i * 2]);
            let mut arguments = vec![
                format!("--name=m{i}"),
                format!("--data-dir={}", cluster.directory.join(format!("m{i}")).display()),
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
                format!("--listen-peer-urls={}", peer(i)),
                format!("--initial-advertise-peer-urls={}", peer(i)),
                format!("--initial-cluster={}", members.join(",")),
                // Elections within a fraction of a second; more of it than a busy machine takes to schedule a process.
                "--heartbeat-interval=50".to_owned(),
                "--election-timeout=500".to_owned(),
            ];
            arguments.extend_from_slice(more);
            cluster.servers.push(Server {
                child: None,
                arguments,
                url,
            });
            cluster.servers[i].start(&program)?;
        }
        Ok(Some(cluster))
    }

    /// The addresses clients use.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.url.clone()).collect()
    }

    /// Kills a server without warning.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self, index: usize) -> io::Result<()> {
        if let Some(mut child) = self.servers[index].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts a server that was killed, with its data and address.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self, index: usize) -> io::Result<()> {
        let program = program().ok_or(io::ErrorKind::NotFound)?;
        self.servers[index].start(&program)
    }

    /// Stops a server in its tracks: its connections stay and nobody answers.
    ///
    /// # Errors
    /// It cannot be told to.
    pub fn freeze(&self, index: usize) -> io::Result<()> {
        self.servers[index].signal("STOP")
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// It cannot be told to.
    pub fn thaw(&self, index: usize) -> io::Result<()> {
        self.servers[index].signal("CONT")
    }
}

impl Server {
    fn start(&mut self, program: &Path) -> io::Result<()> {
        let child = Command::new(program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(child.id().to_string())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::ErrorKind::Other.into())
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if let Some(mut child) = server.child.take() {
                _ = child.kill();
                _ = child.wait();
            }
        }
        _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join("etcd"))
        .find(|program| program.is_file())
}

/// Ports that nobody listens on. Held until all are found, so that they differ.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<_>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}
