//! Durations and timestamps from and to text.

use super::Timestamp;
use fairlead_api::time::GoDuration;

/// A Go duration; a plain `0` too.
pub fn parse_duration(text: &str) -> Option<i64> {
    GoDuration::parse(text).ok().map(|d| d.0)
}

/// A duration as CEL prints it: seconds, without zeros at the end.
pub fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) = (
        nanos.unsigned_abs() / 1_000_000_000,
        nanos.unsigned_abs() % 1_000_000_000,
    );
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// RFC 3339, as Go's `time.Parse` reads it.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let instant = fairlead_api::Timestamp::parse(text)?;
    let (seconds, nanos) = (instant.0.div_euclid(1_000_000_000), instant.0.rem_euclid(1_000_000_000));
    Some(Timestamp {
        seconds: i64::try_from(seconds).ok()?,
        nanos: u32::try_from(nanos).ok()?,
    })
}

/// RFC 3339 in UTC, with as many digits as it takes.
pub fn timestamp_text(t: Timestamp) -> String {
    let civil = Civil::of(t.seconds);
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        civil.year, civil.month, civil.day, civil.hour, civil.minute, civil.second
    );
    if t.nanos > 0 {
        let fraction = format!("{:09}", t.nanos);
        text.push('.');
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// A moment by calendar and clock.
#[derive(Clone, Copy, Debug)]
pub struct Civil {
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    /// From 0, a Sunday.
    pub weekday: i64,
    /// From 0.
    pub day_of_year: i64,
}

impl Civil {
    /// From seconds since 1970, in whatever zone they are counted.
    pub fn of(seconds: i64) -> Civil {
        let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 0000-03-01, in eras of 400 years.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * march_day + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let day_of_year = if month > 2 {
            march_day + 59 + i64::from(leap)
        } else {
            march_day - 306
        };
        Civil {
            year,
            month,
            day: march_day - (153 * march_month + 2) / 5 + 1,
            hour: clock / 3_600,
            minute: clock / 60 % 60,
            second: clock % 60,
            weekday: (days + 4).rem_euclid(7),
            day_of_year,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_agree() {
        for (text, weekday, day_of_year) in [
            ("2020-01-02T03:04:05Z", 4, 1),
            ("2020-12-31T00:00:00Z", 4, 365),
            ("1969-12-31T23:59:59.5Z", 3, 364),
        ] {
            let t = parse_timestamp(text).unwrap();
            assert_eq!(timestamp_text(t), text);
            let civil = Civil::of(t.seconds);
            assert_eq!((civil.weekday, civil.day_of_year), (weekday, day_of_year), "{text}");
        }
        assert_eq!(duration_text(parse_duration("1h1.5s").unwrap()), "3601.5s");
        assert_eq!(duration_text(-500_000_000), "-0.5s");
    }
}
