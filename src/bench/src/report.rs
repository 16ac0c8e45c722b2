//! What a scenario found, as a line and as JSON.

use serde_json::{Value, json};
use std::time::Duration;

/// The result of one scenario.
pub struct Row {
    pub name: String,
    pub requests: u64,
    pub errors: u64,
    pub elapsed: Duration,
    /// Sorted, in microseconds.
    pub latencies: Vec<u32>,
    pub bytes: u64,
    pub processes: Vec<Usage>,
}

/// What one observed process used during a scenario.
pub struct Usage {
    pub name: String,
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
}

impl Row {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that the fraction `q` of all requests stayed below, in milliseconds.
    pub fn percentile(&self, q: f64) -> f64 {
        let Some(last) = self.latencies.len().checked_sub(1) else {
            return 0.0;
        };
        f64::from(self.latencies[(last as f64 * q).round() as usize]) / 1000.0
    }

    pub fn print(&self) {
        print!(
            "{:<22} {:>10.1}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  {:>8} requests  {} errors  {:.1} MB/s",
            self.name,
            self.per_second(),
            self.percentile(0.5),
            self.percentile(0.99),
            self.requests,
            self.errors,
            self.bytes as f64 / 1e6 / self.elapsed.as_secs_f64(),
        );
        for p in &self.processes {
            print!(
                "  {}: {:.3} ms CPU each, {:.2} cores, {:.1} MiB",
                p.name,
                p.cpu_seconds * 1000.0 / self.requests.max(1) as f64,
                p.cpu_seconds / self.elapsed.as_secs_f64(),
                p.resident_bytes as f64 / f64::from(1 << 20),
            );
        }
        println!();
    }

    fn to_json(&self) -> Value {
        let processes: Vec<Value> = self
            .processes
            .iter()
            .map(|p| json!({"name": p.name, "cpuSeconds": p.cpu_seconds, "residentBytes": p.resident_bytes}))
            .collect();
        json!({
            "scenario": self.name,
            "requests": self.requests,
            "errors": self.errors,
            "seconds": self.elapsed.as_secs_f64(),
            "perSecond": self.per_second(),
            "p50Milliseconds": self.percentile(0.5),
            "p99Milliseconds": self.percentile(0.99),
            "bytes": self.bytes,
            "processes": processes,
        })
    }
}

/// All rows as a JSON array.
pub fn json(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
    format!("{:#}\n", Value::Array(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_the_sorted_latencies() {
        let row = Row {
            name: "x".into(),
            requests: 4,
            errors: 0,
            elapsed: Duration::from_secs(2),
            latencies: vec![1000, 2000, 3000, 9000],
            bytes: 0,
            processes: Vec::new(),
        };
        assert_eq!(
            (row.percentile(0.0), row.percentile(1.0), row.per_second()),
            (1.0, 9.0, 2.0)
        );
    }
}
