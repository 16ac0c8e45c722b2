//! The `process_*` numbers of client libraries, read from the kernel at each scrape (Linux; empty elsewhere).

use crate::text;

/// Clock ticks a second in `/proc`; fixed at 100 by the kernel's interface to user space on every Linux platform.
const TICKS: f64 = 100.0;
const PAGE: f64 = 4096.0;

/// Appends the process's families, and how many tasks run under the name Go dashboards look for.
pub fn write(out: &mut String) {
    let tasks = tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
    one(
        "go_goroutines",
        "Number of tasks that currently exist.",
        "gauge",
        tasks as f64,
        out,
    );
    let Some(stat) = Stat::read() else { return };
    one(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        "counter",
        stat.cpu,
        out,
    );
    if let Some(max) = max_fds() {
        one(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            "gauge",
            max,
            out,
        );
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        one(
            "process_open_fds",
            "Number of open file descriptors.",
            "gauge",
            open.count() as f64,
            out,
        );
    }
    one(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        "gauge",
        stat.resident,
        out,
    );
    if let Some(start) = stat.start {
        one(
            "process_start_time_seconds",
            "Start time of the process in seconds since the epoch.",
            "gauge",
            start,
            out,
        );
    }
    one(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        "gauge",
        stat.virtual_memory,
        out,
    );
}

struct Stat {
    cpu: f64,
    resident: f64,
    virtual_memory: f64,
    start: Option<f64>,
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
            virtual_memory: field(23)?,
            resident: field(24)? * PAGE,
            start: boot.zip(field(22)).map(|(boot, ticks)| boot + ticks / TICKS),
        })
    }
}

fn max_fds() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn one(name: &str, help: &str, kind: &str, value: f64, out: &mut String) {
    text::header(name, help, kind, out);
    out.push_str(name);
    out.push(' ');
    text::number(value, out);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn memory_and_cpu_are_told() {
        let mut out = String::new();
        super::write(&mut out);
        let resident = out
            .lines()
            .find_map(|l| l.strip_prefix("process_resident_memory_bytes "))
            .unwrap();
        assert!(resident.parse::<f64>().unwrap() > 100_000.0, "{resident}");
    }
}
