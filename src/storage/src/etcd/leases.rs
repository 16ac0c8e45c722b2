//! [`Leases`]: one lease for many values that expire at about the same time.

use crate::etcd::members::{Call, Clients, Members, Unanswered};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Of a lifetime: for how long a lease may be used again, at most. As upstream
/// (kubernetes/apiserver pkg/storage/etcd3/lease_manager.go), so that both put the same load on etcd.
const REUSED_PART: f64 = 0.05;
/// Values of one lease: they are deleted in one transaction.
const VALUES: u32 = 1000;

/// The lease that was granted last.
#[derive(Debug)]
pub(super) struct Leases {
    /// For how long a lease may be used again, at most.
    reuse: Duration,
    last: Mutex<Option<Lease>>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    ends: Instant,
    values: u32,
}

impl Leases {
    pub fn new(reuse: Duration) -> Leases {
        Leases {
            reuse,
            last: Mutex::new(None),
        }
    }

    /// A lease that ends after `lifetime`, and not much later.
    pub async fn lease(&self, members: &Members, lifetime: Duration) -> Result<i64, Unanswered> {
        let mut last = self.last.lock().await;
        let now = Instant::now();
        let reuse = lifetime.mul_f64(REUSED_PART).min(self.reuse);
        if let Some(lease) = last.as_mut().filter(|lease| lease.suits(now, lifetime, reuse)) {
            lease.values += 1;
            return Ok(lease.id);
        }
        let seconds = (lifetime + reuse).as_secs_f64().ceil().max(1.0) as i64;
        let grant = |clients: Arc<Clients>| async move { clients.lease.clone().grant(seconds, None).await };
        // Asked for again where the answer was lost: a lease that nobody uses ends by itself.
        let granted = members.ask(Call::Read, grant).await?;
        *last = Some(Lease {
            id: granted.id(),
            ends: now + Duration::from_secs(seconds.unsigned_abs()),
            values: 1,
        });
        Ok(granted.id())
    }

    /// Forgets a lease that the cluster does not know.
    pub async fn forget(&self, id: i64) {
        let mut last = self.last.lock().await;
        if last.is_some_and(|lease| lease.id == id) {
            *last = None;
        }
    }
}

impl Lease {
    fn suits(&self, now: Instant, lifetime: Duration, reuse: Duration) -> bool {
        let needed = now + lifetime;
        needed <= self.ends && self.ends <= needed + reuse + Duration::from_secs(1) && self.values < VALUES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_shared_while_it_ends_soon_enough_after_the_value() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let lease = Lease {
            id: 1,
            ends: now + hour + Duration::from_secs(60),
            values: 1,
        };
        let suits =
            |after: u64, lifetime| lease.suits(now + Duration::from_secs(after), lifetime, Duration::from_secs(60));
        assert!(suits(0, hour) && suits(60, hour));
        assert!(!suits(61, hour), "it would end before its time");
        assert!(!suits(0, hour / 2), "it would end long after its time");
        let full = Lease {
            values: VALUES,
            ..lease
        };
        assert!(!full.suits(now, hour, Duration::from_secs(60)));
    }
}
