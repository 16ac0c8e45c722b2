//! [`SystemClock`]: the one place that reads the wall clock.

use fairlead_api::{Clock, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i128::try_from(since_epoch.as_nanos()).unwrap_or(i128::MAX))
    }
}
