//! What the server tells about itself.
//!
//! - [`metrics`]: families of counters, gauges and histograms, bounded in series; [`exemplars`] of histograms.
//! - [`text`], [`openmetrics`]: their exposition. - [`work`]: how a loop's work is measured.
//! - [`trace`]: W3C trace context, and what is measured of one request.
//! - [`health`]: named checks behind `/livez`, `/readyz` and `/healthz`. - [`process`]: the process's own numbers.
//! - [`task`]: named tasks. - [`clock`]: the real clock. - [`log`]: where tracing goes.

pub mod clock;
pub mod exemplars;
pub mod health;
pub mod log;
pub mod metrics;
pub mod openmetrics;
pub mod process;
pub mod task;
pub mod text;
pub mod trace;
pub mod work;

pub use clock::SystemClock;
pub use health::{Health, Hook};
pub use metrics::{Counters, Families, FloatGauges, Gauges, Histograms};
