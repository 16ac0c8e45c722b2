//! What the server tells about itself.
//!
//! - [`metrics`]: families of counters, gauges and histograms, bounded in series. - [`text`]: their exposition.
//! - [`health`]: named checks behind `/livez`, `/readyz` and `/healthz`. - [`process`]: the process's own numbers.
//! - [`task`]: named tasks. - [`clock`]: the real clock. - [`log`]: where tracing goes.

pub mod clock;
pub mod health;
pub mod log;
pub mod metrics;
pub mod process;
pub mod task;
pub mod text;

pub use clock::SystemClock;
pub use health::{Health, Hook};
pub use metrics::{Counters, Families, Gauges, Histograms};
