//! The load generator's parts: a client for any API server, closed and open loops, watch fan-out, process usage.

pub mod client;
pub mod definitions;
pub mod load;
pub mod paced;
pub mod process;
pub mod report;
pub mod scenario;
pub mod watch;

use std::time::Duration;

/// Everything a scenario may look at.
pub struct Settings {
    pub target: client::Target,
    pub duration: Duration,
    pub processes: Vec<process::Process>,
    pub namespace: String,
    pub proxied_path: Option<String>,
    /// Requests a second of the open loop.
    pub rate: u32,
}
