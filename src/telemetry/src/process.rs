//! The `process_*` numbers of client libraries, read from the kernel at each scrape (Linux; empty elsewhere).

use crate::text::{self, Format};

/// Clock ticks a second in `/proc`; fixed at 100 by the kernel's interface to user space on every Linux platform.
const TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

/// Appends the process's families, and how many tasks run under the name Go dashboards look for.
pub fn write(format: Format, out: &mut String) {
    let mut one = |name: &str, help: &str, kind: &str, value: f64| {
        text::header(format, name, help, kind, out);
        out.push_str(name);
        out.push(' ');
        text::number(value, out);
        out.push('\n');
    };
    let tasks = tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
    one(
        "go_goroutines",
        "Number of tasks that currently exist.",
        "gauge",
        tasks as f64,
    );
    let Some(stat) = Stat::read() else { return };
    one(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        "counter",
        stat.cpu,
    );
    if let Some(max) = limit("Max open files") {
        one(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            "gauge",
            max,
        );
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        one(
            "process_open_fds",
            "Number of open file descriptors.",
            "gauge",
            open.count() as f64,
        );
    }
    one(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        "gauge",
        stat.resident,
    );
    if let Some(start) = stat.start {
        one(
            "process_start_time_seconds",
            "Start time of the process in seconds since the epoch.",
            "gauge",
            start,
        );
    }
    one(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        "gauge",
        stat.virtual_memory,
    );
    if let Some(max) = limit("Max address space") {
        one(
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            "gauge",
            max,
        );
    }
    if let Some((received, transmitted)) = network() {
        one(
            "process_network_receive_bytes_total",
            "Bytes received over the network.",
            "counter",
            received,
        );
        one(
            "process_network_transmit_bytes_total",
            "Bytes sent over the network.",
            "counter",
            transmitted,
        );
    }
    one("go_threads", "Number of threads.", "gauge", stat.threads);
}

struct Stat {
    cpu: f64,
    resident: f64,
    virtual_memory: f64,
    start: Option<f64>,
    threads: f64,
}

impl Stat {
    fn read() -> Option<Stat> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold anything; fields are counted from behind it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<f64> = rest
            .split_whitespace()
            .skip(1)
            .map(|f| f.parse().unwrap_or(0.0))
            .collect();
        let field = |number: usize| fields.get(number - 4).copied();
        let boot = std::fs::read_to_string("/proc/stat").ok().and_then(|stat| {
            stat.lines()
                .find_map(|line| line.strip_prefix("btime "))
                .and_then(|t| t.trim().parse::<f64>().ok())
        });
        Some(Stat {
            cpu: (field(14)? + field(15)?) / TICKS,
            threads: field(20)?,
            virtual_memory: field(23)?,
            resident: field(24)? * PAGE,
            start: boot.zip(field(22)).map(|(boot, ticks)| boot + ticks / TICKS),
        })
    }
}

/// A limit of `/proc/self/limits`; as Go's client has it, all there is where there is none.
fn limit(name: &str) -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

/// Bytes received and sent in the process's network namespace, by IP.
fn network() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let found = names.split_whitespace().zip(values.split_whitespace());
        found
            .filter(|(name, _)| *name == wanted)
            .find_map(|(_, v)| v.parse().ok())
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn memory_and_cpu_are_told() {
        let mut out = String::new();
        super::write(crate::text::Format::Text, &mut out);
        let resident = out
            .lines()
            .find_map(|l| l.strip_prefix("process_resident_memory_bytes "))
            .unwrap();
        assert!(resident.parse::<f64>().unwrap() > 100_000.0, "{resident}");
    }
}
