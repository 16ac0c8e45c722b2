//! Instants as the API writes them, and the handle everything reads the clock through.

mod duration;
pub mod rfc3339;

pub use duration::{DurationError, GoDuration, age, human_duration};

use time::OffsetDateTime;

/// A point in time: nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i128);

/// Where code gets the time from. Real in the binary, paused in tests.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// A clock that stands still.
#[derive(Clone, Copy, Debug)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

impl Timestamp {
    pub fn from_unix_seconds(seconds: i64) -> Timestamp {
        Timestamp(i128::from(seconds) * 1_000_000_000)
    }

    pub fn unix_seconds(self) -> i64 {
        i64::try_from(self.0.div_euclid(1_000_000_000)).unwrap_or(i64::MAX)
    }

    /// Reads RFC 3339 with any offset; `None` for anything else.
    pub fn parse(text: &str) -> Option<Timestamp> {
        rfc3339::parse_seconds(text).ok()
    }

    /// `metav1.Time`: `2006-01-02T15:04:05Z`.
    pub fn rfc3339(self) -> String {
        self.format(None)
    }

    /// `metav1.MicroTime`: `2006-01-02T15:04:05.000000Z`.
    pub fn rfc3339_micro(self) -> String {
        self.format(Some(6))
    }

    /// Nanoseconds from `earlier` to this, saturating where Go's durations end (292 years).
    pub fn since(self, earlier: Timestamp) -> GoDuration {
        GoDuration((self.0 - earlier.0).clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    fn format(self, digits: Option<u32>) -> String {
        let Ok(t) = OffsetDateTime::from_unix_timestamp_nanos(self.0) else {
            return "0001-01-01T00:00:00Z".into();
        };
        let (date, clock) = (t.date(), t.time());
        let fraction = digits.map_or(String::new(), |_| format!(".{:06}", clock.microsecond()));
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rewritten_in_utc() {
        let t = Timestamp::parse("2026-11-24T06:00:00.1234567+02:00").unwrap();
        assert_eq!(t.rfc3339(), "2026-11-24T04:00:00Z");
        assert_eq!(t.rfc3339_micro(), "2026-11-24T04:00:00.123456Z");
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
