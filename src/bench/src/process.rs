//! CPU time and memory of a process, from `/proc`.

use anyhow::{Context, Result};

/// A process to observe.
#[derive(Clone, Debug)]
pub struct Process {
    pub name: String,
    pid: u32,
}

/// One look at a process.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// User and system time since it started.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
}

/// Linux reports CPU time in hundredths of a second to programs on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// Reads `NAME=PID`.
    pub fn parse(text: &str) -> Result<Process> {
        let (name, pid) = text.split_once('=').context("--pid takes NAME=PID")?;
        Ok(Process {
            name: name.into(),
            pid: pid.parse().with_context(|| format!("{pid} is not a process id"))?,
        })
    }

    pub fn sample(&self) -> Result<Sample> {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.pid))
                .with_context(|| format!("process {} ({}) is gone", self.pid, self.name))
        };
        // The command name may hold spaces: count fields behind its closing parenthesis.
        let stat = read("stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let resident = read("status")?
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or(0);
        Ok(Sample {
            cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            resident_bytes: resident * 1024,
        })
    }
}
