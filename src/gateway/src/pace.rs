//! [`Pace`]: work over everything, that one change of many asks for. The first is seen to at once, a burst in few rounds.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Keeps rounds apart by several times what the last one took, so that a burst of changes costs a share of one core at
/// most, however many objects there are.
#[derive(Debug)]
pub struct Pace {
    begun: Instant,
    next: Instant,
}

/// Between the ends of two rounds, at least.
const SHORTEST: Duration = Duration::from_millis(5);
/// Of how long a round took.
const TIMES: u32 = 4;
/// A round may have been kept waiting by others: that is not its own fault.
const LONGEST: Duration = Duration::from_millis(100);

impl Default for Pace {
    fn default() -> Pace {
        let now = Instant::now();
        Pace { begun: now, next: now }
    }
}

impl Pace {
    /// Waits until the next round may begin.
    pub async fn turn(&mut self) {
        sleep_until(self.next).await;
        self.begun = Instant::now();
    }

    /// The round is over.
    pub fn done(&mut self) {
        let now = Instant::now();
        let pause = (now.duration_since(self.begun) * TIMES).clamp(SHORTEST, LONGEST);
        self.next = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    #[tokio::test(start_paused = true)]
    async fn the_first_round_is_at_once_and_others_wait_by_what_they_cost() {
        let began = Instant::now();
        let mut pace = Pace::default();
        pace.turn().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        advance(Duration::from_millis(20)).await;
        pace.done();
        pace.turn().await;
        assert_eq!(began.elapsed(), Duration::from_millis(100));
        advance(Duration::from_secs(9)).await;
        pace.done();
        sleep(Duration::from_secs(1)).await;
        let rested = Instant::now();
        pace.turn().await;
        assert_eq!(rested.elapsed(), Duration::ZERO);
    }
}
