//! Real etcd servers for tests, each on free ports with its data in a directory that goes with it.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

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
    /// Where clients reach it.
    port: u16,
    log: PathBuf,
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
        let mut attempts = 3;
        loop {
            let mut cluster = Cluster::planned(size, more)?;
            for server in &mut cluster.servers {
                server.start(&program)?;
            }
            match cluster.settle() {
                Ok(()) => return Ok(Some(cluster)),
                // A port can be lost between finding it free and using it.
                Err(error) if attempts > 1 => println!("once more: {error}"),
                Err(error) => return Err(error),
            }
            attempts -= 1;
        }
    }

    fn planned(size: usize, more: &[String]) -> io::Result<Cluster> {
        let ports = free_ports(size * 2)?;
        let directory = std::env::temp_dir().join(format!("etcd-{}-{}", std::process::id(), ports[0]));
        std::fs::create_dir_all(&directory)?;
        let tls = more.iter().any(|argument| argument.starts_with("--cert-file"));
        let scheme = if tls { "https" } else { "http" };
        let peer = |i: usize| format!("http://127.0.0.1:{}", ports[i * 2 + 1]);
        let members: Vec<String> = (0..size).map(|i| format!("m{i}={}", peer(i))).collect();
        let servers = (0..size).map(|i| {
            let url = format!("{scheme}://127.0.0.1:{}", ports[i * 2]);
            let mut arguments = vec![
                format!("--name=m{i}"),
                format!("--data-dir={}", directory.join(format!("m{i}")).display()),
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
            Server {
                child: None,
                arguments,
                url,
                port: ports[i * 2],
                log: directory.join(format!("m{i}.log")),
            }
        });
        let servers = servers.collect();
        Ok(Cluster { servers, directory })
    }

    /// Waits until every server accepts connections, which etcd does once it has found its cluster.
    fn settle(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        for server in &mut self.servers {
            while TcpStream::connect(("127.0.0.1", server.port)).is_err() {
                let ended = match &mut server.child {
                    Some(child) => child.try_wait()?,
                    None => None,
                };
                if ended.is_some() || Instant::now() > deadline {
                    let log = std::fs::read_to_string(&server.log).unwrap_or_default();
                    let last = log.lines().last().unwrap_or_default();
                    return Err(io::Error::other(format!(
                        "etcd at {} does not start: {last}",
                        server.url
                    )));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
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
            .stderr(std::fs::File::options().create(true).append(true).open(&self.log)?)
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

/// Ports that nobody listens on, and that nobody else gets while a server is down: below the range the kernel takes the ports
/// of outgoing connections from, and no port twice in a process.
///
/// # Errors
/// None is left.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const RANGE: std::ops::Range<u16> = 12_000..32_000;
    let width = u32::from(RANGE.end - RANGE.start);
    let mut ports = Vec::new();
    for _ in RANGE {
        let turn = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = RANGE.start + ((std::process::id().wrapping_mul(509) + turn) % width) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
        if ports.len() == count {
            return Ok(ports);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free ports are left"))
}
