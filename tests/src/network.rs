//! [`Elsewhere`]: another machine, as far as the network is concerned. Its cable can be cut, and nobody is told.

use anyhow::{Result, ensure};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

/// A network namespace with an address of its own. Dropping it removes it; what runs there should have ended.
pub struct Elsewhere {
    name: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

/// How many there have been in this process.
static COUNT: AtomicU16 = AtomicU16::new(0);

impl Elsewhere {
    /// `None` where nobody may make one.
    pub fn new() -> Result<Option<Elsewhere>> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fl{}-{number}", std::process::id());
        // Four addresses each, of those set aside for such purposes (RFC 2544).
        let block = std::process::id().wrapping_mul(8).wrapping_add(u32::from(number)) & 0x7fff;
        let network = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + block * 4;
        let (here, there) = (Ipv4Addr::from(network + 1), Ipv4Addr::from(network + 2));
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if made.is_ok_and(|output| output.status.success()) {
            let elsewhere = Elsewhere { name, here, there };
            elsewhere.connect()?;
            return Ok(Some(elsewhere));
        }
        Ok(None)
    }

    fn connect(&self) -> Result<()> {
        let (name, here, there) = (&self.name, self.here, self.there);
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
        ip(&format!("addr add {here}/30 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        ip(&format!("-n {name} addr add {there}/30 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} link set lo up"))
    }

    /// By which it is reached from here.
    pub fn address(&self) -> IpAddr {
        self.there.into()
    }

    /// Runs a program there.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// From now on nothing that is sent there is answered.
    pub fn cut(&self) -> Result<()> {
        ip(&format!("-n {} route add blackhole {}/32", self.name, self.here))
    }

    /// The other way round.
    pub fn mend(&self) -> Result<()> {
        ip(&format!("-n {} route del blackhole {}/32", self.name, self.here))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let ended = ip(&format!("link del {}", self.name)).and(ip(&format!("netns del {}", self.name)));
        if let Err(error) = ended {
            eprintln!("{error}");
        }
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {error}");
    Ok(())
}
