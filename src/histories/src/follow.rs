//! Did a watcher see exactly the log: no gap, no duplicate, nothing reordered or made up, progress never ahead?

use crate::{Change, Scope, Seen, Verdict, Watched, violation};

/// Checks a whole watch.
///
/// # Errors
/// The first thing it saw that the log does not say.
pub fn check(log: &[Change], watched: &Watched) -> Verdict {
    let mut follower = Follower::new(watched.scope.clone(), watched.after);
    watched.seen.iter().try_for_each(|(_, seen)| follower.see(log, seen))
}

/// Holds what a watcher sees against a log, one thing after the other. The log may grow in between, ahead of the
/// watcher, and may forget its beginning, behind it.
#[derive(Clone, Debug)]
pub struct Follower {
    scope: Scope,
    /// Everything up to here has been seen.
    reached: u64,
}

impl Follower {
    pub fn new(scope: Scope, after: u64) -> Follower {
        Follower { scope, reached: after }
    }

    /// Everything up to here has been seen.
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// Takes in what the watcher saw next.
    ///
    /// # Errors
    /// Where it is not what the log has next.
    pub fn see(&mut self, log: &[Change], seen: &Seen) -> Verdict {
        let from = log.partition_point(|change| change.revision <= self.reached);
        let expected = log[from..].iter().find(|change| self.scope.has(&change.key));
        match seen {
            Seen::Change(change) if change.revision <= self.reached => violation(format!(
                "{:?} saw {change:?} again, or too late: it had everything up to {}",
                self.scope, self.reached
            )),
            Seen::Change(change) if Some(change) == expected => {
                self.reached = change.revision;
                Ok(())
            }
            Seen::Change(change) => violation(format!("{:?} saw {change:?} instead of {expected:?}", self.scope)),
            Seen::Progress(revision) if *revision < self.reached => violation(format!(
                "{:?} went back from {} to {revision}",
                self.scope, self.reached
            )),
            Seen::Progress(revision) => {
                if let Some(missed) = expected.filter(|expected| expected.revision <= *revision) {
                    return violation(format!("{:?} was told {revision} without {missed:?}", self.scope));
                }
                self.reached = *revision;
                Ok(())
            }
        }
    }
}
