//! The audit log: which requests are recorded ([`Policy`]), what is recorded of one ([`Trail`]), and where it goes
//! ([`Sinks`]: a file, a webhook).
//!
//! A request that is audited carries a [`Trail`] through the chain; whoever learns something about it writes it there. At
//! each stage the trail makes one event and hands its bytes to the sinks, which never hold more than [`sink::ROOM`].
//! The server's filter (`src/server/src/filters/audit.rs`) begins and ends trails; `docs/audit.md` is for operators.

pub mod auditor;
pub mod batch;
pub mod event;
pub mod level;
pub mod log;
pub mod metrics;
pub mod policy;
pub mod retention;
pub mod sink;
pub mod trail;
pub mod webhook;

pub use auditor::{Auditor, Received};
pub use level::{Level, Stage, Stages};
pub use metrics::Metrics;
pub use policy::{Asked, Policy, PolicyError, Verdict};
pub use sink::{Form, Mode, Sinks, Truncation};
pub use trail::{Recorded, Trail};
pub use webhook::Post;
